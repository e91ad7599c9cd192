"""Which services a stack has."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.permissions import BrokerUser
from schemas.states import Role


@dataclass(frozen=True)
class Service:
    """What to run: a `datarun` command."""

    name: str
    arguments: tuple[str, ...]
    user: BrokerUser | None = None
    """As whom it logs in to RabbitMQ; None: it does not."""


COLLECTOR = Service("collector", ("collector",), BrokerUser.COLLECTOR)
PREPARE_WORKER = Service(
    "prepare worker", ("worker", "--role", Role.PREPARE), BrokerUser.of_worker(Role.PREPARE)
)
FOLDS_WORKER = Service(
    "folds worker", ("worker", "--role", Role.FOLDS), BrokerUser.of_worker(Role.FOLDS)
)
GATEWAY = Service("gateway", ("gateway",))
