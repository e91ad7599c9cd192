"""What the kernel refuses a fold at level strict, and what one fold cannot take from the others."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

from schemas.states import FoldState
from tests.integration.test_execution_workflows import RISES, SPECIFIC
from tests.support.folds import Dataset, Folds, make_custom
from tests.support.strict import require_strict
from tests.support.submissions import DUMMY


@pytest.fixture(autouse=True)
def strict() -> None:
    require_strict()


def tries(attempt: str) -> str:
    """A classifier that prints what its attempt ends with."""
    return textwrap.dedent("""
        import ctypes, errno, mmap, os, platform, socket, time
        import numpy as np
        from sklearn.dummy import DummyClassifier

        X86 = platform.machine() == "x86_64"
        libc = ctypes.CDLL(None, use_errno=True)

        def call(number, *arguments):
            done = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
            if done < 0:
                raise OSError(ctypes.get_errno(), "refused")
            return done

        class Classifier:
            def fit(self, X, y):
                self.dummy = DummyClassifier().fit(X, y)
                try:
                    ATTEMPT
                except OSError as error:
                    print(errno.errorcode[error.errno], flush=True)
                else:
                    print("done", flush=True)

            def predict_proba(self, X):
                return self.dummy.predict_proba(X)
        """).replace("ATTEMPT", attempt)


@pytest.mark.parametrize(
    ("attempt", "ends"),
    [
        # A child of the slot would be in nobody's care
        ("call(56 if X86 else 220, 0x8000 | 17, 0, 0, 0, 0) or os._exit(0)", "EPERM"),
        # Pid 1 is the next fold's too; the upper half of an int is not looked at by the kernel
        ("call(302 if X86 else 261, 1, 0, 0, 0)", "EPERM"),
        ("call(302 if X86 else 261, (1 << 32) + 1, 0, 0, 0)", "EPERM"),
        ("os.sched_setaffinity(1, {0})", "EPERM"),
        # Kernel modules are loaded for families and protocols that are not there
        ("socket.socketpair(30, socket.SOCK_STREAM)", "EAFNOSUPPORT"),
        ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)", "EPROTONOSUPPORT"),
        ("socket.socketpair()", "done"),
        # Memory that no process and no file has
        ("mmap.mmap(-1, 1 << 20)", "EPERM"),
        ("mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)", "done"),
        ("os.memfd_create('hidden')", "ENOSYS"),
        ("open('/proc/self/clear_refs', 'w')", "EROFS"),
    ],
)
def test_kernel_refuses(folds: Folds, iris: Dataset, attempt: str, ends: str) -> None:
    outcome = folds.run(iris, tries(attempt))

    assert (outcome.state, outcome.output.stdout) == (FoldState.TESTED, f"{ends}\n"), outcome


def test_descriptors_that_a_fold_leaves_unread_stop_no_other_fold(
    folds: Folds, iris: Dataset
) -> None:
    # Given a fold that sends itself as many descriptors as it can, and reads none
    sends = """one, other = socket.socketpair()
            try:
                while True:
                    socket.send_fds(one, [b"x"], [0] * 250)
            except OSError:
                print("full", flush=True)
            time.sleep(3)"""
    hoarder = folds.begin(iris, tries(sends), slot=0, wall=20)

    # When others run beside it, then they are not disturbed
    count = 0
    while not hoarder.future.done():
        assert folds.run(iris, DUMMY, slot=1).state is FoldState.TESTED
        count += 1
    assert "full" in hoarder.outcome().output.stdout
    assert count > 5


def test_submission_cannot_stand_in_for_what_the_organiser_imports(
    folds: Folds, tmp_path: Path
) -> None:
    # Given an organiser who imports a module that nobody has imported yet
    code = SPECIFIC.replace("import numpy as np", "import numpy as np\n    import colorsys", 1)
    dataset = make_custom(tmp_path / "series", code, elements="classifier")

    # When a submission has a file of that name
    stands_in = "import os; print('mine', len(os.listdir('/proc/self/fd')))"
    outcome = folds.run(dataset, {"classifier.py": RISES, "colorsys.py": stands_in})

    # Then the organiser gets his
    assert (outcome.state, outcome.output.stdout) == (FoldState.TESTED, "")
    assert outcome.full_train_predictions is not None
    assert np.all(outcome.full_train_predictions.sum(axis=1) == 1)
