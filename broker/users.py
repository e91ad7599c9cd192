"""datarun's users at RabbitMQ: their passwords, and their rights on a virtual host, as definitions.

Definitions are what RabbitMQ reads from a file when it starts, or takes from an administrator
through its management API: https://www.rabbitmq.com/docs/definitions
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from broker.private_file import write_private
from schemas.permissions import PERMISSIONS, BrokerUser
from schemas.settings import BROKER_USERS_FILE, read_broker_users

_HEAD = """\
# datarun's users of RabbitMQ, kept by `datarun broker users`. It holds passwords: keep it to
# yourself. Services and clients that find it log in as theirs; on another machine, give each only
# its own: DATARUN_BROKER=amqp://worker:..."""

Definitions = dict[str, list[dict[str, Any]]]


def new_password() -> str:
    """One that nobody guesses, of characters that mean nothing in URLs."""
    return secrets.token_urlsafe(24)


def user_definition(name: str, password: str, tags: tuple[str, ...] = ()) -> dict[str, Any]:
    """A user with the hash of his password.

    https://www.rabbitmq.com/docs/passwords#computing-password-hash
    """
    salt = secrets.token_bytes(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": list(tags),
    }


def users_definitions(passwords: Mapping[BrokerUser, str]) -> Definitions:
    """The users, without any rights yet."""
    return {"users": [user_definition(user, password) for user, password in passwords.items()]}


def rights_definitions(vhost: str) -> Definitions:
    """What the users may do on a virtual host; their rights on others stay as they are."""
    return {
        "permissions": [
            {
                "user": user,
                "vhost": vhost,
                "configure": rights.configure,
                "write": rights.write,
                "read": rights.read,
            }
            for user, rights in PERMISSIONS.items()
        ],
        "topic_permissions": [
            {
                "user": user,
                "vhost": vhost,
                "exchange": topic.exchange,
                "write": topic.write,
                "read": topic.read,
            }
            for user, rights in PERMISSIONS.items()
            for topic in rights.topics
        ],
    }


def keep_urls(home: Path, urls: Mapping[BrokerUser, str]) -> Path:
    """Write the users' AMQP URLs to the file from which services and clients take theirs.

    One that says so already is left as it is: it may be where nothing can be written.
    """
    if read_broker_users(home) == urls:
        return home / BROKER_USERS_FILE
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f"{user} = {json.dumps(url, ensure_ascii=False)}" for user, url in urls.items()]
    path = home / BROKER_USERS_FILE
    write_private(path, "\n".join([_HEAD, *lines]) + "\n")
    return path


def url_of(user: str, password: str, url: str) -> str:
    """The AMQP URL with which a user logs in where `url` leads."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(
        netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}"
    ).geturl()
