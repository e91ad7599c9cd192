"""`Session`: a pika connection driven by the calling thread, which waits for conditions.

pika's own BlockingConnection waits for every single confirm; with a SelectConnection whose loop we
turn ourselves, code still reads from top to bottom, and confirms are pipelined.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self

from pika.adapters.select_connection import IOLoop
from pika.channel import Channel

from broker.endpoint import Connection, connection_parameters, place, root_cause, unreachable
from schemas.errors import BrokerError

_CLOSE_SECONDS = 3.0
"""How long the broker may take to answer a close; then the socket is closed without it."""

Condition = Callable[[], bool]


class ConnectionLost(BrokerError):
    """The connection or its channel ended; `reply_code` is the broker's, when it gave one."""

    def __init__(self, message: str, reply_code: int | None = None) -> None:
        super().__init__(message)
        self.reply_code = reply_code


class Session:
    """One connection with one channel, for one thread, for as long as one task takes."""

    def __init__(self, url: str, name: str, connect_timeout: float = 30) -> None:
        """Connect. Raises BrokerUnreachable."""
        self._parameters = connection_parameters(url, name, connect_timeout)
        self._lost: BaseException | None = None
        self._loop = IOLoop()
        self._loop.activate_poller()
        opened: list[Any] = []
        self._connection = Connection(
            self._parameters,
            on_open_callback=opened.append,
            on_open_error_callback=lambda _, error: self._note(error),
            on_close_callback=lambda _, error: self._note(error),
            custom_ioloop=self._loop,
        )
        try:
            while not opened and self._lost is None:
                self._turn()
            if self._lost is not None:
                raise unreachable(self._parameters, self._lost)
            channels: list[Any] = []
            self._channel = self._connection.channel(on_open_callback=channels.append)
            self._channel.add_on_close_callback(lambda _, error: self._note(error))
            self.wait(lambda: bool(channels), connect_timeout)
        except BaseException:
            self.close()
            raise

    @property
    def channel(self) -> Channel:
        """The channel. Raises ConnectionLost when it, or the connection, has ended."""
        if self._lost is not None:
            raise self._connection_lost(self._lost)
        return self._channel

    def wait(self, condition: Condition, seconds: float) -> bool:
        """Turn the loop until `condition()` holds; False when it does not within `seconds`.

        Raises ConnectionLost when the connection or the channel ends meanwhile.
        """
        deadline = time.monotonic() + seconds
        wake = self._loop.call_later(seconds, lambda: None)
        try:
            while not condition():
                if self._lost is not None:
                    raise self._connection_lost(self._lost)
                if time.monotonic() >= deadline:
                    return False
                self._turn()
            return True
        finally:
            self._loop.remove_timeout(wake)

    def close(self) -> None:
        """Close the connection, without waiting long for a broker that does not answer."""
        if self._connection.is_open:
            self._connection.close()
            if not self._turn_until_closed():
                self._connection.abort()
                self._turn_until_closed()
        self._loop.deactivate_poller()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _turn_until_closed(self) -> bool:
        deadline = time.monotonic() + _CLOSE_SECONDS
        wake = self._loop.call_later(_CLOSE_SECONDS, lambda: None)
        while not self._connection.is_closed and time.monotonic() < deadline:
            self._turn()
        self._loop.remove_timeout(wake)
        return bool(self._connection.is_closed)

    def _turn(self) -> None:
        self._loop.poll()
        self._loop.process_timeouts()

    def _note(self, error: BaseException) -> None:
        self._lost = self._lost or error

    def _connection_lost(self, error: BaseException) -> ConnectionLost:
        cause = root_cause(error)
        text = getattr(cause, "reply_text", None) or repr(cause)
        return ConnectionLost(
            f"the connection to RabbitMQ at {place(self._parameters)} ended: {text}",
            getattr(cause, "reply_code", None),
        )
