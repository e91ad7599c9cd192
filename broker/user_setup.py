"""`datarun broker users`: makes datarun's users at a RabbitMQ, and keeps how they log in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from broker.management import Management
from broker.tls import secured
from broker.users import keep_urls, new_password, rights_definitions, url_of, users_definitions
from schemas.errors import ConfigurationError
from schemas.permissions import BrokerUser
from schemas.settings import read_broker_users


@dataclass(frozen=True)
class UsersMade:
    """What stands now."""

    vhost: str
    file: Path
    urls: Mapping[BrokerUser, str]


def set_up_users(api: Management, url: str, home: Path, *, new_passwords: bool) -> UsersMade:
    """Make the users, with their rights on the virtual host of `url`, in which no login matters.

    A password that the file in `home` holds is kept, also one that a person has written there.
    Raises ConfigurationError when a user is there already and his password is not; and what
    `Management` raises.
    """
    api.check_administrator()
    vhost = unquote(urlsplit(url).path[1:]) or "/"
    if not api.has_vhost(vhost):
        raise ConfigurationError(
            f"RabbitMQ has no virtual host {vhost!r}; `rabbitmqctl add_vhost {vhost}` makes it"
        )
    kept = {} if new_passwords else _passwords(home)
    if not new_passwords:
        strangers = [user for user in BrokerUser if user not in kept and api.has_user(user)]
        if strangers:
            raise ConfigurationError(
                f"RabbitMQ has users whose passwords are not kept in {home}: "
                f"{', '.join(strangers)}. With --new-passwords they get new ones, and whoever "
                "logs in with the old ones is refused; or copy the file of that name here"
            )
    passwords = {user: kept.get(user) or new_password() for user in BrokerUser}
    bare, _ = secured(url)
    urls = {user: url_of(user, password, bare) for user, password in passwords.items()}
    # Before they hold: a password that is nowhere would be of no use to anybody.
    file = keep_urls(home, urls)
    api.define(users_definitions(passwords) | rights_definitions(vhost))
    return UsersMade(vhost, file, urls)


def _passwords(home: Path) -> dict[BrokerUser, str]:
    known = {user: urlsplit(url).password for user, url in read_broker_users(home).items()}
    return {user: unquote(password) for user, password in known.items() if password}
