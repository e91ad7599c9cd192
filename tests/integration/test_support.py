"""The servers and the line that other tests stand on: they do what they say, or fail."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pika
import psycopg
import pytest
import sqlalchemy

from tests.support.deadline import wait_until
from tests.support.postgres import PostgresServer
from tests.support.rabbitmq import Vhost
from tests.support.tcp_proxy import TcpProxy


@pytest.mark.parametrize("_again", [1, 2])
def test_a_vhost_is_empty_and_ones_own(vhost: Vhost, _again: int) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost.admin_url)) as connection:
        queue = connection.channel().queue_declare("the-same-name", durable=True)
        assert queue.method.message_count == 0
        connection.channel().basic_publish("", "the-same-name", b"left behind")


@pytest.mark.parametrize("_again", [1, 2])
def test_a_database_is_empty_and_ones_own(postgres_url: str, _again: int) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE folds (id int)"))
    engine.dispose()


def test_postgres_keeps_what_was_committed_over_a_crash(
    postgres: PostgresServer, postgres_url: str
) -> None:
    url = postgres_url.replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE folds (id int)")

    postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    postgres.start()

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM folds").fetchone() == (0,)


@pytest.fixture
def echo() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def through(line: TcpProxy, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(("127.0.0.1", line.port), timeout=10)
    server, _ = listener.accept()
    server.settimeout(10)
    return client, server


def test_line_passes_cuts_and_mends(proxy: Callable[[int], TcpProxy], echo: socket.socket) -> None:
    line = proxy(echo.getsockname()[1])
    client, server = through(line, echo)
    with client, server:
        client.sendall(b"there")
        assert server.recv(10) == b"there"
        server.sendall(b"back")
        assert client.recv(10) == b"back"

        line.cut()
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                end.recv(10)

    line.mend()
    client, server = through(line, echo)
    with client, server:
        client.sendall(b"again")
        assert server.recv(10) == b"again"
        client.shutdown(socket.SHUT_WR)
        assert server.recv(10) == b""
        server.sendall(b"late answer")
        server.close()
        assert client.recv(20) == b"late answer"
        assert client.recv(10) == b""
    wait_until(lambda: line.connections() == 0, what="the end of the connection")


def test_line_stalls_and_slows(proxy: Callable[[int], TcpProxy], echo: socket.socket) -> None:
    line = proxy(echo.getsockname()[1])
    client, server = through(line, echo)
    with client, server:
        line.stall()
        client.sendall(b"held")
        server.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.recv(10)
        line.mend()
        server.settimeout(10)
        assert server.recv(10) == b"held"

        line.slow(10_000)
        began = time.monotonic()
        client.sendall(bytes(5_000))
        received = 0
        while received < 5_000:
            received += len(server.recv(5_000))
        assert time.monotonic() - began >= 0.4


def test_amqp_connection_through_a_cut_line_breaks(
    vhost: Vhost, proxy: Callable[[int], TcpProxy]
) -> None:
    line = proxy(vhost.node.amqp_port)
    connection = pika.BlockingConnection(pika.URLParameters(vhost.logins.through(line.port).admin))
    line.cut()
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connection.channel()
