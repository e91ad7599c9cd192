"""docs/operations.md: its commands are typed on a stack that has run two folds; its names exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from broker.loopback_ports import is_free
from tests.support.command import ROOT, Folder, environment
from tests.support.pages import path_with_datarun
from tests.support.submissions import DUMMY

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
# Blocks marked `sh` are about other machines, or name an id that a reader puts in.
BLOCKS = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


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
    # Given the blocks of the page
    path = path_with_datarun(tmp_path / "bin")
    first, *others = BLOCKS.findall(in_free_ports(PAGE, three_free_ports_in_a_row()))
    assert len(others) >= 12
    said = []

    def type_in(block: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=folder.path,
            env=environment(PATH=path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{folder.logs()}"
        said.append(done.stdout)

    # When a stack is started as it says, runs two folds, and all others are typed
    type_in(first)
    folder.publish_iris()
    folder.submission("dummy", {"classifier.py": DUMMY})
    folder.succeed("submit", "dummy", "--dataset", "iris", "--cv", "2", "--wait")
    for block in others:
        type_in(block)

    # Then each shows what it is there to show
    text = "\n".join(said)
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
    rules = yaml.safe_load(PAGE.split("```yaml\n")[1].split("```")[0])["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"datarun_\w+", rule["expr"])}

    # Then they are the same, and alerts ask for none that is not there
    assert explained == ours
    assert {name.removesuffix("_bucket") for name in asked} <= ours
