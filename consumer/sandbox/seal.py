"""What happens between fork and the first line of user code: the one place for isolation."""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import types
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from consumer import packets
from consumer.sandbox import namespaces
from consumer.sandbox.linux import name_process, signal_when_parent_dies
from consumer.sandbox.namespaces import Walls

CONNECTION = 3
"""The descriptor of a fold's socket; 0, 1 and 2 are the standard streams, and there is no other."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ZYGOTE_THREADS = 1
"""A process that has used several OpenMP threads cannot be forked: its children hang."""

_CPU_COUNT = "LOKY_MAX_CPU_COUNT"
"""joblib's own."""

KEPT_VARIABLES = ("PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""All that a fold learns of the worker's environment: no address, no password."""

_OPEN_FILES = 1024
_NICENESS = 10
_OUR_PACKAGES = frozenset({"consumer", "schemas"})


def set_the_scene() -> None:
    """What is the same for all folds: done once, in the process that they are forked from.

    Each page of inherited memory that a fold writes to is copied then, 2 to 4 microseconds a page,
    and taking one module out of sight touches two. Everything of ours must be imported before.
    """
    os.umask(0o077)
    # 1, not 0: only then does the kernel start no program that collects core dumps (core(5)).
    _set_limit(resource.RLIMIT_CORE, 1)
    kept = {
        name: os.environ[name]
        for name in (*KEPT_VARIABLES, *THREAD_VARIABLES)
        if name in os.environ
    }
    os.environ.clear()
    os.environ.update(kept, PYTHONDONTWRITEBYTECODE="1")
    # Whoever started this process gave all of them the same number.
    os.environ[_CPU_COUNT] = os.environ[THREAD_VARIABLES[0]]
    for name in [name for name in sys.modules if name.partition(".")[0] in _OUR_PACKAGES]:
        del sys.modules[name]
    # Processes that user code spawns import the main module again: let it be an empty one.
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()


def leave_the_slot(orders: int, *, strict: bool) -> None:
    """The first steps after the fork, which may come long before there is a job.

    The fold gets a session of its own, dies with its slot, and keeps no descriptor but `orders`.
    At level `strict` it enters its own namespaces and tells the slot where its files will be;
    OSError when the host does not let it.
    """
    os.setsid()
    signal_when_parent_dies(signal.SIGKILL)
    name_process("fold")
    os.dup2(orders, CONNECTION, inheritable=False)
    os.closerange(CONNECTION + 1, 1 << 16)
    # The worker and the slot come first, for they must be able to stop it.
    os.nice(_NICENESS)
    # When the machine runs out of memory, a fold goes first, never the worker.
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(descriptor, b"1000")
    os.close(descriptor)
    if strict:
        box = namespaces.enter()
        with socket.socket(fileno=os.dup(CONNECTION)) as slot:
            try:
                packets.send(slot, {}, (box,))
            except BrokenPipeError:  # the slot is gone, and this process goes with it
                os._exit(0)
        os.close(box)


def wait_for_a_job() -> socket.socket:
    """The fold's socket, once the slot passes it on, with the pipes that become its output."""
    with socket.socket(fileno=CONNECTION) as orders:
        try:
            _, descriptors = packets.receive(orders)
        except EOFError:
            os._exit(0)
        connection, stdout, stderr = descriptors
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        os.close(stderr)
    os.dup2(connection, CONNECTION, inheritable=False)
    os.close(connection)
    return socket.socket(fileno=CONNECTION)


@dataclass(frozen=True)
class Surroundings:
    """What user code finds around it."""

    folder: str
    """Its own, not made yet."""

    threads: int
    seed: int
    cpu_seconds: float | None = None
    file_bytes: int | None = None
    """Largest file that it may write."""

    walls: Walls | None = None
    """At level `strict`."""


def settle(around: Surroundings, controller: ThreadpoolController | None = None) -> None:
    """The last steps, once the job is known: limits, folders, threads and random numbers."""
    temporary = f"{around.folder}/tmp"
    os.makedirs(temporary)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Fewer than its slot may have: see `use_all_descriptors`.
    _set_limit(resource.RLIMIT_NOFILE, min(_OPEN_FILES, most // 2))
    if around.cpu_seconds is not None:
        # A second line: the slot measures the CPU time of the whole tree.
        _set_limit(resource.RLIMIT_CPU, int(around.cpu_seconds) + 2)
    if around.file_bytes is not None:
        _set_limit(resource.RLIMIT_FSIZE, around.file_bytes)
    if around.walls is not None:
        # Before there is a second thread: a process of several cannot enter a user namespace.
        around.walls.close()
    threads = str(around.threads)
    if os.environ.get(_CPU_COUNT) != threads:
        os.environ.update(dict.fromkeys((*THREAD_VARIABLES, _CPU_COUNT), threads))
    os.environ["HOME"] = around.folder
    os.environ["TMPDIR"] = temporary
    tempfile.tempdir = temporary
    if controller is not None and around.threads != ZYGOTE_THREADS:
        controller.limit(limits=around.threads)
    random.seed(around.seed)
    np.random.seed(around.seed)
    gc.enable()


def _set_limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))
