"""The socket that a gateway listens on; light, so that `datarun up` can try it beforehand."""

from __future__ import annotations

import socket

from schemas.errors import ConfigurationError

DEFAULT_PORT = 8000


def bound(host: str, port: int) -> socket.socket:
    """Bound at once, so that whoever asks early waits and is not refused.

    Raises ConfigurationError when somebody else listens there, or it is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    return listener


def check_free(host: str, port: int) -> None:
    """Raises ConfigurationError when a gateway could not listen there now."""
    with bound(host, port) as listener:
        try:
            # Binding alone succeeds next to another socket that has bound and not yet listens.
            listener.listen()
        except OSError as error:
            raise _refused(host, port, error) from error


def _refused(host: str, port: int, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the gateway cannot listen on {host}:{port}: {error.strerror}; choose another address "
        "with DATARUN_GATEWAY_HOST or port with DATARUN_GATEWAY_PORT"
    )
