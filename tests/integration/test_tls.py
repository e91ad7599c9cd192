"""Everything over TLS: a RabbitMQ that takes clients with a certificate and no others."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

import pytest

from broker.blobs import write_blob
from broker.link import Link
from broker.loopback_ports import free_ports
from broker.private_node import NodeAddress, PrivateNode
from datarun import Client
from schemas.datasets import HoldOut
from schemas.errors import BlobError, BrokerUnreachable, ConfigurationError
from schemas.permissions import BrokerUser
from schemas.states import FoldState, Visibility
from tests.support.certificates import Authority, Certificate
from tests.support.command import Folder, environment
from tests.support.pages import run_by
from tests.support.rabbitmq import Logins
from tests.support.stack import Stack
from tests.support.submissions import DUMMY, write_iris

FOLDS = 3


@dataclass(frozen=True)
class TlsNode:
    """A node whose TLS ports want client certificates."""

    address: NodeAddress
    port: int
    management_port: int
    authority: Authority
    client: Certificate

    def logins(self, **files: Path | None) -> Logins:
        """URLs that name the right files, but for these."""
        given = {
            "cacertfile": self.authority.certificate,
            "certfile": self.client.certificate,
            "keyfile": self.client.key,
            **files,
        }
        query = urlencode({name: str(path) for name, path in given.items() if path is not None})
        return (
            Logins.of_node(self.address)
            .changed(lambda url: url.replace("amqp://", "amqps://"))
            .through(self.port)
            .changed(lambda url: f"{url}?{query}")
        )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNode]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "authority")
    server = authority.sign("server", "127.0.0.1")
    port, management_port = free_ports(2)
    (page,) = run_by(__file__, "docs/broker.md")
    written = page.code
    for there, here in {
        "/etc/rabbitmq/ca.pem": authority.certificate,
        "/etc/rabbitmq/server.pem": server.certificate,
        "/etc/rabbitmq/server.key": server.key,
        "listeners.ssl.default = 5671": f"listeners.ssl.1 = 127.0.0.1:{port}",
        "management.ssl.port       = 15671": f"management.ssl.port = {management_port}",
        # The node is asked over its plain port whether it has started.
        "listeners.tcp = none\n": "",
    }.items():
        assert there in written
        written = written.replace(there, str(here))
    options = {"verify": "verify_peer", "fail_if_no_peer_cert": "true"}
    running = PrivateNode(
        folder / "node",
        configuration=(
            *written.splitlines(),
            "management.ssl.ip = 127.0.0.1",
            # Stricter than the page: the management API wants a client's certificate, too.
            *(f"management.ssl.{name} = {value}" for name, value in options.items()),
        ),
    )
    try:
        client = authority.sign("client")
        yield TlsNode(running.start(), port, management_port, authority, client)
    finally:
        running.stop(clean=False)


@pytest.mark.slow
def test_folds_run_with_nothing_but_tls(node: TlsNode, tmp_path: Path) -> None:
    # Given services and a client that log in over TLS, with certificates of their own
    logins = node.logins()
    stack = Stack(logins, f"sqlite:///{tmp_path / 'datarun.sqlite'}", tmp_path)
    try:
        stack.start_all()
        with stack.client() as client:
            # When a data set goes through as blobs, and folds of it
            client.publish_data(
                "iris",
                files=[write_iris(tmp_path)],
                target_column="species",
                workflow_elements="classifier",
                split=HoldOut(0.5),
                timeout=60,
            )
            for number in range(FOLDS):
                client.publish_fold(
                    submission_fold_id=number,
                    submission_id=1,
                    dataset="iris",
                    files={"classifier.py": DUMMY},
                    train_is=range(50),
                    test_is=range(50, 75),
                )
            results = list(client.follow(range(FOLDS), timeout=60))
    finally:
        stack.close()

    # Then they are tested
    assert [result.state for result in results] == [FoldState.TESTED] * FOLDS


async def connect(url: str) -> None:
    async with Link(url, name="test", connect_timeout=3):
        pass


def refusals(url: str) -> list[str]:
    """What pika's connection, a blob's and aio-pika's say."""
    said = []
    attempts: list[Callable[[], object]] = [
        lambda: Client(url, timeout=5).close(),
        lambda: write_blob(url, Visibility.RAW, "x", BytesIO(b"x"), patience=0),
        lambda: asyncio.run(connect(url)),
    ]
    for attempt in attempts:
        with pytest.raises((BrokerUnreachable, BlobError, ConfigurationError)) as caught:
            attempt()
        said.append(str(caught.value))
    return said


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("authority", "its TLS certificate is not trusted .* DATARUN_BROKER_CA names the file"),
        ("nothing", "its TLS certificate is not trusted .* DATARUN_BROKER_CA names the file"),
        ("no client", "asks for a client certificate.*DATARUN_BROKER_CERT and DATARUN_BROKER_KEY"),
        ("client", "does not trust our client certificate|certificate that it trusts"),
        ("expired client", "our client certificate .* has expired|certificate that it trusts"),
        ("host", "its TLS certificate is of another host .*localhost"),
        ("port", "does not speak TLS; is it the plain port"),
        ("plain", "is it a TLS port"),
        ("missing", r"DATARUN_BROKER_KEY: .*nowhere.key cannot be read: No such file"),
        ("other key", "key in .* does not belong to the certificate in"),
        ("no pem", "DATARUN_BROKER_CA: .* does not hold certificates in PEM format"),
        ("unchecked", "asks not to check the server's certificate"),
    ],
)
def test_what_is_wrong_with_tls_is_said(
    node: TlsNode, tmp_path: Path, wrong: str, says: str
) -> None:
    # Given a login of which one thing is wrong
    strangers = Authority(tmp_path / "strangers")
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("no certificate")
    expired = node.authority.sign("expired", expired=True)
    files: Mapping[str, Path | None] = {
        "authority": {"cacertfile": strangers.certificate},
        "nothing": {"cacertfile": None},
        "no client": {"certfile": None, "keyfile": None},
        "client": named(strangers.sign("stranger")),
        "expired client": named(expired),
        "missing": {"keyfile": Path("/nowhere.key")},
        "other key": {"keyfile": expired.key},
        "no pem": {"cacertfile": no_pem},
    }.get(wrong, {})
    url = node.logins(**files).of(BrokerUser.PRODUCER)
    match wrong:
        case "host":
            url = url.replace("@127.0.0.1:", "@localhost:")
        case "port":
            url = url.replace(f":{node.port}/", f":{node.address.amqp_port}/")
        case "plain":
            url = url.replace("amqps://", "amqp://").partition("?")[0]
        case "unchecked":
            url += "&verify=verify_none"

    # When it is used, then every kind of connection says so, and none its password
    password = url.partition("@")[0].rpartition(":")[2]
    for said in refusals(url):
        assert re.search(says, said), said
        assert password not in said


