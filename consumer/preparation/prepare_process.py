"""A process that prepares one data set, and the one that watches it.

`python -m consumer.preparation.prepare_process FD [FILTER]`: FD is the control socket of a slot
(`slot_process.serve`); FILTER, at level `strict`, a file with the filter for system calls.
"""

from __future__ import annotations

import difflib
import json
import os
import pickle
import socket
import sys
import traceback
from dataclasses import replace
from functools import partial
from typing import NoReturn

from threadpoolctl import ThreadpoolController

from consumer.execution.frames import HEADER, FrameKind, receive_exactly
from consumer.execution.slot_process import serve
from consumer.preparation.split_task import SplitTask, refuse
from consumer.sandbox.namespaces import Walls
from consumer.sandbox.seal import (
    Surroundings,
    leave_the_slot,
    set_the_scene,
    settle,
    wait_for_a_job,
)
from consumer.sandbox.syscall_filter import filter_program
from consumer.workflows.failure import Refusal, describe
from schemas.states import Culprit


def _become_preparer(orders: int, program: bytes | None) -> NoReturn:
    """Never returns: after its last report the process waits to be killed."""
    try:
        leave_the_slot(orders, strict=program is not None)
        connection = wait_for_a_job()
        _, size = HEADER.unpack(receive_exactly(connection, HEADER.size))
        task: SplitTask = pickle.loads(receive_exactly(connection, size))
        kind, answer = _prepare(task, program)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        connection.sendall(HEADER.pack(kind, len(answer)) + answer)
        connection.recv(1)
    except BaseException:  # noqa: BLE001 - a fault of ours: to its stderr, and out
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)
    os._exit(0)


def _prepare(task: SplitTask, program: bytes | None) -> tuple[FrameKind, bytes]:
    # Imported here: the process that watches needs none of it.
    from consumer.preparation.custom_split import split_custom
    from consumer.preparation.held_out import split_held_out

    if task.custom_file is not None:
        # The organiser's files may be named like modules that these import: these come first.
        import sklearn.metrics
        import sklearn.model_selection  # noqa: F401

    set_the_scene()
    walls = Walls(program, task.memory_bytes, task.processes) if program is not None else None
    around = Surroundings(
        folder=task.folder,
        threads=task.threads,
        seed=0,
        file_bytes=task.memory_bytes,
        walls=walls,
    )
    settle(around, ThreadpoolController())
    os.chdir(task.folder)
    try:
        _check_scorers(task.scoring)
        if task.custom_file is not None:
            report = split_custom(task, task.custom_file)
        else:
            report = split_held_out(task)
    except BaseException as error:  # noqa: BLE001 - what an organiser's code raises is the verdict
        failure = describe(error, None, task.raw)
        if task.custom_file is None and not isinstance(error, Refusal | MemoryError):
            failure = replace(failure, culprit=Culprit.INFRASTRUCTURE)
        return FrameKind.FAILED, json.dumps(failure.as_json()).encode()
    return FrameKind.PREPARED, json.dumps(report.as_json()).encode()


def _check_scorers(names: tuple[str, ...]) -> None:
    if not names:
        return
    from sklearn.metrics import get_scorer_names

    known = get_scorer_names()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise refuse(f"scoring: scikit-learn has no scorer {name!r}{hint}")


def main() -> NoReturn:
    """The worker passes its socket's descriptor as the argument."""
    program = filter_program(sys.argv)
    become = partial(_become_preparer, program=program)
    serve(socket.socket(fileno=int(sys.argv[1])), become, strict=program is not None)


if __name__ == "__main__":
    main()
