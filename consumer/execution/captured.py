"""What a fold prints, read as it comes and kept within bounds: the head and the tail."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Self

from schemas.verdicts import MAX_OUTPUT, clip

_READ = 64 * 1024
_KEEP = MAX_OUTPUT * 4
"""Bytes kept of head and of tail each: a character has at most four."""

_FREE = 1 << 20
"""After so many bytes the pipe is read more slowly, so that a flood costs the loop nothing."""

_SLOW_DOWN = 0.005

_FIRST_LOOK = 0.03
"""A pipe holds 64 KiB: what a fold prints that ends before need not wake the loop. One that prints
more at once waits for it."""


class CapturedStream:
    """The reading end of a pipe whose writer is a fold."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.writer, True)
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._total = 0
        self._open = {self._descriptor, self.writer}
        self._is_watched = False
        self._pause: asyncio.TimerHandle | None = self._loop.call_later(_FIRST_LOOK, self._watch)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_reading()
        for descriptor in self._open:
            os.close(descriptor)

    def close_writer(self) -> None:
        """Once the fold has its copy."""
        self._open.remove(self.writer)
        os.close(self.writer)

    def finish(self) -> str:
        """When every writer is dead: the rest, then all that was kept, as text."""
        self._stop_reading()
        # Bounded, in case somebody still writes.
        for _ in range(64):
            if not self._read():
                break
        return self._text()

    def _stop_reading(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._unwatch()

    def _readable(self) -> None:
        if not self._read():
            self._unwatch()
        elif self._total > _FREE:
            self._unwatch()
            self._pause = self._loop.call_later(_SLOW_DOWN, self._watch)

    def _watch(self) -> None:
        self._is_watched = True
        self._loop.add_reader(self._descriptor, self._readable)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._loop.remove_reader(self._descriptor)

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return False
        more = bool(data)
        self._total += len(data)
        room = _KEEP - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail.append(data)
            self._tail_size += len(data)
            while self._tail_size - len(self._tail[0]) >= _KEEP:
                self._tail_size -= len(self._tail.popleft())
        return more

    def _text(self) -> str:
        tail = b"".join(self._tail)
        if len(self._head) + len(tail) == self._total:
            return clip((bytes(self._head) + tail).decode("utf-8", "replace"))
        half = MAX_OUTPUT // 2
        head_text = self._head.decode("utf-8", "replace")[:half]
        tail_text = tail.decode("utf-8", "replace")[-half:]
        kept = len(head_text.encode()) + len(tail_text.encode())
        return f"{head_text}\n... {self._total - kept} bytes left out ...\n{tail_text}"
