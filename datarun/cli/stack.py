"""`datarun up` and `datarun down`: a whole stack on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datarun.cli.console import INTERRUPTED, Json, print_json, stderr
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

if TYPE_CHECKING:
    from datarun.up.home import Home
    from datarun.up.notices import Listener

HomeFolder = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="The folder of the node, the database, caches and logs. Setting: DATARUN_HOME.",
        show_default=".datarun",
    ),
]


def up(
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            "-d",
            metavar="",
            help="Return when everything is ready; stop it with `datarun down`.",
        ),
    ] = False,
    slots: Slots = None,
    broker: BrokerUrl = None,
    database: DatabaseUrl = None,
    isolation: IsolationLevel = None,
    home: HomeFolder = None,
    host: Annotated[str | None, gateway_host("--gateway-host")] = None,
    port: Annotated[
        int | None, gateway_port("--gateway-port", default="a free one, the same each time")
    ] = None,
    body_bytes: Annotated[int | None, gateway_body_bytes("--gateway-body-bytes")] = None,
    private_submissions: PrivateSubmissions = None,
    json: Json = False,
) -> None:
    """Start RabbitMQ, the workers, the collector and the gateway; stop them all on Ctrl-C.

    Clients find them through the file connection.toml in the home, from any folder below.
    The first Ctrl-C lets running folds finish within a grace period, the second does not wait.
    """
    from datarun.cli.isolation import with_isolation
    from datarun.up.home import Home, running_above
    from datarun.up.launch import launch
    from datarun.up.notices import Notice, NoticeKind
    from schemas.settings import load_settings

    settings, level = with_isolation(
        load_settings(
            slots=slots,
            broker=broker,
            database=database,
            isolation=isolation,
            home=home,
            gateway_host=host,
            gateway_port=port,
            gateway_body_bytes=body_bytes,
            private_submissions=private_submissions,
        ),
        or_weaker=True,
    )
    place = Home.at(settings.home)
    tell = _quiet if json else tell_on_stderr()
    above = running_above(Path.cwd())
    if above is not None and above.folder != place.folder.resolve() and not json:
        stderr().print(f"another datarun runs in {above.folder}; this one is its own", markup=False)

    def listen(notice: Notice) -> None:
        if notice.kind is not NoticeKind.READY:
            tell(notice)
        elif json:
            print_json(_document(place))
        else:
            _print_ready(place, level, detach)

    if detach:
        launch(settings, listen, attached=False)
    else:
        # Imports the database's and the broker's packages, for which --detach has a process.
        from datarun.up.supervisor import Supervisor

        if not Supervisor(settings, listen).run():
            raise typer.Exit(INTERRUPTED)


def down(home: HomeFolder = None, json: Json = False) -> None:
    """Stop what `datarun up` started here, and wait until nothing of it is left.

    A stack in a folder above is left alone: name it with --home.
    """
    from datarun.up.home import Home, running_above
    from datarun.up.launch import stop
    from schemas.errors import ConfigurationError
    from schemas.settings import load_settings

    settings = load_settings(home=home)
    place = Home.at(settings.home)
    if place.holder() is not None:
        if not json:
            stderr().print(f"stopping the stack of {place.folder}", markup=False)
            _say_what_is_waited_for(place)
    elif (
        "home" not in settings.model_fields_set
        and not place.connection_file.exists()  # else there is something to clean up
        and (above := running_above(Path.cwd()))
    ):
        raise ConfigurationError(
            f"nothing runs in {place.folder}; a stack runs in {above.folder}, "
            f"stop it with `datarun down --home {shlex.quote(str(above.folder))}`"
        )
    was_running = stop(place)
    if json:
        print_json({"home": str(place.folder), "was_running": was_running})
    elif was_running:
        stderr().print("stopped")
    else:
        stderr().print(f"nothing was running in {place.folder}")


def _say_what_is_waited_for(place: Home) -> None:
    from datarun.up.home import Connection
    from datarun.up.readiness import folds_running, folds_that_run

    if not place.connection_file.exists():
        return  # it starts or stops already
    connection = Connection.read(place)
    running = folds_running(connection.broker, set(connection.pids.values()))
    if running:
        stderr().print(f"{folds_that_run(running)}; waiting until they end or their grace is over")


def tell_on_stderr() -> Listener:
    """A listener that prints a line for each notice."""
    from datarun.up.notices import Notice, NoticeKind

    console = stderr()
    styles = {
        NoticeKind.STARTED: "green",
        NoticeKind.WARNING: "yellow",
        NoticeKind.DIED: "red",
        NoticeKind.STOPPED: "bold",
    }

    def tell(notice: Notice) -> None:
        if notice.kind is NoticeKind.STARTING and notice.service != "broker":
            return  # a second later it is started, which is what counts
        console.print(notice.text, style=styles.get(notice.kind, "dim"), markup=False)

    return tell


def _quiet(notice: Any) -> None:
    """For --json: what a program needs stands in the one document."""


def _document(home: Home) -> dict[str, Any]:
    from datarun.up.home import Connection

    connection = Connection.read(home)
    return {
        "home": str(home.folder),
        "connection": str(home.connection_file),
        "logs": str(home.logs),
        "management": connection.management,
        "gateway": dict(connection.gateway),
        "supervisor": connection.supervisor,
        "pids": dict(connection.pids),
        "started": connection.started.isoformat(),
    }


def _print_ready(home: Home, isolation: str, detached: bool) -> None:
    from datarun.up.gateway_login import tell_once
    from datarun.up.home import Connection

    connection = Connection.read(home)
    console = stderr()
    lines = [f"ready; logs are in {home.logs}", isolation]
    if connection.management is not None:
        lines.append(
            f"RabbitMQ's console: {connection.management} "
            f"(user and password are in {home.connection_file})"
        )
    gateway = connection.gateway
    lines.append(f"REST: {gateway['url']}, described at {gateway['url']}docs")
    # Said once; later `datarun status --json` says it to whoever may read the file.
    if login := tell_once(home):
        lines.append(f"REST user {login.username}, password {login.password}")
    lines.append("stop with `datarun down`" if detached else "stop with Ctrl-C")
    for line in lines:
        console.print(line, markup=False)
