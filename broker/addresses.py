"""AMQP URLs: what may be shown of one, and what a failed connection means."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from broker.tls import ENDED_AT_ONCE, tls_trouble
from schemas.errors import ConfigurationError


def shown(url: str) -> str:
    """`amqp://user@host:port/vhost`: the URL without its password."""
    try:
        parts = urlsplit(url)
        port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    except ValueError as error:
        raise ConfigurationError(f"the RabbitMQ URL cannot be read: {error}") from None
    user = f"{unquote(parts.username)}@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.hostname}:{port}{parts.path or '/'}"


def place(url: str) -> tuple[str, str | None, int, str]:
    """Scheme, host, port and virtual host: where a URL leads, whoever logs in."""
    parts = urlsplit(url)
    port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    return parts.scheme, parts.hostname, port, unquote(parts.path[1:])


# The last is what aiormq says of a TLS alert, which it takes for the head of a long frame.
_ENDED = ("reset", "IncompleteReadError", "connection unexpectedly closed")


def why_unreachable(url: str, error: BaseException) -> str:
    """A sentence on why no connection to `url` was made, and what to look at."""
    text = f"{type(error).__name__} {error}"
    if "ACCESS_REFUSED" in text or "Authentication" in text:
        hint = "the user name or the password is refused"
    elif "NOT_ALLOWED" in text or "vhost" in text or "Connection.OpenOk" in text:
        # aiormq reports the broker's Connection.Close only as "not the OpenOk that I expected".
        hint = "the virtual host does not exist, or this user may not use it"
    elif isinstance(error, ConnectionRefusedError) or "Errno 111" in text:
        hint = "nothing listens there; is RabbitMQ running? (`datarun up` starts one)"
    elif isinstance(error, TimeoutError):
        hint = "it does not answer"
    elif trouble := tls_trouble(error):
        hint = trouble
    elif any(word in text for word in _ENDED):
        plain = "it ends the connection at once; is it a TLS port (amqps://), or not RabbitMQ?"
        hint = ENDED_AT_ONCE if url.startswith("amqps://") else plain
    else:
        hint = text
    return f"cannot connect to RabbitMQ at {shown(url)}: {hint}"
