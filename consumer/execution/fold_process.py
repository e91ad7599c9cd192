"""What runs in a fold's own process: reads its job, trains, predicts, reports over its socket."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from consumer.execution.fold_task import FoldTask
from consumer.execution.frames import BEGIN, HEADER, FrameKind, receive_exactly
from consumer.parts import array_of, mapped_for_good, read_part
from consumer.sandbox.linux import flush_c_streams
from consumer.sandbox.namespaces import Walls
from consumer.sandbox.seal import Surroundings, leave_the_slot, settle, wait_for_a_job
from consumer.workflows.custom import CustomWorkflow
from consumer.workflows.failure import Failure, describe
from consumer.workflows.standard import StandardWorkflow
from consumer.workflows.submission import install_submission, submission_folder, write_files
from schemas.states import Culprit, FailureKind


class Workflow(Protocol):
    """What a fold does with X."""

    def shaped(self, x: Any) -> Any: ...
    def train(self, x: Any) -> None: ...
    def predict(self, x: Any) -> npt.NDArray[Any]: ...


_NPY = struct.Struct("<6sBBH")
"""Magic string, version, length of the header."""

_CANNOT_SAY = json.dumps(
    Failure(
        FailureKind.CRASHED,
        Culprit.SUBMISSION,
        "crashed: the failure could not be told; the code has replaced functions of Python's own",
    ).as_json()
).encode()


class _Ended(Exception):
    """The fold has reported why it cannot go on."""


class _Fold:
    """One fold, from its job to its last report."""

    def __init__(
        self, connection: socket.socket, controller: ThreadpoolController, program: bytes | None
    ) -> None:
        self._connection = connection
        self._pid = os.getpid()
        header, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, 2)
        while len(header) < HEADER.size:
            header += receive_exactly(connection, HEADER.size - len(header))
        _, size = HEADER.unpack(header)
        self._task = FoldTask.from_bytes(receive_exactly(connection, size))
        # Before any code but ours runs, which could open them again, and write to them.
        self._x = [mapped_for_good(descriptor) for descriptor in descriptors]
        for descriptor in descriptors:
            os.close(descriptor)
        self._folder = self._task.folder
        around = Surroundings(
            folder=self._folder,
            threads=self._task.threads,
            seed=self._task.seed,
            cpu_seconds=self._task.cpu_seconds,
            file_bytes=self._task.memory_bytes,
            walls=Walls(program, self._task.memory_bytes, self._task.processes)
            if program is not None
            else None,
        )
        settle(around, controller)
        self._submission = submission_folder(self._folder)
        write_files(self._submission, self._task.submission)
        self._organiser: str | None = None
        if self._task.custom_file is not None:
            self._organiser = f"{self._folder}/organiser"
            write_files(self._organiser, self._task.organiser)
        os.chdir(self._submission)

    def run(self) -> None:
        """All phases, until one fails."""
        workflow: Workflow = self._tried(self._workflow)
        x_train, x_test = self._tried(lambda: [workflow.shaped(x) for x in self._parts()])
        # Not before: nothing of the organiser's may import what is the submission's.
        install_submission(self._folder, behind=self._organiser)
        # The submission's code comes next: what is said until here is our own word.
        self._send(FrameKind.BEGUN, BEGIN.pack(time.monotonic(), time.process_time()))
        self._tried(lambda: workflow.train(x_train))
        self._send(FrameKind.TRAINED)
        receive_exactly(self._connection, 1)
        self._send(FrameKind.VALIDATED, self._tried(lambda: _npy(workflow.predict(x_train))))
        receive_exactly(self._connection, 1)
        self._send(FrameKind.TESTED, self._tried(lambda: _npy(workflow.predict(x_test))))

    def _workflow(self) -> Workflow:
        if self._task.custom_file is None:
            return StandardWorkflow(self._task)
        return CustomWorkflow(self._task, self._task.custom_file, str(self._organiser))

    def _parts(self) -> list[Any]:
        layouts = self._task.x_layouts
        if layouts is None:
            return [read_part(x, "pickle") for x in self._x]
        return [array_of(x, layout) for x, layout in zip(self._x, layouts, strict=True)]

    def _tried(self, step: Callable[[], Any]) -> Any:
        """The step's value; when it raises, the failure is reported and the fold ends."""
        try:
            return step()
        except BaseException as error:
            self._send(FrameKind.FAILED, self._report(error))
            raise _Ended from error

    def _report(self, error: BaseException) -> bytes:
        try:
            failure = describe(error, self._submission, self._organiser)
            return json.dumps(failure.as_json()).encode()
        except BaseException:  # noqa: BLE001 - user code put its own in the place of what we call
            return _CANNOT_SAY

    def _send(self, kind: FrameKind, payload: bytes = b"") -> None:
        _flush()
        if os.getpid() != self._pid:  # user code forked, and its child came back into ours
            os._exit(0)
        self._connection.sendall(HEADER.pack(kind, len(payload)) + payload)


def _npy(array: npt.NDArray[Any]) -> bytes:
    """As an npy file: numpy's own function for its header runs through much else.

    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    array = np.ascontiguousarray(array)
    head = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {array.shape}, }}"
    padding = -(_NPY.size + len(head) + 1) % 64
    line = f"{head}{' ' * padding}\n".encode("latin-1")
    return _NPY.pack(b"\x93NUMPY", 1, 0, len(line)) + line + array.tobytes()


def become_fold(orders: int, controller: ThreadpoolController, program: bytes | None) -> NoReturn:
    """Never returns: after its last report the fold waits to be measured and killed.

    orders: the descriptor that the slot's word comes from. program: the filter for system calls at
    level `strict`.
    """
    try:
        leave_the_slot(orders, strict=program is not None)
        connection = wait_for_a_job()
        try:
            _Fold(connection, controller, program).run()
        except _Ended:
            pass
        except OSError as error:
            _report_ours(connection, error)
        connection.recv(1)
    except BaseException:  # noqa: BLE001 - a fault of ours: to the fold's stderr, and out
        traceback.print_exc()
        _flush()
        os._exit(70)
    os._exit(0)


def _report_ours(connection: socket.socket, error: OSError) -> None:
    """The fold's surroundings fail, not its code: no space for its files, say."""
    failure = Failure(
        FailureKind.CRASHED,
        Culprit.INFRASTRUCTURE,
        f"the fold's process could not be set up: {error}",
    )
    payload = json.dumps(failure.as_json()).encode()
    connection.sendall(HEADER.pack(FrameKind.FAILED, len(payload)) + payload)


def _flush() -> None:
    """What was printed must be in the pipes before the worker is told, for it kills at once."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: BLE001 - user code closed it, or put its own there
            continue
    flush_c_streams()
