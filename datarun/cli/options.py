"""Options that several commands share. Each is also a setting, `DATARUN_<NAME>`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from schemas.states import Isolation

Slots = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many folds run at one time; one a core unless given. Setting: DATARUN_SLOTS.",
        show_default=False,
    ),
]
BrokerUrl = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="URL",
        help="Use this RabbitMQ, amqp://user:password@host/vhost. "
        "Better set DATARUN_BROKER: everybody on a machine can read arguments.",
        show_default=False,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Store verdicts in this database, such as postgresql+psycopg://user@host/name; "
        "unless given, an SQLite file in the home. Setting: DATARUN_DATABASE.",
        show_default=False,
    ),
]
IsolationLevel = Annotated[
    Isolation | None,
    typer.Option(
        "--isolation",
        help="How far a fold is kept from the host: `strict`, `process` or `none`. "
        "Setting: DATARUN_ISOLATION.",
        case_sensitive=False,
        show_default=False,
    ),
]
PrivateSubmissions = Annotated[
    bool | None,
    typer.Option(
        "--private-submissions",
        metavar="",
        help="REST users see the folds and predictions of their own submissions only; admins see "
        "all. Setting: DATARUN_PRIVATE_SUBMISSIONS.",
        show_default=False,
    ),
]


def gateway_host(name: str) -> Any:
    """The option for DATARUN_GATEWAY_HOST, under this name."""
    return typer.Option(
        name,
        metavar="ADDRESS",
        help="Address that REST is answered at; beyond this machine, put a server with TLS before "
        "it. Setting: DATARUN_GATEWAY_HOST.",
        show_default="127.0.0.1",
    )


def gateway_port(name: str, default: str) -> Any:
    """The option for DATARUN_GATEWAY_PORT, under this name."""
    return typer.Option(
        name,
        metavar="PORT",
        help="Port that REST is answered at. Setting: DATARUN_GATEWAY_PORT.",
        show_default=default,
    )


def gateway_body_bytes(name: str) -> Any:
    """The option for DATARUN_GATEWAY_BODY_BYTES, under this name."""
    return typer.Option(
        name,
        metavar="BYTES",
        help="Largest body of a REST request; larger ones are answered with 413. "
        "Setting: DATARUN_GATEWAY_BODY_BYTES.",
        show_default="268435456",
    )
