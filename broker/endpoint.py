"""Where a RabbitMQ is: an AMQP URL as pika's parameters, and its failures as sentences."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter
from pika.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ConnectionClosedByBroker,
    ConnectionOpenAborted,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from broker.tls import ENDED_AT_ONCE, secured, tls_trouble
from schemas.errors import AccessRefused, BrokerUnreachable, ConfigurationError

HEARTBEAT_SECONDS = 30

# pika logs every failed connection as an error with a traceback, although it raises it too.
if logging.getLogger("pika").level == logging.NOTSET:
    logging.getLogger("pika").setLevel(logging.CRITICAL)

_NOT_ALLOWED = {403, 530}
"""AMQP 0-9-1 access-refused and not-allowed: about the user or the virtual host."""


class Transports(SelectorIOServicesAdapter):  # type: ignore[misc]
    """pika's loop, which says of every transport that cannot be made why.

    pika raises out of the loop when a connection is reset between being made and being looked at;
    the thread that turns the loop would die of it.
    """

    def create_streaming_connection(
        self, *, on_done: Callable[[Any], None], **transport: Any
    ) -> Any:
        """on_done gets the transport, or the exception; what is returned can be cancelled."""
        try:
            return super().create_streaming_connection(on_done=on_done, **transport)
        except ValueError as error:
            reason = error.__context__ or error
            return self.call_later(0, lambda: on_done(reason))


class Connection(pika.SelectConnection):  # type: ignore[misc]
    """pika's connection, which can also be given up at once."""

    def __init__(
        self, parameters: pika.ConnectionParameters, *, custom_ioloop: IOLoop, **callbacks: Any
    ) -> None:
        super().__init__(parameters, custom_ioloop=Transports(custom_ioloop), **callbacks)

    def abort(self) -> None:
        """Close the socket without asking the broker; the close callback follows."""
        if not self.is_closed:
            self._adapter_disconnect_stream()


def connection_parameters(url: str, name: str, timeout: float) -> pika.ConnectionParameters:
    """Parameters of one connection attempt that takes at most `timeout` seconds.

    `name` is what the management console shows. Raises ConfigurationError for a malformed URL.
    """
    url, context = secured(url)
    try:
        parameters = pika.URLParameters(url)
        if context is not None:
            parameters.ssl_options = pika.SSLOptions(context, parameters.host)
        parameters.heartbeat = HEARTBEAT_SECONDS
        parameters.socket_timeout = timeout
        parameters.stack_timeout = timeout
        parameters.client_properties = {"connection_name": name}
    except (ValueError, TypeError):
        # Without its cause: pika's text may hold a part of the password.
        raise ConfigurationError(
            "the RabbitMQ URL is malformed; write amqp://user:password@host:port/vhost "
            "(special characters in user and password as %XX)"
        ) from None
    return parameters


def place(parameters: pika.ConnectionParameters) -> str:
    """`host:port`, for messages to people."""
    return f"{parameters.host}:{parameters.port}"


def unreachable(parameters: pika.ConnectionParameters, error: BaseException) -> BrokerUnreachable:
    """Why a connection attempt failed, in a sentence that never holds the password."""
    where = f"RabbitMQ at {place(parameters)}"
    user = getattr(parameters.credentials, "username", "?")
    if trouble := tls_trouble(root_cause(error)):
        return BrokerUnreachable(f"{where}: {trouble}")
    match root_cause(error):
        case ProbableAuthenticationError() | AuthenticationError():
            return AccessRefused(f"{where} refuses user {user!r}: wrong user name or password")
        case ProbableAccessDeniedError() as cause:
            return AccessRefused(_vhost_refused(where, user, parameters, str(cause)))
        case ConnectionClosedByBroker() as cause if cause.reply_code in _NOT_ALLOWED:
            return AccessRefused(_vhost_refused(where, user, parameters, cause.reply_text))
        case IncompatibleProtocolError() | ConnectionResetError() if parameters.ssl_options:
            return BrokerUnreachable(f"{where}: {ENDED_AT_ONCE}")
        case IncompatibleProtocolError():
            return BrokerUnreachable(
                f"what listens at {place(parameters)} does not speak AMQP 0-9-1 in the clear; "
                "is it a TLS port (amqps://), or not RabbitMQ?"
            )
        case ConnectionRefusedError():
            return BrokerUnreachable(
                f"{where}: connection refused; is it running? (`datarun up` starts one)"
            )
        case socket.gaierror() as cause:
            return BrokerUnreachable(f"{where}: the host name is not known ({cause.strerror})")
        case TimeoutError() | ConnectionOpenAborted():
            # pika aborts an opening that takes longer than stack_timeout.
            return BrokerUnreachable(f"{where} did not answer in time")
        case AMQPConnectionError() | OSError() as cause:
            return BrokerUnreachable(f"{where}: {cause!r}")
        case cause:
            return BrokerUnreachable(f"{where}: connecting failed ({type(cause).__name__})")


def root_cause(error: BaseException) -> BaseException:
    """What pika has wrapped: the failure of the last address that was tried."""
    while True:
        inner: Any = getattr(error, "exceptions", None)
        inner = inner[-1] if inner else getattr(error, "exception", None)
        if inner is None and error.args and isinstance(error.args[0], BaseException):
            inner = error.args[0]
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _vhost_refused(
    where: str, user: str, parameters: pika.ConnectionParameters, reason: str
) -> str:
    return (
        f"{where} refuses user {user!r} on virtual host {parameters.virtual_host!r}: "
        f"it does not exist, or the user has no access to it ({reason})"
    )
