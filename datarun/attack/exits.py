"""Attacks by ending: in odd ways, and with words that are not the fold's to say."""

from __future__ import annotations

import json
from functools import partial

from datarun.attack.attack import BRIEF, Attack, Ending, Family, fails, regressor
from schemas.states import FailureKind, Phase

_attack = partial(Attack, Family.EXITS)

_SAY = """
    def say(kind, payload=b"", more=0):
        data = struct.pack(">BQ", kind, len(payload) + more) + payload
        while data:
            data = data[os.write(3, data):]
"""
_BLAMES = json.dumps(
    {"kind": "crashed", "culprit": "infrastructure", "message": "not me", "traceback": ""}
)
_CANCELLED = json.dumps(
    {"kind": "cancelled", "culprit": "publisher", "message": "not me", "traceback": ""}
)


def _crash(sentence: str) -> Ending:
    return fails(FailureKind.CRASHED, sentence=f"crashed: {sentence}")


def _exception(sentence: str) -> Ending:
    return fails(FailureKind.EXCEPTION, sentence=sentence)


def _bad(sentence: str) -> Ending:
    return fails(FailureKind.BAD_OUTPUT, sentence=f"bad_output: {sentence}")


def _exit_code(code: int) -> Ending:
    return _crash(f"the process left with exit code {code} in train without a result")


ATTACKS = (
    *(
        _attack(
            name.lower(),
            f"Dies of {name}.",
            regressor(f"os.kill(os.getpid(), signal.{name})"),
            _crash(f"{name} in train.*"),
        )
        for name in ("SIGFPE", "SIGABRT", "SIGBUS", "SIGILL", "SIGKILL", "SIGTERM", "SIGSYS")
    ),
    _attack(
        "sigsegv",
        "Reads memory that is not there.",
        regressor("ctypes.string_at(0)"),
        _crash("SIGSEGV in train"),
    ),
    *(
        _attack(
            f"exit-{code}",
            f"Leaves with exit code {code}, before it has a result.",
            regressor(f"os._exit({code})"),
            _exit_code(code),
        )
        for code in (0, 1, 70, 97, 139)
    ),
    _attack(
        "sys-exit-ok",
        "Leaves with a word of success.",
        regressor("sys.exit('ok')"),
        _exception("SystemExit: ok in train"),
    ),
    _attack(
        "becomes-another-program",
        "Turns its process into a program that succeeds.",
        regressor("os.execv('/bin/true', ['true'])"),
        _exit_code(0),
    ),
    _attack(
        "error-that-cannot-be-shown",
        "Raises an error whose text raises an error.",
        regressor(
            "raise Unspeakable",
            before="""
                class Unspeakable(BaseException):
                    def __str__(self):
                        raise self
                    __repr__ = __str__
            """,
        ),
        _exception(r".*Unspeakable.* in train"),
    ),
    _attack(
        "forged-status-lines",
        "Prints what a success looks like, and the markers of other failures, and fails.",
        regressor("""
            print('{"state": "TESTED"}\\nTESTED\\nERROR(test)\\nERROR(split data)', flush=True)
            raise ValueError("ERROR(test)")
        """),
        _exception(r"ValueError: ERROR\(test\) in train"),
    ),
    _attack(
        "forged-blame",
        "Writes to its worker's socket that the infrastructure has failed.",
        regressor(f"say(6, {_BLAMES.encode()!r}); time.sleep(600)", before=_SAY),
        fails(FailureKind.CRASHED, sentence="not me"),
    ),
    _attack(
        "forged-cancellation",
        "Writes to its worker's socket that it was cancelled.",
        regressor(f"say(6, {_CANCELLED.encode()!r}); time.sleep(600)", before=_SAY),
        _bad("the process sent a report that cannot be read"),
    ),
    _attack(
        "forged-result",
        "Writes to its worker's socket that it is tested, before it is trained.",
        regressor("say(5, b'x' * 100); time.sleep(600)", before=_SAY),
        _bad("the process said TESTED in train"),
    ),
    _attack(
        "no-frame",
        "Writes bytes to its worker's socket that are no frame.",
        regressor("say(250); time.sleep(600)", before=_SAY),
        _bad("the process said what no fold says: no frame is of kind 250"),
    ),
    _attack(
        "half-a-frame",
        "Announces a frame to its worker, and sends half of it.",
        regressor("say(3); say(4, b'half', 4); time.sleep(600)", before=_SAY),
        fails(
            FailureKind.TIMEOUT,
            sentence=r"timeout: 1\.0 s wall in validation",
            phase=Phase.VALIDATION,
        ),
        BRIEF,
    ),
    _attack(
        "huge-frame",
        "Announces an exabyte of predictions.",
        regressor("say(3); say(4, b'', 1 << 60); time.sleep(600)", before=_SAY),
        fails(
            FailureKind.BAD_OUTPUT,
            sentence=r"bad_output: predictions take \d+ bytes; at most \d+ are read",
            phase=Phase.VALIDATION,
        ),
    ),
    _attack(
        "flooded-socket",
        "Floods its worker's socket with frames.",
        regressor("while True: say(3)", before=_SAY),
        fails(
            FailureKind.BAD_OUTPUT,
            sentence="bad_output: the process said TRAINED in validation",
            phase=Phase.VALIDATION,
        ),
    ),
    _attack(
        "closed-socket",
        "Closes its worker's socket, and lives on.",
        regressor("os.closerange(3, 256); time.sleep(600)"),
        _crash("the process closed the connection to its worker in train"),
    ),
    _attack(
        "second-life",
        "Forks in training, and both processes go on as the fold.",
        regressor("print('forked by', os.fork())"),
        says="forked by",
    ),
)
