"""What is kept in the home of its gateway for the next `up`: the port, and the first user."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from broker.loopback_ports import LOOPBACK
from broker.private_file import write_private
from datarun.up.home import Connection, Home
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from schemas.settings import Settings

LOGIN_FILE = "gateway.json"
"""Mode 0600. It outlives the connection file, which is there only while the stack runs."""

FIRST_USER = "datarun"


@dataclass(frozen=True)
class GatewayLogin:
    """What is kept."""

    port: int | None = None
    """Where the gateway has answered; None before the first time."""

    username: str | None = None
    password: str | None = None
    is_told: bool = False
    """Whether somebody has been told the password."""

    @property
    def credentials(self) -> dict[str, str]:
        """Of a user, where they are known."""
        if self.username is None or self.password is None:
            return {}
        return {"username": self.username, "password": self.password}

    @classmethod
    def read(cls, home: Home) -> GatewayLogin | None:
        """None when there is none yet. Raises ConfigurationError when it cannot be read."""
        path = home.folder / LOGIN_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"cannot read {path}: {error}; delete it, and set a new "
                "password with `datarun users passwd`"
            ) from error

    def write(self, home: Home) -> None:
        """Put the file in place in one step, readable by this user alone."""
        write_private(home.folder / LOGIN_FILE, json.dumps(asdict(self)))

    @classmethod
    def renew(cls, home: Home, username: str, password: str) -> None:
        """The user whose login is kept has a new password; of another one nothing is kept."""
        known = cls.read(home)
        if known is None or known.username != username:
            return
        renewed = replace(known, password=password)
        renewed.write(home)
        if home.connection_file.exists():
            connection = Connection.read(home)
            gateway = {**connection.gateway, **renewed.credentials}
            replace(connection, gateway=gateway).write(home)


def tell_once(home: Home) -> GatewayLogin | None:
    """The login, when nobody has been told the password yet."""
    login = GatewayLogin.read(home)
    if login is None or login.password is None or login.is_told:
        return None
    replace(login, is_told=True).write(home)
    return login


def prepare_users(home: Home, settings: Settings) -> None:
    """Add the first user when the database has none.

    The database is at its latest version afterwards. Raises ConfigurationError and StorageError.
    """
    from storage.engine import database_url, open_engine, transaction, upgrade
    from storage.users import UserRole, add_user, count_users, find_user, matches, new_password

    login = GatewayLogin.read(home) or GatewayLogin()
    engine = open_engine(database_url(settings))
    try:
        upgrade(engine)
        with transaction(engine) as connection:
            if count_users(connection) == 0:
                login = GatewayLogin(login.port, FIRST_USER, new_password())
                assert login.password is not None
                add_user(connection, FIRST_USER, login.password, UserRole.ADMIN)
                # Before the commit: a password that is nowhere would be of no use to anybody.
                login.write(home)
            elif login.username is not None:
                user = find_user(connection, login.username)
                if user is None or not matches(login.password or "", user.password_hash):
                    # Removed, or changed from elsewhere: what does not work is not shown.
                    login = GatewayLogin(login.port)
    finally:
        engine.dispose()
    login.write(home)


def gateway_url(settings: Settings, port: int) -> str:
    """Where clients on this machine find it."""
    host = settings.gateway_host
    if host in {"0.0.0.0", "::"}:
        host = LOOPBACK
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
