"""Attacks on the next fold: state that is left for it, and its folder taken in advance."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from datarun.attack.attack import Attack, Family, regressor

_attack = partial(Attack, Family.THEFT)

_REPLACE = """
    import shutil
    own = os.environ["HOME"]
    parent = os.path.dirname(own)
    os.chdir("/")
    shutil.rmtree(own)
    try:
        {replace}
    except OSError as error:
        print("refused:", error)
    print("replaced")
"""


def _replacements() -> Iterator[Attack]:
    for name, replace in (
        ("symlink", 'os.symlink("/usr", own)'),
        ("fifo", "os.mkfifo(own)"),
        ("device", "os.mknod(own, 0o20666, os.makedev(1, 5))"),
        ("locked-folder", 'os.makedirs(own + "/deep/er"); os.chmod(own, 0)'),
        ("nothing", "os.rename(parent, parent + '-gone')"),
    ):
        yield _attack(
            f"folder-becomes-{name}",
            f"Replaces its working folder by a {name.replace('-', ' ')}.".replace(
                "a nothing", "nothing"
            ),
            regressor(_REPLACE.format(replace=replace)),
            says="replaced",
            harmful=True,
        )


ATTACKS = (
    _attack(
        "leaves-files",
        "Leaves files where the next fold would find them.",
        regressor("""
            for folder in ("/tmp", "/dev/shm", "/var/tmp", os.path.expanduser("~/..")):
                try:
                    with open(f"{folder}/datarun-attack-left", "w") as file:
                        file.write("left")
                    print("left a file in", folder)
                except OSError as error:
                    print("refused:", error)
            print("left")
        """),
        says="left a file in /tmp",
    ),
    _attack(
        "leaves-modules",
        "Writes into the packages that the next fold imports, and beside their bytecode.",
        regressor("""
            import sklearn
            import pathlib
            for module in (np, sklearn, os):
                folder = pathlib.Path(module.__file__).parent
                for name in ("datarun-attack.py", "__pycache__/datarun-attack.pyc"):
                    path = folder / name
                    try:
                        path.write_text("left")
                        print("STOLEN", path)
                    except OSError as error:
                        print("refused:", error)
            print("left")
        """),
        says="left",
        harmful=True,
    ),
    _attack(
        "leaves-state",
        "Changes modules, the environment, limits, signals and its priority.",
        regressor("""
            import builtins, resource
            sys.modules["datarun_attack"] = sys
            builtins.datarun_attack = True
            os.environ["datarun-attack"] = "left"
            np.random.seed(0)
            np.seterr(all="raise")
            os.umask(0)
            os.nice(5)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))
            resource.setrlimit(resource.RLIMIT_DATA, (1 << 28, 1 << 28))
            sys.path.insert(0, "/tmp")
            print("left")
        """),
        says="left",
    ),
    _attack(
        "leaves-ipc",
        "Leaves System V queues and semaphores, a POSIX queue, and a key in the kernel.",
        regressor("""
            libc = ctypes.CDLL(None, use_errno=True)
            key = 0xDA7A
            for name, arguments in (
                ("msgget", (key, 0o1666)),
                ("semget", (key, 1, 0o1666)),
                ("shmget", (key, 4096, 0o1666)),
                ("mq_open", (b"/datarun-attack", os.O_CREAT | os.O_RDWR, 0o666, None)),
            ):
                result = getattr(libc, name)(*arguments)
                print("left" if result >= 0 else os.strerror(ctypes.get_errno()), "by", name)
            print("left")
        """),
        says="left$",
    ),
    *_replacements(),
)
