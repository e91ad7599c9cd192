"""`datarun doctor`: whether strict isolation holds on this host, protection by protection."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from datarun.cli.console import Json, print_json, stderr, stdout, table

if TYPE_CHECKING:
    from datarun.doctor.protections import Protection


def doctor(json: Json = False) -> None:
    """Run a whole fold at isolation level strict, and say which protections hold on this host.

    The exit status is 0 when all that level strict needs do, else 1. It also says as whom a worker
    that is started here logs in to RabbitMQ, where one is configured.
    """
    from consumer.sandbox.levels import strict_obstacle
    from datarun.doctor.examination import examined
    from datarun.doctor.protections import protections

    if not json:
        stderr().print("running a strict fold that tries what it may not do ...")
    obstacle = strict_obstacle()
    found: tuple[Protection, ...] = () if obstacle else protections(examined())
    holds = bool(found) and all(protection.is_on for protection in found if protection.is_required)
    if json:
        protected = [asdict(protection) for protection in found]
        document = {"strict": holds, "obstacle": obstacle, "protections": protected}
        print_json({**document, "broker_user": _broker_user()})
    elif obstacle:
        stderr().print(f"strict isolation does not hold on this host: {obstacle}")
    else:
        rows = [(each.name, _state(each), each.evidence) for each in found]
        stdout().print(table(("protection", "here", "seen"), rows))
        for protection in found:
            if not protection.is_on:
                stderr().print(f"{protection.name}: {protection.remedy}")
        stdout().print("strict isolation holds" if holds else "strict isolation does not hold")
    if not json and (user := _broker_user()) is not None:
        _tell_broker_user(user)
    raise typer.Exit(0 if holds else 1)


def _state(protection: Protection) -> str:
    if protection.is_on:
        return "on"
    return "OFF" if protection.is_required else "off"


def _broker_user() -> str | None:
    """As whom a worker of role folds would log in from here; None: no RabbitMQ is configured."""
    from urllib.parse import unquote, urlsplit

    from schemas.errors import ConfigurationError
    from schemas.permissions import BrokerUser
    from schemas.settings import broker_url

    try:
        return unquote(urlsplit(broker_url(user=BrokerUser.WORKER)).username or "guest")
    except ConfigurationError:
        return None


def _tell_broker_user(user: str) -> None:
    from schemas.permissions import BrokerUser

    if user == BrokerUser.WORKER:
        stdout().print(f"a worker here logs in to RabbitMQ as {user!r}, with a worker's rights")
    else:
        stderr().print(
            f"a worker here logs in to RabbitMQ as {user!r}, who may be allowed what no worker "
            "should be; `datarun broker users` makes a user for workers (docs/broker.md)",
            markup=False,
        )
