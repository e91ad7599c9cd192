"""The private RabbitMQ node: what it serves, to whom, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pika
import psutil
import pytest
import requests

from broker import private_node
from broker.loopback_ports import free_ports
from broker.private_node import NodeAddress, PrivateNode
from schemas.errors import NodeError
from tests.support.deadline import wait_until

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, NodeAddress]]:
    """A node in a folder with a space and an accent in its name, which tests only look at."""
    home = tmp_path_factory.mktemp("node") / "with a space, é"
    node = PrivateNode(home, consumer_timeout_hours=100)
    yield home, node.start()
    node.stop(clean=False)


def publish(address: NodeAddress, body: bytes, *, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(address.amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))


def get(address: NodeAddress, *, queue: str) -> bytes | None:
    with pika.BlockingConnection(pika.URLParameters(address.amqp_url)) as connection:
        body: bytes | None = connection.channel().basic_get(queue, auto_ack=True)[2]
        return body


def processes_of(home: Path) -> list[str]:
    """Living processes with `home` in their environment or command line; a zombie is not alive."""
    found = []
    for process in psutil.process_iter():
        try:
            text = " ".join([*process.cmdline(), *process.environ().values()])
            if str(home) in text and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return found


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_serves_amqp_and_the_management_api(running: tuple[Path, NodeAddress]) -> None:
    _, address = running

    publish(address, b"hello", queue="greetings")

    assert get(address, queue="greetings") == b"hello"
    login = (address.username, address.password)
    overview = requests.get(f"{address.management_url}/api/overview", auth=login, timeout=10)
    assert overview.json()["node"] == address.name


def test_guest_and_a_wrong_password_are_refused(running: tuple[Path, NodeAddress]) -> None:
    _, address = running
    for login in (("guest", "guest"), (address.username, "wrong")):
        answer = requests.get(f"{address.management_url}/api/overview", auth=login, timeout=10)
        assert answer.status_code == 401


def test_password_is_for_the_owners_eyes_only(running: tuple[Path, NodeAddress]) -> None:
    home, address = running

    assert (home / "password").read_text() == address.password
    assert stat.S_IMODE((home / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert address.password not in repr(address)
    # A command line is everybody's to read, an environment the owner's.
    for pid in (address.pid, address.epmd_pid, address.guard_pid):
        process = psutil.Process(pid)
        assert address.password not in " ".join([*process.cmdline(), *process.environ().values()])


def test_listens_on_loopback_only(running: tuple[Path, NodeAddress]) -> None:
    _, address = running
    listening = [
        connection.laddr
        for pid in (address.pid, address.epmd_pid, address.guard_pid)
        for connection in psutil.Process(pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]

    assert {address.amqp_port, address.management_port} <= {at.port for at in listening}
    assert {at.ip for at in listening} <= {"127.0.0.1", "::1"}


def test_open_files_limit_is_raised_and_not_absurd(running: tuple[Path, NodeAddress]) -> None:
    _, address = running
    soft, hard = psutil.Process(address.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == (65536 if hard == psutil.RLIM_INFINITY else min(hard, 65536))


def test_no_thread_is_bound_to_a_core_that_others_need(running: tuple[Path, NodeAddress]) -> None:
    _, address = running
    threads = [thread.id for thread in psutil.Process(address.pid).threads()]

    assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {
        frozenset(os.sched_getaffinity(address.guard_pid))
    }


def test_consumer_timeout_is_raised(running: tuple[Path, NodeAddress]) -> None:
    home, _ = running
    assert "consumer_timeout = 360000000\n" in (home / "rabbitmq.conf").read_text()


def test_second_owner_of_a_folder_is_refused(running: tuple[Path, NodeAddress]) -> None:
    home, _ = running
    with pytest.raises(NodeError, match="another process runs the RabbitMQ node"):
        PrivateNode(home).start(deadline=0.5)


def test_two_nodes_live_side_by_side_and_a_port_taken_since_the_last_start_is_replaced(
    running: tuple[Path, NodeAddress], tmp_path: Path
) -> None:
    # Given a second node
    _, first = running
    node = PrivateNode(tmp_path)
    second = node.start()

    # Then what is in it is not in the first, which outlives it
    publish(second, b"mine", queue="only-in-the-second")
    assert first.name != second.name
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        get(first, queue="only-in-the-second")
    node.stop(clean=False)
    publish(first, b"still here", queue="after")
    assert get(first, queue="after") == b"still here"

    # And when one of its ports is taken meanwhile, it starts on another one
    with socket.create_server(("127.0.0.1", second.amqp_port)):
        again = node.start()
        assert again.amqp_port != second.amqp_port
        assert again.management_port == second.management_port
        assert f":{again.amqp_port}/" in again.amqp_url
        publish(again, b"hello", queue="elsewhere")
    node.stop(clean=False)


@pytest.mark.slow
def test_clean_stop_leaves_nothing_and_restart_keeps_messages_and_address(tmp_path: Path) -> None:
    # Given a node with a persistent message in a durable queue
    node = PrivateNode(tmp_path)
    first = node.start()
    publish(first, b"keep me", queue="durable")

    # When it is stopped
    node.stop()

    # Then nothing is left of it
    assert processes_of(tmp_path) == []
    assert not answers(first.amqp_port)
    assert not answers(first.management_port)
    with pytest.raises(NodeError, match="is not running"):
        _ = node.address

    # And the same folder brings back the message, at the same address
    again = PrivateNode(tmp_path)
    with again as second:
        assert second.amqp_url == first.amqp_url
        assert second.management_url == first.management_url
        assert get(second, queue="durable") == b"keep me"

        # And once more after a crash
        publish(second, b"keep me, too", queue="durable")
        again.kill()
        assert wait_until(lambda: not processes_of(tmp_path), what="the end of the crashed node")
        third = again.start()
        assert third.amqp_url == second.amqp_url
        assert get(third, queue="durable") == b"keep me, too"
        again.stop(clean=False)


@pytest.mark.slow
@pytest.mark.parametrize("position", [0, 3], ids=["amqp", "epmd"])
def test_port_taken_between_choice_and_start_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    # Given somebody who takes a port just after it was chosen
    ports = free_ports(4)
    chosen = iter([ports])
    monkeypatch.setattr(
        private_node, "free_ports", lambda count, avoid=(): next(chosen, None) or free_ports(count)
    )
    node = PrivateNode(tmp_path)
    with socket.create_server(("127.0.0.1", ports[position])):
        # When a new node starts
        address = node.start()

        # Then it comes up on another one
        publish(address, b"hello", queue="elsewhere")
        kept = json.loads((tmp_path / "node.json").read_text())
        assert ports[position] not in kept.values()
    node.stop(clean=False)


OWNER = """
    import os, sys, threading
    from pathlib import Path
    from broker.private_node import PrivateNode

    node = PrivateNode(Path(sys.stdin.readline().strip()))
    # From a thread that ends: the node must not end with it.
    starter = threading.Thread(target=node.start)
    starter.start()
    starter.join()
    child = os.fork()  # a forked child that lives on must not keep the node alive
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    print(node.address.amqp_port, os.getuid(), flush=True)
    sys.stdin.read()
