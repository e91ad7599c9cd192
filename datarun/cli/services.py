"""`datarun worker`, `collector`, `gateway`, `schema`: the parts, one process each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from datarun.cli.console import Json, print_json
from datarun.cli.options import (
    BrokerUrl,
    DatabaseUrl,
    IsolationLevel,
    PrivateSubmissions,
    Slots,
    gateway_body_bytes,
    gateway_host,
    gateway_port,
)
from schemas.permissions import BrokerUser
from schemas.states import Role

if TYPE_CHECKING:
    from schemas.settings import Settings

logger = logging.getLogger(__name__)


def worker(
    role: Annotated[
        Role | None,
        typer.Option(
            help="What it takes from the queues: `folds` trains and tests submissions, "
            "`prepare` splits data sets. Setting: DATARUN_ROLE.",
            show_default="folds",
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            help="The pool whose folds it takes. Setting: DATARUN_POOL.", show_default="default"
        ),
    ] = None,
    slots: Slots = None,
    isolation: IsolationLevel = None,
    broker: BrokerUrl = None,
    json: Json = False,
) -> None:
    """Run a worker until it is stopped.

    The first SIGTERM or Ctrl-C lets running folds finish within a grace period.
    The second gives them back to the queue at once.
    """
    from datarun.cli.isolation import with_isolation

    settings, level = with_isolation(
        service_settings(role=role, pool=pool, slots=slots, isolation=isolation, broker=broker)
    )
    if json:
        print_json({"role": settings.role, "pool": settings.pool, "isolation": settings.isolation})
    with _logging(settings, f"{settings.role} worker"):
        if settings.role is Role.FOLDS and not json:
            extra = {"action": "isolation_chosen", "isolation": settings.isolation}
            logger.info("%s", level, extra=extra)

        # Only now: what is wrong with the settings is said at once.
        from consumer.main import run_worker

        run_worker(settings, settings.role)


def collector(database: DatabaseUrl = None, broker: BrokerUrl = None, json: Json = False) -> None:
    """Run the collector, which stores verdicts and answers questions, until it is stopped.

    A second collector on the same RabbitMQ is a hot standby: it takes over when the first ends.
    """
    settings = service_settings(BrokerUser.COLLECTOR, database=database, broker=broker)

    from storage.main import run_collector

    if json:
        print_json({"role": "collector"})
    with _logging(settings, "collector"):
        run_collector(settings)


def gateway(
    host: Annotated[str | None, gateway_host("--host")] = None,
    port: Annotated[int | None, gateway_port("--port", default="8000")] = None,
    body_bytes: Annotated[int | None, gateway_body_bytes("--body-bytes")] = None,
    private_submissions: PrivateSubmissions = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Run the gateway, which answers REST requests, until it is stopped.

    It needs the database and no RabbitMQ: what it accepts is published by the collector.
    """
    settings = database_settings(
        database=database,
        gateway_host=host,
        gateway_port=port,
        gateway_body_bytes=body_bytes,
        private_submissions=private_submissions,
    )

    from gateway.main import run_gateway

    if json:
        print_json({"role": "gateway"})
    with _logging(settings, "gateway"):
        run_gateway(settings)


def schema(
    asyncapi: Annotated[
        bool,
        typer.Option(
            "--asyncapi",
            metavar="",
            help="Print the AsyncAPI 3.0 document: also exchanges, queues and examples.",
        ),
    ] = False,
    json: Json = False,  # noqa: ARG001 - it prints JSON either way
) -> None:
    """Print the JSON Schema of every message, for programs in any language."""
    if asyncapi:
        from schemas.asyncapi.document import asyncapi as document
    else:
        from schemas.json_schema import json_schema as document

    print_json(document())


@contextmanager
def _logging(settings: Settings, service: str) -> Iterator[None]:
    """The log of a service; where that is JSON, its last word is a line of it, too."""
    from datarun.logs import log_to_stderr
    from schemas.errors import DatarunError

    is_json = log_to_stderr(settings.log_level, settings.log_format, service=service)
    try:
        yield
    except DatarunError as error:
        if not is_json:
            raise
        logger.error("%s", error, extra={"action": "service_failed"})
        raise typer.Exit(1) from error
    except Exception as error:
        if not is_json:
            raise
        logger.exception("the service broke", extra={"action": "service_broken"})
        raise typer.Exit(1) from error


def database_settings(**given: object) -> Settings:
    """The settings of what needs the database alone: what is given, then what the connection file
    of a running stack says, then SQLite in the home."""
    from pydantic import SecretStr

    from schemas.settings import find_home, load_settings, read_connection

    settings = load_settings(**given)
    found = find_home()
    if found is None:
        return settings
    known: dict[str, object] = {"home": found.absolute()}
    if settings.database is None and (database := read_connection(found).get("database")):
        known["database"] = SecretStr(database)
    return settings.model_copy(update=known)


def service_settings(user: BrokerUser | None = None, **given: object) -> Settings:
    """The settings of a service: what is given, then what a running stack's connection file says.

    user: as whom it logs in to RabbitMQ where that says; None: as a worker of the role that is set.

    Raises ConfigurationError when no broker is configured.
    """
    from pydantic import SecretStr

    from schemas.settings import broker_url

    settings = database_settings(**given)
    user = user or BrokerUser.of_worker(settings.role)
    chosen = settings.broker.get_secret_value() if settings.broker else None
    return settings.model_copy(update={"broker": SecretStr(broker_url(chosen, user))})
