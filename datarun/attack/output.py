"""Attacks by output: floods of the standard streams, and full disks."""

from __future__ import annotations

from functools import partial

from datarun.attack.attack import BRIEF, MIB, ROOMY, Attack, Family, fails, regressor
from schemas.states import FailureKind

_attack = partial(Attack, Family.OUTPUT)

_WALL = fails(FailureKind.TIMEOUT, sentence=r"timeout: 1\.0 s wall in train")
_LITTLE = ROOMY.model_copy(update={"memory_bytes": 128 * MIB})
_FULL = fails(
    FailureKind.MEMORY,
    FailureKind.EXCEPTION,
    sentence=r"memory: \d+\.\d of 128\.0 MiB in train"
    r"|OSError: \[Errno 28\] No space left on device in train",
)


def _fills(folder: str) -> str:
    """Files of a megabyte: the largest size of a file is another limit."""
    return f"""
        for number in range(1 << 20):
            with open(f"{folder}/datarun-attack-{{number}}", "wb", buffering=0) as file:
                if file.write(bytes(1 << 20)) < 1 << 20:
                    raise OSError(28, "No space left on device")
    """


ATTACKS = (
    _attack(
        "stdout-flood",
        "Prints for ever.",
        regressor("while True: print('flood ' * 1000)"),
        _WALL,
        BRIEF,
    ),
    _attack(
        "stderr-flood",
        "Writes for ever to its standard error.",
        regressor("while True: os.write(2, b'flood ' * 1000)"),
        _WALL,
        BRIEF,
    ),
    _attack(
        "ten-gigabyte-line",
        "Prints ten gigabytes without a newline.",
        regressor("for _ in range(10_000): os.write(1, b'x' * 1_000_000)"),
        _WALL,
        BRIEF,
    ),
    _attack(
        "no-text",
        "Prints NUL, bytes that are no UTF-8, control sequences of terminals, lone surrogates.",
        regressor(r"""
            os.write(1, bytes(range(256)) * 10 + b"\x00\xff\xfe\xed\xa0\x80\x1b[2J\x1b]0;title\x07")
            os.write(2, bytes(range(255, -1, -1)) * 10)
            print("printed")
        """),
        says="printed",
    ),
    _attack(
        "fills-its-folder",
        "Fills its working folder.",
        regressor(_fills(".")),
        _FULL,
        _LITTLE,
        harmful=True,
    ),
    _attack("fills-tmp", "Fills /tmp.", regressor(_fills("/tmp")), _FULL, _LITTLE, harmful=True),
    _attack(
        "million-inodes",
        "Makes a million empty files.",
        regressor("""
            os.mkdir("/tmp/datarun-attack")
            for number in range(1_000_000):
                os.close(os.open(f"/tmp/datarun-attack/{number}", os.O_CREAT))
        """),
        fails(
            FailureKind.EXCEPTION,
            sentence=r"OSError: \[Errno 28\] No space left on device: .* in train",
        ),
        harmful=True,
    ),
    _attack(
        "deep-folders",
        "Makes folders in folders, ten thousand deep.",
        regressor("""
            for _ in range(10_000):
                os.mkdir("deeper")
                os.chdir("deeper")
            print("made")
        """),
        says="made",
    ),
    _attack(
        "sparse-terabyte",
        "Makes a file of a terabyte with nothing in it.",
        regressor("""
            with open("datarun-attack-sparse", "wb") as file:
                file.truncate(1 << 40)
            print("STOLEN a terabyte")
        """),
        fails(FailureKind.EXCEPTION, sentence=r"OSError: \[Errno 27\] File too large in train"),
    ),
    _attack(
        "core-dump",
        "Asks for a core dump, and crashes.",
        regressor("""
            import resource
            try:
                resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
                print("STOLEN the limit of core dumps")
            except ValueError:
                pass
            os.abort()
        """),
        fails(FailureKind.CRASHED, sentence="crashed: SIGABRT in train"),
    ),
)
