"""`datarun broker setup | users`: what is shared at RabbitMQ, and who may use it."""

from __future__ import annotations

from dataclasses import asdict
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
    """Declare exchanges, queues and bindings; those that exist are used as they stand.

    It takes an administrator's login, or any that may configure everything; in a stack of
    `datarun up`, that of the console is taken from its connection.toml.
    """
    from datarun.cli.dead_letters import operators_url
    from datarun.up.readiness import declare_shared_topology
    from schemas.settings import load_settings
    from schemas.topology import topology

    settings = load_settings(
        broker=broker, pools=tuple(pool) if pool else None, queue_type=queue_type
    )
    declare_shared_topology(operators_url(broker), settings)
    declared = topology(settings.pools, settings.queue_type)
    queues = [queue.name for queue in declared.queues]
    if json:
        print_json({"exchanges": [item.name for item in declared.exchanges], "queues": queues})
        return
    stdout().print(f"{len(declared.exchanges)} exchanges and {len(queues)} queues are in place")


@app.command()
def users(
    broker: BrokerUrl = None,
    management: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="RabbitMQ's management API, https://administrator:password@host:15671. "
            "Better set DATARUN_MANAGEMENT: everybody on a machine can read arguments.",
            show_default=False,
        ),
    ] = None,
    new_passwords: Annotated[
        bool,
        typer.Option(
            "--new-passwords",
            metavar="",
            help="Give all of them new passwords; whoever is connected stays so.",
        ),
    ] = False,
    show_passwords: Annotated[
        bool,
        typer.Option("--show-passwords", metavar="", help="Print how each of them logs in."),
    ] = False,
    json: Json = False,
) -> None:
    """Make RabbitMQ's users: producer, worker, preparer, collector, observer.

    Each gets the least rights that its work takes. Their URLs are kept in broker-users.toml in the
    home (mode 0600), where services and clients find theirs; run again, passwords stay.
    """
    from broker.management import Management
    from broker.tls import context
    from broker.user_setup import set_up_users
    from schemas.errors import ConfigurationError
    from schemas.permissions import PERMISSIONS
    from schemas.settings import broker_url, load_settings

    settings = load_settings(broker=broker, management=management)
    if settings.broker is None:
        raise ConfigurationError(
            "name the RabbitMQ that the users are for: DATARUN_BROKER=amqps://host/vhost. (That "
            "of `datarun up` has them already)"
        )
    if settings.management is None:
        raise ConfigurationError(
            "users are made by an administrator, through RabbitMQ's management API: set "
            "DATARUN_MANAGEMENT=https://administrator:password@host:15671"
        )
    files = (settings.broker_ca, settings.broker_cert, settings.broker_key)
    api = Management(
        settings.management.get_secret_value(),
        context(*(None if path is None else str(path) for path in files)),
    )
    made = set_up_users(
        api,
        broker_url(settings.broker.get_secret_value()),
        settings.home.absolute(),
        new_passwords=new_passwords,
    )
    urls = {str(user): url for user, url in made.urls.items()} if show_passwords else {}
    if json:
        rights = {user: asdict(PERMISSIONS[user]) for user in made.urls}
        print_json(
            {"vhost": made.vhost, "file": str(made.file), "users": rights}
            | ({"urls": urls} if urls else {})
        )
        return
    names = ", ".join(made.urls)
    stdout().print(f"{names} may use virtual host {made.vhost!r}", markup=False)
    stdout().print(f"{made.file} holds how each logs in", markup=False, soft_wrap=True)
    for url in urls.values():
        stdout().print(url, markup=False, soft_wrap=True)
