"""Frames as the worker reads them from a process that is not believed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from consumer.execution.frame_stream import FrameStream
from consumer.execution.frames import HEADER, FrameError, FrameKind

TRAINED = HEADER.pack(FrameKind.TRAINED, 0)


@contextlib.contextmanager
def connection() -> Iterator[tuple[FrameStream, socket.socket]]:
    """The worker's stream, and the fold's socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        stream = FrameStream(ours)
        yield stream, theirs
        stream.close()


async def test_frames_that_come_together_are_read_one_by_one() -> None:
    with connection() as (stream, fold):
        fold.sendall(HEADER.pack(FrameKind.BEGUN, 3) + b"abc" + TRAINED)

        assert await stream.header() == (FrameKind.BEGUN, 3)
        assert await stream.payload(3) == b"abc"
        assert await stream.header() == (FrameKind.TRAINED, 0)


async def test_a_payload_comes_in_pieces() -> None:
    with connection() as (stream, fold):
        fold.setblocking(False)
        payload = bytes(range(256)) * 8192
        frame = HEADER.pack(FrameKind.TESTED, len(payload)) + payload
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(fold, frame))

        kind, size = await stream.header()
        assert (kind, await stream.payload(size)) == (FrameKind.TESTED, payload)
        await sending


async def test_a_job_larger_than_the_socket_takes_at_once_is_sent_whole() -> None:
    with connection() as (stream, fold):
        fold.setblocking(False)
        job = bytes(2 << 20)
        sending = asyncio.create_task(stream.send(job))
        received = 0
        while received < len(job):
            received += len(await asyncio.get_running_loop().sock_recv(fold, 1 << 16))
        await sending


async def test_what_nobody_waits_for_does_not_keep_the_loop_busy() -> None:
    with connection() as (stream, fold):
        # Given a stream that is watched, and was read
        fold.sendall(TRAINED)
        await stream.header()

        # When more comes than was asked for
        fold.sendall(bytes(100_000))
        while stream.is_watched:
            await asyncio.sleep(0)

        # Then it is watched again when somebody waits
        with pytest.raises(FrameError):
            await stream.header()


async def test_an_end_within_a_payload_is_told() -> None:
    with connection() as (stream, fold):
        fold.sendall(HEADER.pack(FrameKind.VALIDATED, 10) + b"half")
        fold.close()

        assert await stream.header() == (FrameKind.VALIDATED, 10)
        with pytest.raises(EOFError):
            await stream.payload(10)
