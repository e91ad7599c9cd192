"""Options that several commands share. Each is also a setting, `DATARUN_<NAME>`."""

from __future__ import annotations

from typing import Annotated

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
        show_default=False,
    ),
]
