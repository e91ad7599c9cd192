"""`datarun broker users`: makes RabbitMQ's users, keeps how they log in, says what is wrong."""

from __future__ import annotations

import socket
import stat
import tomllib
from collections.abc import Iterator
from urllib.parse import urlsplit

import pika
import pytest

from broker.users import keep_urls, users_definitions
from schemas.permissions import PERMISSIONS, BrokerUser
from tests.support.command import Folder
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost, management

FILE = "broker-users.toml"


@pytest.fixture
def settings(vhost: Vhost) -> Iterator[dict[str, str]]:
    """Of an administrator. The users, whom all tests share, get their passwords back."""
    node = vhost.node
    login = f"{node.username}:{node.password}"
    yield {
        "DATARUN_BROKER": f"amqp://127.0.0.1:{node.amqp_port}/{vhost.name}",
        "DATARUN_MANAGEMENT": node.management_url.replace("://", f"://{login}@"),
    }
    passwords = {user: urlsplit(url).password or "" for user, url in node.users.items()}
    management(node, "POST", "/api/definitions", json=users_definitions(passwords))


def logs_in(url: str) -> bool:
    try:
        pika.BlockingConnection(pika.URLParameters(url)).close()
    except pika.exceptions.AMQPError:
        return False
    return True


def test_users_get_new_passwords_which_only_a_private_file_tells(
    folder: Folder, vhost: Vhost, settings: dict[str, str]
) -> None:
    # Given a RabbitMQ that has users of these names, whose passwords nobody here knows
    refused = folder.run("broker", "users", **settings)
    assert refused.returncode != 0
    assert "producer, worker, preparer, collector, observer" in refused.stderr
    assert "--new-passwords" in refused.stderr
    assert not (folder.home / FILE).exists()

    # When they are to have new ones
    printed = folder.succeed("broker", "users", "--new-passwords", **settings)

    # Then the file, which its owner alone can read, lets each in, and the former URLs do not
    file = folder.home / FILE
    urls = tomllib.loads(file.read_text())
    assert list(urls) == list(BrokerUser)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(logs_in(url) for url in urls.values())
    assert not any(logs_in(vhost.logins.of(user)) for user in BrokerUser)

    # And nothing tells the passwords but the option that asks for them, and nothing changes them
    passwords = {urlsplit(url).password or "?" for url in urls.values()}
    document = folder.json("broker", "users", **settings)
    assert document["users"]["worker"]["read"] == PERMISSIONS[BrokerUser.WORKER].read
    assert not any(password in printed + str(document) for password in passwords)
    told = folder.json("broker", "users", "--show-passwords", **settings)
    assert told["urls"] == urls == tomllib.loads(file.read_text())


def test_given_passwords_are_kept_and_found_by_services(
    folder: Folder, vhost: Vhost, settings: dict[str, str]
) -> None:
    # Given a file in which a person has written a password, for another host and virtual host
    given = {user: f"amqp://{user}:caf%C3%A9-{user}@elsewhere/other" for user in BrokerUser}
    keep_urls(folder.home, given)

    # When the users are made
    folder.succeed("broker", "users", **settings)

    # Then they have it, and on this virtual host the rights that are theirs
    (rights,) = [
        row
        for row in vhost.api("GET", "/api/users/worker/permissions").json()
        if row["vhost"] == vhost.name
    ]
    assert rights["configure"] == PERMISSIONS[BrokerUser.WORKER].configure
    topics = vhost.api("GET", f"/api/topic-permissions/{vhost.name}/worker").json()
    assert {row["exchange"] for row in topics} == {
        topic.exchange for topic in PERMISSIONS[BrokerUser.WORKER].topics
    }

    # And services that are started here log in with it
    folder.succeed("broker", "setup", DATARUN_BROKER=vhost.admin_url)
    worker = folder.start("worker", "--role", "prepare", DATARUN_CONNECT_TIMEOUT_SECONDS="20")
    try:
        assert worker.stderr is not None
        assert any("worker_ready" in line for line in worker.stderr)
        path = f"/api/vhosts/{vhost.name}/connections"
        wait_until(
            lambda: {row.get("user") for row in vhost.api("GET", path).json()} == {"preparer"},
            what="a connection of the preparer",
        )
    finally:
        worker.terminate()
        worker.communicate(timeout=30)


def test_what_keeps_users_from_being_made_is_said(
    folder: Folder, vhost: Vhost, settings: dict[str, str]
) -> None:
    # Given a user who may look at everything, and make nobody
    node, url = vhost.node, settings["DATARUN_MANAGEMENT"]
    guard = {"password": "sesame77", "tags": "monitoring"}
    management(node, "PUT", "/api/users/guard", json=guard)
    bare = node.management_url
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]

    # When something is wrong or missing, then a sentence says what, without a password
    wrong = {
        "name the RabbitMQ": {"DATARUN_BROKER": None},
        "set DATARUN_MANAGEMENT": {"DATARUN_MANAGEMENT": None},
        "names no administrator and password": {"DATARUN_MANAGEMENT": bare},
        "must be http": {"DATARUN_MANAGEMENT": "ftp://a:sesame77@b"},
        "is no administrator": {
            "DATARUN_MANAGEMENT": bare.replace("://", "://guard:sesame77@"),
        },
        "wrong user name or password": {
            "DATARUN_MANAGEMENT": bare.replace("://", f"://{node.username}:sesame77@"),
        },
        "connection refused; is the plugin on": {
            "DATARUN_MANAGEMENT": url.replace(f":{node.management_port}", f":{free}"),
        },
        "is not RabbitMQ's management API": {"DATARUN_MANAGEMENT": f"{url}/elsewhere"},
        "no virtual host 'nowhere'": {
            "DATARUN_BROKER": settings["DATARUN_BROKER"].replace(vhost.name, "nowhere")
        },
    }
    try:
        for says, changed in wrong.items():
            given = {name: text for name, text in {**settings, **changed}.items() if text}
            done = folder.run("broker", "users", **given)
            assert done.returncode != 0, says
            assert says in done.stderr, done.stderr
            assert "sesame77" not in done.stderr
            assert node.password not in done.stderr
    finally:
        management(node, "DELETE", "/api/users/guard")
    assert not (folder.home / FILE).exists()
