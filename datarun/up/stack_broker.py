"""The RabbitMQ of a stack: a private node that it starts, or a server that it is given."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from broker.addresses import place
from broker.private_node import NodeAddress, PrivateNode
from datarun.up.home import Home
from datarun.up.service import Pauses
from schemas.errors import NodeError
from schemas.permissions import BrokerUser
from schemas.settings import Settings, broker_url, read_broker_users


class PrivateBroker:
    """A private node in the home; its messages outlive a stop, and a crash."""

    description = "RabbitMQ"
    starting = "starting RabbitMQ"
    stopping = "stopping RabbitMQ"
    consumer_timeout_raised = True
    """Above the wall limit of any fold."""

    def __init__(self, home: Home, *, disposable: bool) -> None:
        """disposable: nobody will start this home again, so the node is stopped the quick way."""
        self._node = PrivateNode(home.node)
        self._disposable = disposable
        self._address: NodeAddress | None = None
        self._pauses = Pauses()
        self._started = 0.0

    def start(self) -> None:
        """Return when it takes connections. Raises NodeError."""
        address = self._node.start()
        if self._address is not None and address.amqp_url != self._address.amqp_url:
            raise NodeError(
                f"RabbitMQ came back at port {address.amqp_port}, since another program has taken "
                f"{self._address.amqp_port}; start the stack again"
            )
        self._address = address
        self._started = time.monotonic()

    def death(self) -> float | None:
        """None while it runs; after it has died, how many seconds to wait before starting it."""
        if self._node.is_running():
            return None
        return self._pauses.after_a_life_of(time.monotonic() - self._started)

    def stop(self) -> None:
        """Stop it and wait for its end; does nothing when it does not run."""
        self._node.stop(clean=not self._disposable)

    @property
    def url(self) -> str:
        """AMQP URL of an administrator, who declares what is shared."""
        return self._running.amqp_url

    @property
    def users(self) -> Mapping[BrokerUser, str]:
        """AMQP URLs of the services' own users."""
        return self._running.users

    @property
    def management(self) -> str | None:
        """URL of the management console, without user and password."""
        return self._running.management_url

    @property
    def user(self) -> str | None:
        """Who may log in there."""
        return self._running.username

    @property
    def password(self) -> str | None:
        """With which password."""
        return self._running.password

    @property
    def _running(self) -> NodeAddress:
        assert self._address is not None, "not started"
        return self._address


class GivenBroker:
    """A server that somebody else runs: never started, never stopped."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigurationError when the URL is not AMQP's."""
        self.url = broker_url(settings.broker.get_secret_value() if settings.broker else None)
        parts = urlsplit(self.url)
        self.description = f"RabbitMQ at {parts.hostname}"
        self.starting = f"connecting to {self.description}"
        self.consumer_timeout_raised = settings.consumer_timeout_raised
        self.stopping = f"leaving {self.description} as it is"
        self.management, self.user, self.password = _login(settings)
        self.users = _users_at(self.url, settings.home)
        """Those of `datarun broker users`, if they are of this server; else all log in alike."""

    def start(self) -> None:
        """It runs; declaring the topology will show whether it does."""

    def death(self) -> float | None:
        """Not ours to say: services wait for a server that is away."""
        return None

    def stop(self) -> None:
        """It goes on running."""


def _users_at(url: str, home: Path) -> Mapping[BrokerUser, str]:
    kept = read_broker_users(home)
    if {place(known) for known in kept.values()} != {place(url)}:
        return {}
    return {user: broker_url(known) for user, known in kept.items()}


def _login(settings: Settings) -> tuple[str | None, str | None, str | None]:
    """The management URL without its login, the user and the password."""
    if settings.management is None:
        return None, None, None
    parts = urlsplit(settings.management.get_secret_value())
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return urlunsplit(bare), parts.username, parts.password
