"""`datarun broker setup`: the shared exchanges, queues and bindings."""

from __future__ import annotations

from typing import Annotated

import typer

from datarun.cli.console import Json, print_json, stdout
from datarun.cli.options import BrokerUrl
from schemas.topology import QueueType

app = typer.Typer(help="Prepare a RabbitMQ of your own for datarun.", no_args_is_help=True)


@app.callback()
def _broker() -> None: ...


@app.command()
def setup(
    broker: BrokerUrl = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            help="Declare queues for this pool of workers; repeat it for several. "
            "Setting: DATARUN_POOLS.",
            show_default="default",
        ),
    ] = None,
    queue_type: Annotated[
        QueueType | None,
        typer.Option(
            help="`classic` is strict on priorities; `quorum` is for clusters on RabbitMQ 4.0 or "
            "later. Setting: DATARUN_QUEUE_TYPE.",
            show_default="classic",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Declare exchanges, queues and bindings; those that exist are used as they stand."""
    from datarun.up.readiness import declare_shared_topology
    from schemas.settings import broker_url, load_settings
    from schemas.topology import topology

    settings = load_settings(
        broker=broker, pools=tuple(pool) if pool else None, queue_type=queue_type
    )
    chosen = settings.broker.get_secret_value() if settings.broker else None
    declare_shared_topology(broker_url(chosen), settings)
    declared = topology(settings.pools, settings.queue_type)
    queues = [queue.name for queue in declared.queues]
    if json:
        print_json({"exchanges": [item.name for item in declared.exchanges], "queues": queues})
        return
    stdout().print(f"{len(declared.exchanges)} exchanges and {len(queues)} queues are in place")
