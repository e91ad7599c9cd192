"""Whatever goes wrong, at the most talkative level: no password in logs, arguments or errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from schemas.permissions import BrokerUser
from schemas.settings import read_connection
from tests.support.command import Folder, environment, keep_urls, stack_in
from tests.support.deadline import wait_until
from tests.support.rabbitmq import Vhost
from tests.support.tcp_proxy import TcpProxy

WRONG = "wrong-sesame-77"
"""A password that nothing accepts: an error about it may not repeat it either."""


def password_of(url: str) -> str:
    return urlsplit(url).password or ""


def arguments_of_everybody() -> Iterator[str]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                yield (process / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue


@pytest.mark.slow
def test_no_password_is_told_whatever_goes_wrong(
    vhost: Vhost,
    proxy: Callable[[int], TcpProxy],
    postgres_url: str,
    tmp_path: Path,
) -> None:
    # Given a stack that logs everything, and reaches RabbitMQ over a line that can be cut
    line = proxy(vhost.node.amqp_port)
    logins = vhost.logins.through(line.port)
    folder = Folder(tmp_path)
    keep_urls(folder.home, logins.users)
    management = vhost.node.management_url
    settings = {
        "DATARUN_BROKER": logins.admin,
        "DATARUN_MANAGEMENT": management.replace("://", f"://datarun:{vhost.node.password}@"),
        "DATARUN_DATABASE": postgres_url,
        "DATARUN_LOG_LEVEL": "DEBUG",
        "DATARUN_CONSUMER_TIMEOUT_RAISED": "true",
    }
    said: list[str] = []

    def failing(*arguments: str, **changed: str) -> None:
        given = {"DATARUN_LOG_LEVEL": "DEBUG", "DATARUN_CONNECT_TIMEOUT_SECONDS": "2", **changed}
        done = folder.run(*arguments, **given)
        assert done.returncode != 0, (arguments, changed)
        said.extend((done.stdout, done.stderr))

    def waiting(*arguments: str, **changed: str) -> None:
        """A service that waits for its database, until it has said so."""
        process = folder.start(*arguments, DATARUN_LOG_LEVEL="DEBUG", **changed)
        assert process.stderr is not None
        for text in process.stderr:
            said.append(text)
            if "database" in text:
                break
        process.terminate()
        said.extend(process.communicate(timeout=30))

    with stack_in(tmp_path, **settings):
        secrets = {
            WRONG,
            vhost.node.password,
            password_of(postgres_url),
            *map(password_of, logins.users.values()),
        }
        connection = read_connection(folder.home)
        gateway = connection["gateway"]["password"]

        # Then no service has the administrator's login
        for pid in connection["pids"].values():
            assert vhost.node.password not in Path(f"/proc/{pid}/environ").read_text()

        # When the status is asked for, and everything goes wrong that can
        said.append(folder.succeed("status"))
        document = folder.json("status")
        assert document["gateway"].pop("password") == gateway
        said.append(json.dumps(document))
        said.extend(arguments_of_everybody())

        def wrong(url: str) -> str:
            return url.replace(password_of(url), WRONG)

        producer = logins.of(BrokerUser.PRODUCER)
        collector = logins.of(BrokerUser.COLLECTOR)
        observer = logins.of(BrokerUser.OBSERVER)
        failing("worker", DATARUN_BROKER=wrong(producer), DATARUN_ISOLATION="process")
        failing("worker", "--role", "prepare", DATARUN_BROKER=observer, DATARUN_ISOLATION="none")
        failing("collector", DATARUN_BROKER=observer)
        failing("status", DATARUN_BROKER=wrong(producer))
        failing("status", DATARUN_BROKER=producer.replace("127.0.0.1", "nowhere.invalid"))
        failing("status", DATARUN_BROKER=producer.replace("amqp:", "amqps:"))
        failing("status", DATARUN_BROKER=producer.replace(f":{line.port}/", ":port/"))
        failing("broker", "setup", DATARUN_BROKER=producer)
        failing("broker", "users", **settings | {"DATARUN_MANAGEMENT": wrong(logins.admin)})
        waiting("collector", DATARUN_BROKER=collector, DATARUN_DATABASE=wrong(postgres_url))
        failing("collector", DATARUN_DATABASE=f"nothing://user:{WRONG}@host/name")
        waiting("gateway", DATARUN_DATABASE=wrong(postgres_url))

        # And RabbitMQ is away for a while
        line.cut()
        failing("status")
        logs = [folder.home / "logs" / f"{name}.log" for name in ("collector", "folds-worker")]
        for log in logs:
            wait_until(lambda log=log: "connection_lost" in log.read_text(), what=str(log))
        line.mend()
        for log in logs:
            wait_until(lambda log=log: "reconnected" in log.read_text(), what=str(log))
        said.extend(log.read_text(errors="replace") for log in folder.home.glob("logs/*"))

    # Then nobody has said a password
    everything = "\n".join(said)
    assert all(word in everything for word in ("connection_lost", "ACCESS_REFUSED", "database"))
    assert [secret for secret in {*secrets, gateway} if secret in everything] == []


TALKATIVE = """
import asyncio, logging, sys
logging.basicConfig(level=logging.DEBUG)
from broker.link import Link
from datarun import Client

logging.getLogger("pika").setLevel(logging.DEBUG)


async def link(url):
    async with Link(url, name="test", connect_timeout=2):
        pass


for url in sys.stdin.read().split():
    for attempt in (lambda: Client(url, timeout=2).close(), lambda: asyncio.run(link(url))):
        try:
            attempt()
        except Exception:
            logging.exception("it failed")
"""


def test_libraries_at_their_most_talkative_tell_none(vhost: Vhost) -> None:
    # Given a program that logs whatever pika and aiormq have to say
    good = vhost.logins.of(BrokerUser.PRODUCER)
    urls = {
        good,
        good.replace(password_of(good), WRONG),
        good.replace(vhost.name, "nowhere"),
        good.replace("amqp://", "amqps://"),
        good.replace(f":{vhost.node.amqp_port}/", ":1/"),
        good.replace("127.0.0.1", "nowhere.invalid"),
    }

    # When it connects, and fails to, in many ways
    done = subprocess.run(
        [sys.executable, "-c", TALKATIVE],
        input="\n".join(urls),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    # Then nothing of it holds a password, tracebacks included
    assert "DEBUG:pika" in done.stderr
    assert "DEBUG:aiormq" in done.stderr
    assert "Traceback" in done.stderr
    assert [secret for secret in (password_of(good), WRONG) if secret in done.stderr] == []