def named(client: Certificate) -> dict[str, Path | None]:
    return {"certfile": client.certificate, "keyfile": client.key}


def test_a_server_s_certificate_that_has_expired_is_said(tmp_path: Path) -> None:
    # Given a server whose certificate ran out yesterday
    authority = Authority(tmp_path)
    server = authority.sign("server", "127.0.0.1", expired=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with suppress(OSError):
                while True:
                    with suppress(ssl.SSLError), listener.accept()[0] as line:
                        context.wrap_socket(line, server_side=True).close()

        answering = threading.Thread(target=answer)
        answering.start()

        # When it is connected to, then every kind of connection says so
        port = listener.getsockname()[1]
        url = f"amqps://user:word@127.0.0.1:{port}/?cacertfile={authority.certificate}"
        said = refusals(url)
        listener.shutdown(socket.SHUT_RDWR)
        answering.join(10)
    assert all("its TLS certificate has expired" in sentence for sentence in said), said


def test_users_are_made_over_https_and_log_in_over_tls(node: TlsNode, tmp_path: Path) -> None:
    # Given the files for TLS as settings, and the management API at https alone
    address = node.address
    settings = {
        "DATARUN_BROKER": f"amqps://127.0.0.1:{node.port}/%2F",
        "DATARUN_MANAGEMENT": f"https://{address.username}:{address.password}@127.0.0.1:"
        f"{node.management_port}",
        "DATARUN_BROKER_CA": str(node.authority.certificate),
        "DATARUN_BROKER_CERT": str(node.client.certificate),
        "DATARUN_BROKER_KEY": str(node.client.key),
    }
    folder = Folder(tmp_path)

    # When the users get new passwords, then what is kept lets a client in
    folder.json("broker", "users", "--new-passwords", **settings)
    code = "from datarun import Client; Client().close(); print('in')"
    del settings["DATARUN_BROKER"]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "in\n", done.stderr

    # And an authority that is not the API's is refused in a sentence
    settings["DATARUN_BROKER"] = f"amqps://127.0.0.1:{node.port}/%2F"
    settings["DATARUN_BROKER_CA"] = str(Authority(tmp_path / "other").certificate)
    refused = folder.run("broker", "users", **settings)
    assert refused.returncode != 0
    assert "its TLS certificate is not trusted" in refused.stderr