"""


def start_owner(home: Path, *, by: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A process with a node in `home`, which is nowhere in its own command line.

    by: the command that runs it, given another one.
    """
    owner = subprocess.Popen(
        [*by, sys.executable, "-c", textwrap.dedent(OWNER)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdin is not None
    owner.stdin.write(f"{home}\n")
    owner.stdin.flush()
    return owner


@pytest.mark.slow
def test_nothing_is_left_when_the_owner_is_killed(tmp_path: Path) -> None:
    # Given a process that owns a node, and has forked
    home = tmp_path / "node"
    with start_owner(home) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline().split()[0])
        assert answers(port)

        # When it is killed without warning
        owner.kill()
        owner.wait()

        # Then the node goes, too
        wait_until(lambda: not processes_of(home), within=30, what="the end of the node")
        assert not answers(port)

    # And its folder can be used at once
    node = PrivateNode(home)
    assert node.start().amqp_port == port
    node.stop(clean=False)


@pytest.mark.slow
def test_nothing_is_left_when_the_guard_is_killed(tmp_path: Path) -> None:
    node = PrivateNode(tmp_path)
    address = node.start()

    os.kill(address.guard_pid, signal.SIGKILL)

    wait_until(lambda: not processes_of(tmp_path), within=30, what="the end of the node")
    assert not node.is_running()


AS_NOBODY = f"""
mount --bind "$1" "$2"
cd "$2"
case "$3" in "$1"/*) python="$2${{3#"$1"}}" ;; *) python="$3" ;; esac
shift 3
exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups -- "$python" "$@"
"""


def test_runs_as_an_ordinary_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.getuid() != 0:
        by: tuple[str, ...] = ()
        home = tmp_path_factory.mktemp("ordinary") / "node"
        expected = os.getuid()
    else:
        # Not under pytest's own folder, nor in a checkout under /root, which nobody can enter: the
        # checkout is mounted once more, where this process alone sees it.
        home = Path(tempfile.mkdtemp(prefix="datarun-test-ordinary-")) / "node"
        os.chown(home.parent, NOBODY, NOBODY)
        checkout = home.parent / "checkout"
        checkout.mkdir()
        by = ("unshare", "--mount", "sh", "-c", AS_NOBODY, "sh", str(ROOT), str(checkout))
        expected = NOBODY
    with start_owner(home, by=by) as owner:
        assert owner.stdout is not None
        port, uid = map(int, owner.stdout.readline().split())
        assert uid == expected
        assert answers(port)
        assert home.stat().st_uid == expected
        owner.kill()
    wait_until(lambda: not processes_of(home), within=30, what="the end of the node")
    subprocess.run(["rm", "-rf", str(home.parent)], check=True)


def test_missing_server_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_node, "DEBIAN_SERVER", tmp_path / "nothing")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NodeError, match="run scripts/bootstrap"):
        PrivateNode(tmp_path / "node").start()


def test_node_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    server = tmp_path / "rabbitmq-server"
    server.write_text("#!/bin/sh\necho the disk is made of cheese\nexit 1\n")
    server.chmod(0o755)
    with pytest.raises(NodeError, match="made of cheese"):
        PrivateNode(tmp_path / "node", server=server).start()
    assert processes_of(tmp_path / "node") == []


def test_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NodeError, match="cannot be used"):
        PrivateNode(tmp_path / "file" / "node").start()
