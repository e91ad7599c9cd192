"""Attacks by processes: bombs, daemons, and signals to whoever watches."""

from __future__ import annotations

from functools import partial

from datarun.attack.attack import BRIEF, ROOMY, Attack, Family, fails, regressor
from schemas.states import FailureKind

_attack = partial(Attack, Family.PROCESSES)

_CROWDED = ROOMY.model_copy(update={"processes": 60})
_TOO_MANY = fails(
    FailureKind.CRASHED, sentence=r"crashed: \d+ processes and threads, 60 allowed, in train"
)
_EXIT_0 = fails(
    FailureKind.CRASHED,
    sentence=r"crashed: the process left with exit code 0 in train without a result",
)
_OTHERS = """
def signal_others(number):
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                os.kill(int(name), number)
            except OSError as error:
                print("refused:", name, error)
    print("signalled")
"""

ATTACKS = (
    _attack(
        "fork-bomb",
        "Forks without end, and so do its children.",
        regressor("""
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
        """),
        _TOO_MANY,
        _CROWDED,
        harmful=True,
    ),
    _attack(
        "daemons",
        "Leaves daemons in sessions of their own, deaf to signals.",
        regressor("""
            for number in range(5):
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                            signal.signal(number, signal.SIG_IGN)
                        os.closerange(0, 256)
                        time.sleep(600)
                    os._exit(0)
                os.wait()
            print("daemons live")
        """),
        says="daemons live",
    ),
    _attack(
        "orphans",
        "Ends at once, with a hundred children alive.",
        regressor("""
            for _ in range(100):
                if os.fork() == 0:
                    time.sleep(600)
            os._exit(0)
        """),
        _EXIT_0,
        ROOMY.model_copy(update={"processes": 200}),
    ),
    _attack(
        "deaf-to-signals",
        "Ignores every signal that can be ignored.",
        regressor("""
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            while True:
                time.sleep(0.1)
        """),
        fails(FailureKind.TIMEOUT, sentence=r"timeout: 1\.0 s wall in train"),
        BRIEF,
    ),
    _attack(
        "kills-everybody-in-sight",
        "Sends SIGKILL to every process of /proc, its parent and pid 1 among them.",
        regressor("signal_others(signal.SIGKILL)", before=_OTHERS),
        says="signalled",
        harmful=True,
    ),
    _attack(
        "stops-everybody-in-sight",
        "Sends SIGSTOP to every process of /proc, so that nobody watches it.",
        regressor("signal_others(signal.SIGSTOP)", before=_OTHERS),
        says="signalled",
        harmful=True,
    ),
    _attack(
        "kill-minus-one",
        "Sends SIGKILL to everything that it may, in one go.",
        regressor("""
            try:
                os.kill(-1, signal.SIGKILL)
            except ProcessLookupError:
                pass
            print("signalled")
        """),
        says="signalled",
        harmful=True,
    ),
    _attack(
        "zombies",
        "Leaves children that have ended, and does not wait for them.",
        regressor("""
            for _ in range(50):
                if os.fork() == 0:
                    os._exit(0)
            time.sleep(0.2)
            print("zombies left")
        """),
        says="zombies left",
    ),
    _attack(
        "thread-bomb",
        "Starts threads without end.",
        regressor("""
            while True:
                try:
                    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
                except RuntimeError:
                    time.sleep(0.01)
        """),
        _TOO_MANY,
        _CROWDED,
    ),
    _attack(
        "grandchild-holds-stdout",
        "Ends, while a grandchild in another session keeps its standard output open.",
        regressor("""
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(600)
                os._exit(0)
            os.wait()
            os._exit(0)
        """),
        _EXIT_0,
    ),
)
