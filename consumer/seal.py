"""What happens between fork and the first line of user code: the one place for isolation."""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import resource
import signal
import sys
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from consumer.linux import die_with_parent

CONNECTION = 3
"""The descriptor of a fold's socket; 0, 1 and 2 are the standard streams, and there is no other."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
KEPT_VARIABLES = ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""All that a fold learns of the worker's environment: no address, no password."""

_OPEN_FILES = 1024
_NICENESS = 5
_OUR_PACKAGES = frozenset({"consumer", "schemas"})


_our_modules: list[str] = []


def remember_our_modules() -> None:
    """Called once in the zygote: to search sys.modules in each fold would touch all their names.

    A page of an inherited object's reference count is copied when it is touched: 800 pages, 3 ms.
    """
    ours = (name for name in sys.modules if name.partition(".")[0] in _OUR_PACKAGES)
    _our_modules[:] = sorted(ours)


@dataclass(frozen=True)
class FoldStreams:
    """Open descriptors that a fold gets from its slot."""

    connection: int
    stdout: int
    stderr: int


def leave_the_slot(streams: FoldStreams) -> None:
    """The first steps after the fork, before the job is read.

    The fold gets a session of its own and keeps no descriptor but its own; it dies with its slot.
    """
    os.setsid()
    die_with_parent(signal.SIGKILL)
    # Copies above the range of the final numbers, so that none overwrites another.
    sources = [os.dup2(fd, 64 + fd) for fd in (streams.stdout, streams.stderr, streams.connection)]
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in zip((null, *sources), (0, 1, 2, CONNECTION), strict=True):
        os.dup2(source, target, inheritable=target != CONNECTION)
    os.closerange(CONNECTION + 1, 1 << 16)
    # The worker and the slot come first, for they must be able to stop it.
    os.nice(_NICENESS)
    # When the machine runs out of memory, a fold goes first, never the worker.
    Path("/proc/self/oom_score_adj").write_text("1000")
    os.umask(0o077)


@dataclass(frozen=True)
class Surroundings:
    """What user code finds around it."""

    folder: Path
    """Its own, not made yet."""

    threads: int
    seed: int
    cpu_seconds: float | None = None
    file_bytes: int | None = None
    """Largest file that it may write."""


def settle(around: Surroundings, controller: ThreadpoolController | None = None) -> None:
    """The last steps, once the job is known.

    Limits, environment, temporary files, threads and random numbers are set; our own modules
    are out of sight.
    """
    temporary = around.folder / "tmp"
    temporary.mkdir(parents=True)
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    if around.cpu_seconds is not None:
        # A second line: the slot measures the CPU time of the whole tree.
        _set_limit(resource.RLIMIT_CPU, int(around.cpu_seconds) + 2)
    if around.file_bytes is not None:
        _set_limit(resource.RLIMIT_FSIZE, around.file_bytes)
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, HOME=str(around.folder), TMPDIR=str(temporary))
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(around.threads)))
    os.environ["LOKY_MAX_CPU_COUNT"] = str(around.threads)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    tempfile.tempdir = str(temporary)
    if controller is not None:
        controller.limit(limits=around.threads)
    random.seed(around.seed)
    np.random.seed(around.seed)
    for name in _our_modules:
        del sys.modules[name]
    # Processes that user code spawns import the main module again: let it be an empty one.
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    gc.enable()


def _set_limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))
