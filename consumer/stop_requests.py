"""The signals that ask a worker to stop: once to finish, twice to hurry."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequests:
    """Counts them. Until `is_working` is set, the first one cancels the task itself."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.is_working = False

    @contextmanager
    def by_signal(self) -> Iterator[None]:
        """Take over SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.request)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    def request(self) -> None:
        """One more request."""
        if not self.first.is_set():
            self.first.set()
            if not self.is_working:
                self._task.cancel()
        else:
            self.second.set()
