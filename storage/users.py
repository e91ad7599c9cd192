"""Users of the gateway: names, argon2 hashes of passwords, roles."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from schemas.errors import UserError
from storage.gateway_models import User

MAX_USERNAME = 100
MAX_PASSWORD = 1000

_HASHER = PasswordHasher()


class UserRole(StrEnum):
    """What a user may do."""

    USER = "user"
    """Everything with one's own submissions and data sets."""

    ADMIN = "admin"
    """Everything with everybody's."""


@dataclass(frozen=True)
class Account:
    """A user, as the database knows him."""

    username: str
    role: UserRole
    created_at: datetime
    password_hash: str

    @property
    def is_admin(self) -> bool:
        """Whether he may see and change what others have uploaded."""
        return self.role is UserRole.ADMIN


def new_password() -> str:
    """A password nobody has to remember: 144 random bits."""
    return secrets.token_urlsafe(18)


def add_user(connection: Connection, username: str, password: str, role: UserRole) -> None:
    """Raises UserError when the name or the password is refused, or the name is taken."""
    if not 0 < len(username) <= MAX_USERNAME or ":" in username or not username.isprintable():
        raise UserError(
            f"{username[:MAX_USERNAME]!r} cannot be a user's name: use 1 to {MAX_USERNAME} "
            "printable characters, without ':', which ends the name in basic authentication"
        )
    if find_user(connection, username) is not None:
        raise UserError(f"there is a user {username!r} already; see `datarun users list`")
    row = {
        "username": username,
        "password_hash": hashed(password),
        "role": role.value,
        "created_at": datetime.now(UTC),
    }
    connection.execute(insert(User), [row])


def set_password(connection: Connection, username: str, password: str) -> None:
    """Raises UserError when there is no such user, or the password is refused."""
    _check_known(connection, username)
    connection.execute(
        update(User).where(User.username == username).values(password_hash=hashed(password))
    )


def remove_user(connection: Connection, username: str) -> None:
    """What he uploaded stays. Raises UserError when there is no such user."""
    _check_known(connection, username)
    connection.execute(delete(User).where(User.username == username))


def find_user(connection: Connection, username: str) -> Account | None:
    """The user of that name."""
    return find_users(connection, [username])[0]


def find_users(connection: Connection, usernames: Sequence[str]) -> list[Account | None]:
    """The user of each name."""
    rows = connection.execute(select(User.__table__).where(User.username.in_(frozenset(usernames))))
    found = {row.username: _account(row) for row in rows}
    return [found.get(username) for username in usernames]


def list_users(connection: Connection) -> list[Account]:
    """All users, by name."""
    rows = connection.execute(select(User.__table__).order_by(User.username))
    return [_account(row) for row in rows]


def count_users(connection: Connection) -> int:
    """How many there are."""
    return connection.scalar(select(func.count()).select_from(User)) or 0


@functools.cache
def nobodys_hash() -> str:
    """No password has it: an unknown name takes as long to refuse as a wrong password."""
    return _HASHER.hash(secrets.token_hex())


def matches(password: str, password_hash: str) -> bool:
    """Whether that is the password. Takes some 50 ms and 64 MiB, on purpose."""
    try:
        return _HASHER.verify(password_hash, password[: MAX_PASSWORD + 1])
    except (VerificationError, InvalidHashError):
        return False


def hashed(password: str) -> str:
    """What is stored of a password. Raises UserError when it is refused."""
    if not 0 < len(password) <= MAX_PASSWORD:
        raise UserError(f"a password has 1 to {MAX_PASSWORD} characters")
    return _HASHER.hash(password)


def _check_known(connection: Connection, username: str) -> None:
    if find_user(connection, username) is None:
        raise UserError(f"there is no user {username!r}; see `datarun users list`")


def _account(row: Row[Any]) -> Account:
    return Account(row.username, UserRole(row.role), row.created_at, row.password_hash)
