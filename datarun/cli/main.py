"""The `datarun` command: its groups of commands, and how it ends when something is wrong."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from datarun.cli import (
    attack,
    broker,
    data,
    dead_letters,
    demo,
    doctor,
    folds,
    health,
    results,
    services,
    stack,
    status,
    submit,
    users,
)
from datarun.cli.arguments import as_typed
from datarun.cli.console import INTERRUPTED, print_json, stderr
from schemas.errors import DatarunError

app = typer.Typer(
    name="datarun",
    help="Train and test machine-learning submissions on cross-validation folds, over RabbitMQ.",
    epilog="Begin with `datarun demo`, which needs no configuration and leaves nothing behind.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

STACK = "A whole stack on this machine"
WORK = "Data sets, submissions and results"
PARTS = "The parts, for an installation of your own"

app.command(rich_help_panel=STACK)(demo.demo)
app.command(rich_help_panel=STACK)(attack.attack)
app.command(rich_help_panel=STACK)(stack.up)
app.command(rich_help_panel=STACK)(stack.down)
app.command(rich_help_panel=STACK)(status.status)
app.command(rich_help_panel=STACK)(doctor.doctor)
app.add_typer(data.app, name="data", rich_help_panel=WORK)
app.command(rich_help_panel=WORK)(submit.submit)
app.add_typer(folds.app, name="folds", rich_help_panel=WORK)
app.add_typer(results.app, name="results", rich_help_panel=WORK)
app.command(rich_help_panel=PARTS)(services.worker)
app.command(rich_help_panel=PARTS)(services.collector)
app.command(rich_help_panel=PARTS)(services.gateway)
app.command(rich_help_panel=PARTS)(health.health)
app.add_typer(users.app, name="users", rich_help_panel=PARTS)
app.add_typer(broker.app, name="broker", rich_help_panel=PARTS)
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=PARTS)
app.command(rich_help_panel=PARTS)(services.schema)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"datarun {version('datarun')}")
        raise typer.Exit


@app.callback()
def _datarun(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            help="Print the version of datarun, and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command of this process's arguments, and exit with its status."""
    arguments = sys.argv[1:]
    wants_json = "--json" in arguments
    try:
        try:
            status = app(arguments, standalone_mode=not wants_json)
        except SystemExit as end:
            status = end.code
        # The stream itself: typer puts another in its place, which keeps quiet about a closed pipe
        # and leaves what is written to the interpreter, which does not.
        if sys.__stdout__ is not None:
            sys.__stdout__.flush()
    except (DatarunError, TimeoutError) as error:
        sentences = [as_typed(str(error)), *getattr(error, "__notes__", ())]
        status = _fail("; ".join(sentences), 1, wants_json)
    except typer.TyperException as error:
        status = _fail(error.format_message(), error.exit_code, wants_json)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter's own flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _fail(sentence: str, status: int, wants_json: bool) -> int:
    if wants_json:
        print_json({"error": sentence})
    else:
        from rich.text import Text

        stderr().print(Text(f"Error: {sentence}", style="red"))
    return status
