"""The commands of docs/performance.md, each with less to measure: it ends within seconds."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import ROOT, environment
from tests.support.pages import Block, run_by

BLOCKS = run_by(__file__, "docs/performance.md")
LESS = {
    "folds.py": ["--repeat", "1", "--only", "trivial"],
    "isolation.py": ["--folds", "5"],
    "collector.py": ["--folds", "20", "--only", "sqlite"],
    "gateway.py": ["--clients", "2", "--folds", "1"],
    "datasets.py": ["--megabytes", "1", "--repeat", "1"],
}
"""Options that follow the page's own; the last one counts."""


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_benchmark_runs_and_prints_numbers(block: Block, tmp_path: Path) -> None:
    python, script, *options = shlex.split(block.code)
    assert python == ".venv/bin/python"

    done = subprocess.run(
        [sys.executable, script, *options, *LESS[Path(script).name]],
        cwd=ROOT,
        env=environment(TMPDIR=str(tmp_path)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert any(character.isdigit() for character in done.stdout), done.stdout
