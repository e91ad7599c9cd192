"""Attacks by time: never ending, and using more of the machine than allowed."""

from __future__ import annotations

from functools import partial

from datarun.attack.attack import BRIEF, ROOMY, Attack, Family, fails, regressor
from schemas.states import FailureKind, Phase

_attack = partial(Attack, Family.TIME)

_WALL = fails(FailureKind.TIMEOUT, sentence=r"timeout: 1\.0 s wall in train")
_CPU = fails(FailureKind.TIMEOUT, sentence=r"timeout: 0\.5 s CPU in train")
_LITTLE_CPU = ROOMY.model_copy(update={"cpu_seconds": 0.5})

ATTACKS = (
    _attack("busy-loop", "Computes for ever.", regressor("while True: pass"), _CPU, _LITTLE_CPU),
    _attack("sleep", "Sleeps.", regressor("time.sleep(600)"), _WALL, BRIEF),
    _attack(
        "c-call-holds-the-gil",
        "Sleeps in C without letting go of the interpreter.",
        regressor("ctypes.PyDLL(None).sleep(600)"),
        _WALL,
        BRIEF,
    ),
    _attack(
        "regular-expression",
        "Matches an expression that takes longer than the universe will last.",
        regressor("import re; re.match('(a+)+$', 'a' * 80 + 'b')"),
        _CPU,
        _LITTLE_CPU,
    ),
    _attack(
        "many-cores",
        "Computes in eight processes at once, and waits for none.",
        regressor("""
            for _ in range(8):
                if os.fork() == 0:
                    while True:
                        pass
            time.sleep(600)
        """),
        _CPU,
        _LITTLE_CPU,
    ),
    _attack(
        "ignores-the-cpu-signal",
        "Ignores SIGXCPU, and computes on.",
        regressor("""
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)
            while True:
                pass
        """),
        _CPU,
        _LITTLE_CPU,
    ),
    _attack(
        "endless-import",
        "Its import never ends.",
        regressor(before="time.sleep(600)"),
        _WALL,
        BRIEF,
    ),
    _attack(
        "endless-del",
        "Its predictions' `__del__` never ends.",
        regressor(
            predict="return Predictions(len(X))",
            before="""
                class Predictions:
                    def __init__(self, count):
                        self.count = count
                    def __array__(self, dtype=None, copy=None):
                        return np.zeros(self.count)
                    def __del__(self):
                        time.sleep(600)
            """,
        ),
        fails(
            FailureKind.TIMEOUT,
            sentence=r"timeout: 1\.0 s wall in validation",
            phase=Phase.VALIDATION,
        ),
        BRIEF,
    ),
    _attack(
        "endless-exit",
        "What it has registered for its end never ends.",
        regressor("atexit.register(time.sleep, 600); print('registered')"),
        says="registered",
    ),
    _attack(
        "catches-everything",
        "Catches every exception, and goes on.",
        regressor("""
            def interrupt(*_):
                raise KeyboardInterrupt
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                try:
                    signal.signal(number, interrupt)
                except (OSError, ValueError):
                    pass
            while True:
                try:
                    time.sleep(600)
                except BaseException:
                    pass
        """),
        _WALL,
        BRIEF,
    ),
    _attack(
        "stops-itself",
        "Stops its own process.",
        regressor("os.kill(os.getpid(), signal.SIGSTOP); time.sleep(600)"),
        _WALL,
        BRIEF,
    ),
)
