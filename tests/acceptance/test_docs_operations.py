"""docs/operations.md: its commands are typed on a stack that has run two folds; its names exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from broker.loopback_ports import is_free
from broker.private_node import PrivateNode
from schemas.settings import load_settings
from tests.support.command import ROOT, Folder
from tests.support.pages import BASH, Reader, blocks_of, is_for_a_reader, run_by
from tests.support.submissions import DUMMY

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
CTL = ("/usr/lib/rabbitmq/bin/rabbitmqctl", "--silent")
RAISED, RULES = run_by(__file__, "docs/operations.md")


def three_free_ports_in_a_row() -> int:
    """The first of them."""
    return next(port for port in range(9464, 32_000, 3) if all(map(is_free, range(port, port + 3))))


def in_free_ports(text: str, first: int) -> str:
    """The page's ports are taken where two run this test."""
    for offset in range(3):
        text = text.replace(str(9464 + offset), str(first + offset))
    return text


@pytest.mark.slow
def test_every_command_of_the_page_works(folder: Folder, tmp_path: Path) -> None:
    # Given somebody who types what the page says, where the ports that it names may be taken
    first_port = three_free_ports_in_a_row()
    first, *others = filter(is_for_a_reader, blocks_of(ROOT / "docs/operations.md"))
    operator = Reader(tmp_path, change=lambda text: in_free_ports(text, first_port))
    operator.place = folder.path

    # When a stack is started as it says, runs two folds, and all others are typed
    operator.do([first])
    folder.publish_iris()
    folder.submission("dummy", {"classifier.py": DUMMY})
    folder.succeed("submit", "dummy", "--dataset", "iris", "--cv", "2", "--wait")
    text = operator.do(others)

    # Then each shows what it is there to show
    for action in ("fold_received", "fold_started", "fold_tested", "fold_stored"):
        assert f'"action": "{action}"' in text
    assert 'datarun_results_total{culprit="",kind="",state="TESTED"} 2.0' in text
    assert re.search(r"^datarun_slots \d", text, re.MULTILINE)
    assert 'datarun_datasets_prepared_total{culprit="",kind="",state="READY"} 1.0' in text
    assert "local-alarms {'status': 'ok'}" in text
    assert "for the collector 0 outbox 0" in text
    assert '"action": "data_stored"' in text
    assert '{"status":"ok"}' in text
    assert folder.processes() == {}
    assert (folder.path / "backup.sqlite").stat().st_size > 0
    assert (folder.path / "stack.tar.gz").stat().st_size > 0


@pytest.mark.slow
def test_a_raised_consumer_timeout_is_rabbitmq_s_and_known_to_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given what the page has an operator type, with a file that is there
    file = tmp_path / "rabbitmq.conf"
    typed = RAISED.code.replace("/etc/rabbitmq/rabbitmq.conf", str(file))
    done = subprocess.run(
        [*BASH, f"{typed}\nenv"], capture_output=True, text=True, timeout=20, check=True
    )

    # When a RabbitMQ is started with that line
    node = PrivateNode(
        tmp_path / "node", consumer_timeout_hours=1, configuration=(file.read_text().strip(),)
    )
    try:
        running = node.start()
        # Then it is what counts there
        environ = Path(f"/proc/{running.pid}/environ").read_bytes().decode().split("\0")
        told = subprocess.run(
            [*CTL, "eval", "application:get_env(rabbit, consumer_timeout)."],
            env=dict(line.split("=", 1) for line in environ if line),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert told.stdout == "{ok,360000000}\n"
    finally:
        node.stop(clean=False)

    # And workers believe it
    name, _, value = RAISED.code.split()[-1].partition("=")
    assert f"{name}={value}\n" in done.stdout
    monkeypatch.setenv(name, value)
    assert load_settings().consumer_timeout_raised is True


def test_every_metric_is_explained_and_every_name_is_one() -> None:
    # Given the names that the services have
    from prometheus_client import REGISTRY

    import consumer.metrics
    import storage.metrics

    assert consumer.metrics
    assert storage.metrics
    families = {
        family.name: family.type
        for family in REGISTRY.collect()
        if family.name.startswith("datarun_")
    }
    ours = {f"{name}_total" if kind == "counter" else name for name, kind in families.items()}

    # When the page's tables and rules are read
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `datarun_"))
    cache = "datarun_dataset_cache"
    tables = re.sub(r"`(_(?:hits|misses|evictions)_total)`", rf"`{cache}\1`", tables)
    explained = set(re.findall(r"`(datarun_\w+)", tables + PAGE.split("Of both:")[1][:200]))
    rules = yaml.safe_load(RULES.code)["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"datarun_\w+", rule["expr"])}

    # Then they are the same, and alerts ask for none that is not there
    assert explained == ours
    assert {name.removesuffix("_bucket") for name in asked} <= ours
