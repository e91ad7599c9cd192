"""What a supervisor tells whoever started it, in process or as lines of JSON through a pipe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TextIO


class NoticeKind(StrEnum):
    """What happened."""

    STARTING = "starting"
    """A service, or the broker, is being started."""

    STARTED = "started"
    """It does its work: a worker has sent a heartbeat, the collector has answered."""

    READY = "ready"
    """All are started, and the connection file is in place."""

    WARNING = "warning"
    """Something is not as it was the last time."""

    DIED = "died"
    """A service has ended without being asked to; it is started again."""

    STOPPING = "stopping"
    """A service, or the broker, is asked to end."""

    STOPPED = "stopped"
    """Nothing is left running."""

    FAILED = "failed"
    """The stack could not be started; nothing is left running."""


@dataclass(frozen=True)
class Notice:
    """One line for a human, and its kind and service for a program."""

    kind: NoticeKind
    service: str
    text: str

    def to_json(self) -> str:
        """One line of JSON, without the line's end."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Notice:
        """The inverse of `to_json`."""
        content = json.loads(line)
        return cls(NoticeKind(content["kind"]), content["service"], content["text"])


Listener = Callable[[Notice], None]


def read_notices(pipe: TextIO) -> Iterator[Notice]:
    """Until the writer closes its end, or dies."""
    for line in pipe:
        if line.endswith("\n"):  # a writer that was killed may leave half a line
            yield Notice.from_json(line)


def write_notices(pipe: int) -> Listener:
    """A listener that writes to this file descriptor; does nothing once nobody reads any more."""

    def write(notice: Notice) -> None:
        # Unbuffered: what a reader that has gone did not take must not be tried again at the end.
        with suppress(BrokenPipeError):
            os.write(pipe, f"{notice.to_json()}\n".encode())

    return write
