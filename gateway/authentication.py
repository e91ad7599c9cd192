"""Basic authentication, checked against the users in the database at every request."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import threading
from collections import OrderedDict

from fastapi.openapi.models import HTTPBase
from fastapi.security.base import SecurityBase
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from gateway.database import Database
from gateway.login_turns import LoginTurns
from gateway.refusals import Unauthorized, WrongLogin
from gateway.together import Together
from storage.users import Account, find_user, find_users, matches, nobodys_hash

REMEMBERED = 1_000
"""Passwords that are known to be right: argon2 is slow on purpose, and scripts poll."""


class Authenticator:
    """Knows whose name and password a request brings. Used by many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()
        self._users: Together[str, Account | None] = Together(
            lambda names: database.read(find_users, names)
        )
        self.turns = LoginTurns()
        """Who has one may call `account`: those who wait take no thread from others."""

    async def find(self, username: str, password: str) -> tuple[Account | None, bool]:
        """The user of that name, and whether that is known to be his password. Takes no time.

        Raises DatabaseAway.
        """
        found = await self._users.run(username)
        if found is None:
            return None, False
        return found, self._is_remembered(self._digest(username, password), found)

    def account(self, username: str, password: str) -> Account:
        """The user. Takes long. Raises WrongLogin, and DatabaseAway."""
        found = self._database.read(find_user, username)
        if found is None:
            matches(password, nobodys_hash())
        elif self._is_right(found, password):
            return found
        raise WrongLogin

    def _is_right(self, account: Account, password: str) -> bool:
        digest = self._digest(account.username, password)
        # Of many that came at once with the same password, one has found out meanwhile.
        if self._is_remembered(digest, account):
            return True
        if not matches(password, account.password_hash):
            return False
        with self._lock:
            self._right[digest] = account.password_hash
            while len(self._right) > REMEMBERED:
                self._right.popitem(last=False)
        return True

    def _digest(self, username: str, password: str) -> bytes:
        return hashlib.blake2b(f"{username}\0{password}".encode(), key=self._key).digest()

    def _is_remembered(self, digest: bytes, account: Account) -> bool:
        # With the hash that it matched: a changed password makes all that is remembered useless.
        with self._lock:
            return self._right.get(digest) == account.password_hash


class BasicAuthentication(SecurityBase):
    """The dependency of every endpoint: raises Unauthorized or Busy, else leaves the account."""

    def __init__(self) -> None:
        self.model = HTTPBase(
            scheme="basic", description="A user's name and password (`datarun users add`)."
        )
        self.scheme_name = "basic"

    async def __call__(self, request: Request) -> Account:
        """The user who asks."""
        username, password = _credentials(request.headers.get("Authorization", ""))
        authenticator: Authenticator = request.app.state.authenticator
        found, is_known = await authenticator.find(username, password)
        if found is not None and is_known:
            return found
        async with authenticator.turns.of(username, is_user=found is not None):
            return await run_in_threadpool(authenticator.account, username, password)


def _credentials(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized("give a user's name and password by HTTP basic authentication")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise Unauthorized("the Authorization header is not base64 of name:password") from error
    username, colon, password = text.partition(":")
    if not colon or "\0" in username:
        raise Unauthorized("the Authorization header is not base64 of name:password")
    return username, password
