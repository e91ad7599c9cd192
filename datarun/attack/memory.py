"""Attacks by memory, in every place where it can be had."""

from __future__ import annotations

from functools import partial

from datarun.attack.attack import MIB, ROOMY, Attack, Family, fails, regressor
from schemas.states import FailureKind

_attack = partial(Attack, Family.MEMORY)

_LITTLE = ROOMY.model_copy(update={"memory_bytes": 256 * MIB, "processes": 100})
_OVER = r"memory: \d+\.\d of 256\.0 MiB in train"
_MEMORY = fails(FailureKind.MEMORY, sentence=_OVER)

ATTACKS = (
    _attack(
        "gradual",
        "Takes a megabyte at a time.",
        regressor("""
            taken = []
            while True:
                taken.append(np.ones(1 << 17))
                time.sleep(0.0002)
        """),
        _MEMORY,
        _LITTLE,
        harmful=True,
    ),
    _attack(
        "huge-array",
        "Fills one array of three gigabytes.",
        regressor("np.ones(3 << 27); time.sleep(600)"),
        _MEMORY,
        _LITTLE,
        harmful=True,
    ),
    _attack(
        "impossible-array",
        "Asks for an array that no machine can hold.",
        regressor("np.ones(1 << 50)"),
        fails(FailureKind.EXCEPTION, sentence=r".*MemoryError: Unable to allocate .* in train"),
        _LITTLE,
    ),
    _attack(
        "deep-recursion",
        "Recurses without end, in Python.",
        regressor("""
            sys.setrecursionlimit(1 << 30)
            def deeper(level):
                return deeper(level + 1)
            deeper(0)
        """),
        fails(
            FailureKind.MEMORY, FailureKind.CRASHED, sentence=rf"{_OVER}|crashed: SIGSEGV in train"
        ),
        _LITTLE,
        harmful=True,
    ),
    _attack(
        "deep-recursion-in-c",
        "Recurses until the C stack is full.",
        regressor("""
            class Deep:
                def __getattr__(self, name):
                    return getattr(self, name + ".")
            sys.setrecursionlimit(1 << 30)
            getattr(Deep(), "deep")
        """),
        fails(
            FailureKind.MEMORY, FailureKind.CRASHED, sentence=rf"{_OVER}|crashed: SIGSEGV in train"
        ),
        _LITTLE,
        harmful=True,
    ),
    _attack(
        "shared-mapping",
        "Fills a mapping of a file, which its children share, and removes the file.",
        regressor("""
            size = 128 << 20
            while True:
                with open("/tmp/shared", "w+b") as file:
                    file.truncate(size)
                    shared = mmap.mmap(file.fileno(), size)
                os.unlink("/tmp/shared")
                if os.fork() == 0:
                    time.sleep(600)
                for start in range(0, size, 4096):
                    shared[start] = 1
        """),
        fails(
            FailureKind.MEMORY,
            FailureKind.CRASHED,
            sentence=rf"{_OVER}|crashed: SIGBUS in train; .*",
        ),
        _LITTLE,
        harmful=True,
    ),
    _attack(
        "nameless-mapping",
        "Fills a mapping without a file, which its children share, and unmaps it.",
        regressor("shared = mmap.mmap(-1, 1 << 30); time.sleep(600)"),
        fails(
            FailureKind.EXCEPTION,
            sentence=r"PermissionError: \[Errno 1\] Operation not permitted in train",
        ),
        _LITTLE,
        harmful=True,
    ),
    _attack(
        "dev-shm",
        "Fills /dev/shm.",
        regressor("""
            with open("/dev/shm/datarun-attack", "wb", buffering=0) as file:
                while file.write(bytes(1 << 20)):
                    pass
        """),
        fails(
            FailureKind.MEMORY,
            FailureKind.EXCEPTION,
            sentence=rf"{_OVER}|OSError: \[Errno 28\] No space left on device in train",
        ),
        _LITTLE,
        harmful=True,
    ),
    _attack(
        "only-in-a-child",
        "Has a child take the memory, while it waits.",
        regressor("""
            if os.fork() == 0:
                taken = np.ones(3 << 27)
                time.sleep(600)
            os.wait()
            time.sleep(600)
        """),
        _MEMORY,
        _LITTLE,
        harmful=True,
    ),
    _attack(
        "many-children",
        "Has thirty children take a little each, in sessions of their own.",
        regressor("""
            for _ in range(30):
                if os.fork() == 0:
                    os.setsid()
                    taken = np.ones(5 << 18)
                    time.sleep(600)
            time.sleep(600)
        """),
        _MEMORY,
        _LITTLE,
    ),
    _attack(
        "nameless-files",
        "Puts memory into files without a name, and into System V segments.",
        regressor("""
            libc = ctypes.CDLL(None, use_errno=True)
            for what, taken in (
                ("memfd_create", lambda: os.memfd_create("datarun-attack")),
                ("shmget", lambda: libc.shmget(0xDA7A, 1 << 20, 0o1666)),
            ):
                try:
                    got = taken()
                except OSError as error:
                    got, errno = -1, error.errno
                else:
                    errno = ctypes.get_errno()
                print(f"STOLEN {what}" if got >= 0 else f"refused {what}: {os.strerror(errno)}")
            print("tried")
        """),
        says="tried",
    ),
)
