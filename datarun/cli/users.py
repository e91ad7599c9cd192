"""`datarun users add | list | passwd | remove`: who may use the gateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from datarun.cli.console import Json, ago, print_json, stdout, table
from datarun.cli.options import DatabaseUrl

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from schemas.settings import Settings

app = typer.Typer(help="Add and remove users of the gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's name.")]
PasswordStdin = Annotated[
    bool,
    typer.Option(
        "--password-stdin",
        metavar="",
        help="Read the password from standard input, one line; else one is made up and printed.",
    ),
]


@app.command()
def add(
    name: Name,
    admin: Annotated[
        bool,
        typer.Option(
            "--admin", metavar="", help="May see and change what other users have uploaded."
        ),
    ] = False,
    password_stdin: PasswordStdin = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Add a user."""
    from storage.users import UserRole, add_user

    password, is_made_up = _password(password_stdin)
    role = UserRole.ADMIN if admin else UserRole.USER
    with _writing(_settings(database)) as connection:
        add_user(connection, name, password, role)
    _tell(f"added {role} {name!r}", name, password if is_made_up else None, json)


@app.command("list")
def list_all(database: DatabaseUrl = None, json: Json = False) -> None:
    """List the users."""
    from storage.users import list_users

    with _writing(_settings(database)) as connection:
        users = list_users(connection)
    if json:
        print_json(
            [
                {
                    "username": user.username,
                    "role": user.role,
                    "created_at": user.created_at.isoformat(),
                }
                for user in users
            ]
        )
        return
    rows = [(user.username, user.role, ago(user.created_at)) for user in users]
    stdout().print(table(("user", "role", "added"), rows) if users else "no users")


@app.command()
def passwd(
    name: Name,
    password_stdin: PasswordStdin = False,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Set a user's password; the former one is refused from now on."""
    from datarun.up.gateway_login import GatewayLogin
    from datarun.up.home import Home
    from storage.users import set_password

    password, is_made_up = _password(password_stdin)
    settings = _settings(database)
    with _writing(settings) as connection:
        set_password(connection, name, password)
    # Only the login of this home's own stack; with another database it is somebody else.
    if database is None:
        GatewayLogin.renew(Home.at(settings.home), name, password)
    _tell(f"changed the password of {name!r}", name, password if is_made_up else None, json)


@app.command()
def remove(name: Name, database: DatabaseUrl = None, json: Json = False) -> None:
    """Remove a user. What he has uploaded stays."""
    from storage.users import remove_user

    with _writing(_settings(database)) as connection:
        remove_user(connection, name)
    _tell(f"removed {name!r}", name, None, json)


def _settings(database: str | None) -> Settings:
    from datarun.cli.services import database_settings
    from schemas.errors import ConfigurationError

    settings = database_settings(database=database)
    if settings.database is None and not settings.home.exists():
        raise ConfigurationError(
            "there is no stack here, whose users these would be: start one with `datarun up`, run "
            "this in the folder of a stack or one below, or name its database with --database"
        )
    return settings


@contextmanager
def _writing(settings: Settings) -> Iterator[Connection]:
    from storage.engine import database_url, open_engine, transaction, upgrade

    engine = open_engine(database_url(settings))
    try:
        upgrade(engine)
        with transaction(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def _password(from_stdin: bool) -> tuple[str, bool]:
    """The password, and whether it is made up. Never an argument: everybody could read it."""
    from storage.users import new_password

    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n"), False
    return new_password(), True


def _tell(what: str, name: str, password: str | None, json: bool) -> None:
    if json:
        print_json({"username": name} | ({"password": password} if password else {}))
        return
    stdout().print(what, markup=False)
    if password:
        stdout().print(f"password: {password}", markup=False)
