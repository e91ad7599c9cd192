"""TLS towards RabbitMQ: one way to make its context, for every connection and every library.

An amqps:// URL may name files in its query, as RabbitMQ's own clients have it
(https://www.rabbitmq.com/docs/uri-query-parameters); the settings DATARUN_BROKER_CA, _CERT and _KEY
put them there. The server's certificate and its host name are always checked.
"""

from __future__ import annotations

import ssl
from urllib.parse import parse_qsl, urlencode, urlsplit

from schemas.errors import ConfigurationError

_FILES = {
    "cacertfile": "DATARUN_BROKER_CA",
    "certfile": "DATARUN_BROKER_CERT",
    "keyfile": "DATARUN_BROKER_KEY",
}
_UNCHECKED = {("verify", "verify_none"), ("no_verify_ssl", "1")}

ENDED_AT_ONCE = (
    "it ends the connection at once: it asks for a client certificate that it trusts "
    "(DATARUN_BROKER_CERT and DATARUN_BROKER_KEY name the files), or is not RabbitMQ"
)
"""With TLS 1.3 a server says what it misses after the handshake, and may be gone by then."""

_HOST_NAME = 62
_EXPIRED = 10
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_CERT_HAS_EXPIRED (openssl/x509_vfy.h)."""


def secured(url: str) -> tuple[str, ssl.SSLContext | None]:
    """The URL without what is ours in its query, and the context that it asks for; None for amqp.

    Raises ConfigurationError when one of the files cannot be used.
    """
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query)
    except ValueError as error:
        raise ConfigurationError(f"the RabbitMQ URL cannot be read: {error}") from None
    if parts.scheme != "amqps":
        return url, None
    if _UNCHECKED & set(query):
        raise ConfigurationError(
            "the RabbitMQ URL asks not to check the server's certificate, which datarun always "
            "does; name the file of its authority with DATARUN_BROKER_CA"
        )
    files = {name: value for name, value in query if name in _FILES}
    rest = [(name, value) for name, value in query if name not in _FILES]
    bare = parts._replace(query=urlencode(rest)).geturl()
    return bare, context(files.get("cacertfile"), files.get("certfile"), files.get("keyfile"))


def context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Checks certificate and host name against `ca`, or the system's authorities; presents `cert`.

    Raises ConfigurationError naming the file that cannot be used.
    """
    made = ssl.create_default_context()
    if ca is not None:
        # Not besides the system's authorities: whoever names one trusts that one.
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            made.load_verify_locations(ca)
        except OSError as error:
            raise _unusable("cacertfile", ca, error, "certificates") from error
    if cert is None and key is not None:
        raise ConfigurationError("DATARUN_BROKER_KEY is set, and DATARUN_BROKER_CERT is not")
    if cert is not None:
        for name, path in (("certfile", cert), ("keyfile", key or cert)):
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise _unusable(name, path, error, "") from error
        try:
            # Without a passphrase: one that is asked for on a terminal stops a service for ever.
            made.load_cert_chain(cert, key, password=_no_passphrase)
        except OSError as error:
            if "KEY_VALUES_MISMATCH" in str(error):
                raise ConfigurationError(
                    f"the key in {key or cert} does not belong to the certificate in {cert}"
                ) from error
            what = "a certificate and its key"
            raise _unusable("certfile", f"{cert} with {key or cert}", error, what) from error
    return made


def tls_trouble(error: BaseException) -> str | None:
    """What a failed connection says about TLS, as a sentence's end; None when it is not that."""
    if error.__cause__ is not None and (trouble := tls_trouble(error.__cause__)):
        # aiormq wraps what it catches.
        return trouble
    text = f"{type(error).__name__} {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code == _HOST_NAME:
            return f"its TLS certificate is of another host ({error.verify_message})"
        if error.verify_code == _EXPIRED:
            return "its TLS certificate has expired"
        return (
            f"its TLS certificate is not trusted ({error.verify_message}); DATARUN_BROKER_CA "
            "names the file of the authority that it is from"
        )
    if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text:
        return (
            "it asks for a client certificate: DATARUN_BROKER_CERT and DATARUN_BROKER_KEY name "
            "the files"
        )
    if "ALERT_UNKNOWN_CA" in text or "ALERT_BAD_CERTIFICATE" in text:
        return "it does not trust our client certificate (DATARUN_BROKER_CERT)"
    if "CERTIFICATE_EXPIRED" in text:
        return "our client certificate (DATARUN_BROKER_CERT) has expired"
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
        return "what listens there does not speak TLS; is it the plain port (amqp://)?"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    return None


def _unusable(parameter: str, path: str, error: OSError, content: str) -> ConfigurationError:
    if isinstance(error, ssl.SSLError) or error.strerror is None:
        why = f"does not hold {content} in PEM format ({error})"
    else:
        why = f"cannot be read: {error.strerror}"
    return ConfigurationError(f"{_FILES[parameter]}: {path} {why}")


def _no_passphrase() -> str:
    raise OSError("it has a passphrase, which nobody is there to type")
