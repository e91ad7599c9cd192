"""RabbitMQ's management API, asked as an administrator; its failures as sentences.

https://rawcdn.githack.com/rabbitmq/rabbitmq-server/v3.10.8/deps/rabbitmq_management/priv/www/api
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from broker.tls import tls_trouble
from schemas.errors import AccessRefused, BrokerUnreachable, ConfigurationError

_SECONDS = 20.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like others: following one would take the password along."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


class Management:
    """One server. Calls raise BrokerUnreachable, AccessRefused or ConfigurationError."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        """url: `https://user:password@host:port`; context: for https."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(
                "the management URL must be http://administrator:password@host:15672, or https"
            )
        if parts.username is None or parts.password is None:
            raise ConfigurationError(
                "the management URL names no administrator and password: write "
                f"{parts.scheme}://administrator:password@{parts.hostname}"
            )
        self._user = unquote(parts.username)
        login = f"{self._user}:{unquote(parts.password)}".encode()
        self._headers = {
            "Authorization": f"Basic {base64.b64encode(login).decode()}",
            "Content-Type": "application/json",
        }
        place = parts.netloc.rpartition("@")[2]
        self._base = f"{parts.scheme}://{place}{parts.path.rstrip('/')}/api/"
        self._where = f"RabbitMQ's management API at {parts.scheme}://{place}"
        # Directly, without proxies, as AMQP goes.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            _NoRedirects(),
        )

    def check_administrator(self) -> None:
        """Raise AccessRefused unless this user may make users."""
        who = self._ask("GET", "whoami") or {}
        tags = who.get("tags", ())
        # A list, or before RabbitMQ 3.10 a text with commas.
        if "administrator" not in (tags.split(",") if isinstance(tags, str) else tags):
            raise AccessRefused(
                f"{self._where}: user {self._user!r} is no administrator, and users are made by "
                f"one; `rabbitmqctl set_user_tags {self._user} administrator` makes him one"
            )

    def has_vhost(self, name: str) -> bool:
        """Whether there is such a virtual host."""
        return self._ask("GET", f"vhosts/{quote(name, safe='')}") is not None

    def has_user(self, name: str) -> bool:
        """Whether there is such a user."""
        return self._ask("GET", f"users/{quote(name, safe='')}") is not None

    def define(self, definitions: Mapping[str, Any]) -> None:
        """Make what is missing, and change what is otherwise; the rest stays as it is."""
        self._ask("POST", "definitions", definitions)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer; None where there is no such thing, or nothing to say."""
        request = urllib.request.Request(
            self._base + path,
            None if body is None else json.dumps(body).encode(),
            self._headers,
            method=method,
        )
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            return self._refused(error, path)
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        try:
            return json.loads(text) if text else None
        except ValueError as error:
            raise self._other() from error

    def _refused(self, error: urllib.error.HTTPError, path: str) -> None:
        with error:
            said = error.read(1000).decode("utf-8", "replace")
        match error.code:
            case HTTPStatus.UNAUTHORIZED:
                raise AccessRefused(
                    f"{self._where} refuses user {self._user!r}: wrong user name or password, or "
                    "not one who may use it (tag management)"
                ) from None
            case HTTPStatus.NOT_FOUND if path != "whoami" and said.startswith("{"):
                return
            case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
                raise self._other() from None
        if location := error.headers.get("Location"):
            raise self._elsewhere(location) from None
        raise ConfigurationError(f"{self._where} answers {error.code}: {said}") from None

    def _unreachable(self, error: BaseException) -> BrokerUnreachable:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        cause = reason if isinstance(reason, BaseException) else error
        why = tls_trouble(cause)
        if isinstance(cause, ConnectionRefusedError):
            why = (
                "connection refused; is the plugin on? (`rabbitmq-plugins enable "
                "rabbitmq_management` on the server)"
            )
        elif isinstance(cause, TimeoutError):
            why = "it does not answer"
        return BrokerUnreachable(f"{self._where}: {why or reason}")

    def _elsewhere(self, location: str) -> ConfigurationError:
        parts = urlsplit(urljoin(self._base, location))
        place = parts.netloc.rpartition("@")[2]
        return ConfigurationError(
            f"{self._where} sends us on to {parts.scheme}://{place}, which is not followed, since "
            "it would be given the administrator's password; name that address if it is the right "
            "one"
        )

    def _other(self) -> ConfigurationError:
        return ConfigurationError(
            f"what answers at {self._base.removesuffix('api/')} is not RabbitMQ's management API, "
            "which is at port 15672 (https: 15671) unless configured otherwise"
        )
