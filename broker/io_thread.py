"""`IOThread`: pika's loop in a thread of its own, with a connection that comes back.

Heartbeats are answered while the user's program computes. Only this thread touches pika; others
hand it functions with `submit`, and wait for futures.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol, TypeVar

from pika.adapters.select_connection import IOLoop

from broker.endpoint import Connection, connection_parameters, place, root_cause, unreachable
from schemas.errors import BrokerError, BrokerUnreachable

_FIRST_RETRY = 0.1
_LONGEST_RETRY = 5.0
_CLOSE_SECONDS = 3.0
"""How long the broker may take to answer a close; then the socket is closed without it."""

T = TypeVar("T")


class Tenant(Protocol):
    """What lives on the connection. All of it is called in the I/O thread."""

    def opened(self, connection: Any) -> None:
        """There is a connection, perhaps again."""

    def ended(self, error: BrokerError) -> None:
        """There will be no connection any more."""


class IOThread:
    """One connection to RabbitMQ, opened again whenever it is lost."""

    def __init__(self, url: str, name: str, connect_timeout: float) -> None:
        """Connect; raises BrokerUnreachable, or ConfigurationError for a malformed URL."""
        self._parameters = connection_parameters(url, name, connect_timeout)
        self._timeout = connect_timeout
        self._loop = IOLoop()
        self._connection: Any = None
        self._connected = threading.Event()
        self._first: Future[None] = Future()
        self._failure: BrokerUnreachable | None = None
        self._blocked: str | None = None
        self._retry = _FIRST_RETRY
        self._tenants: list[Tenant] = []
        self._lock = threading.Lock()
        self._closing = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name=f"amqp {name}", daemon=True)
        self._thread.start()
        try:
            self.submit(self._connect)
            self._first.result()
        except BaseException:
            self.close()
            raise

    @property
    def place(self) -> str:
        """`host:port` of the broker."""
        return place(self._parameters)

    @property
    def user(self) -> str | None:
        """Who this connection is logged in as."""
        return getattr(self._parameters.credentials, "username", None)

    def trouble(self) -> str:
        """Why an answer may be late: `; ` and a sentence, or nothing."""
        if self._failure is not None and not self._connected.is_set():
            return f"; the connection was lost: {self._failure}"
        if self._blocked is not None:
            return f"; RabbitMQ blocks publishers: {self._blocked}"
        return ""

    def submit(self, action: Callable[[], None]) -> None:
        """Run `action` in the I/O thread, soon. Raises BrokerError when closed."""
        if os.getpid() != self._process:
            raise BrokerError("this client was made before a fork: make another one in the child")
        with self._lock:
            if self._closing:
                raise BrokerError("this client is closed")
            self._loop.add_callback_threadsafe(action)

    def add(self, tenant: Tenant) -> None:
        """Let `tenant` live on this connection and every later one. In the I/O thread."""
        self._tenants.append(tenant)
        self.when_open(tenant.opened)

    def when_open(self, action: Callable[[Any], None]) -> None:
        """Call `action` with the connection, if there is one now. In the I/O thread."""
        if self._connected.is_set() and self._connection.is_open:
            action(self._connection)

    def remove(self, tenant: Tenant) -> None:
        """The opposite of `add`. In the I/O thread."""
        if tenant in self._tenants:
            self._tenants.remove(tenant)

    def on_channel(self, action: Callable[[Any], None], failed: Callable[[Any], None]) -> None:
        """Open a channel and give it to `action`; `failed` gets the reason when it ends, also
        when there is no connection now. In the I/O thread."""
        if not (self._connected.is_set() and self._connection.is_open):
            failed(self._failure or BrokerUnreachable(f"no connection to {self.place} now"))
            return
        channel = self._connection.channel(on_open_callback=action)
        channel.add_on_close_callback(lambda _, error: failed(error))

    def wait_connected(self, seconds: float) -> None:
        """Wait for a connection. Raises BrokerUnreachable."""
        if not self._connected.wait(seconds):
            raise self._failure or BrokerUnreachable(f"no connection to RabbitMQ at {self.place}")

    def close(self) -> None:
        """Close the connection and end the thread. Can be called twice, and in a forked child."""
        if os.getpid() != self._process:
            return
        with self._lock:
            if not self._closing:
                self._closing = True
                self._loop.add_callback_threadsafe(self._begin_close)
        if threading.current_thread() is not self._thread:
            self._thread.join(3 * _CLOSE_SECONDS)

    # --- in the I/O thread ------------------------------------------------------------------

    def _run(self) -> None:
        error = BrokerError("this client is closed")
        try:
            self._loop.start()
        except BaseException as failure:
            error = BrokerError(f"the connection's thread died of {failure!r}")
            raise
        finally:
            with self._lock:
                self._closing = True
            self._connected.clear()
            # What was submitted last reaches its tenant, which fails it.
            self._loop.process_timeouts()
            for tenant in self._tenants:
                tenant.ended(error)
            settle(self._first, error)
            self._loop.close()

    def _connect(self) -> None:
        if self._closing:
            return
        self._connection = Connection(
            self._parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=lambda _, error: self._on_failed(error),
            on_close_callback=lambda _, error: self._on_lost(error),
            custom_ioloop=self._loop,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _on_open(self, connection: Any) -> None:
        if self._closing:
            connection.close()
            return
        self._retry = _FIRST_RETRY
        self._blocked = None
        self._connected.set()
        settle(self._first, None)
        for tenant in list(self._tenants):
            tenant.opened(connection)

    def _on_failed(self, error: BaseException) -> None:
        self._failure = unreachable(self._parameters, error)
        if self._first.done() or self._closing:
            self._come_back()
        settle(self._first, self._failure)

    def _on_lost(self, error: BaseException) -> None:
        self._connected.clear()
        cause = root_cause(error)
        text = getattr(cause, "reply_text", None) or repr(cause)
        self._failure = BrokerUnreachable(f"RabbitMQ at {self.place}: {text}")
        self._come_back()

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        self._blocked = frame.method.reason

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self._blocked = None

    def _come_back(self) -> None:
        if self._closing:
            self._loop.stop()
            return
        self._loop.call_later(self._retry, self._connect)
        self._retry = min(2 * self._retry, _LONGEST_RETRY)

    def _begin_close(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed:
            self._loop.stop()
            return
        self._loop.call_later(_CLOSE_SECONDS, connection.abort)
        self._loop.call_later(2 * _CLOSE_SECONDS, self._loop.stop)
        if not connection.is_closing:
            connection.close()


def settle(future: Future[T], outcome: T | BaseException) -> None:
    """Set a future's result or exception; nothing when its caller has given up on it."""
    try:
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:
        return
