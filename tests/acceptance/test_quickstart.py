"""docs/quickstart.md, followed literally."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import ROOT, Folder, environment

# Blocks marked `sh` are about other machines, or about installing, which is done here.
BLOCKS = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def path_with_datarun(tmp_path: Path) -> str:
    """A PATH on which `datarun` and `python` are those of this environment, and of this tree."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in (("python", sys.executable), ("datarun", f"{sys.executable} -m datarun")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_quickstart_followed_literally_works(folder: Folder, path_with_datarun: str) -> None:
    # Given the blocks of the quickstart, and an empty folder
    blocks = BLOCKS.findall((ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 8
    place = folder.path / "quickstart"
    place.mkdir()

    # When a stranger types them one after the other
    said = []
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=place,
            env=environment(PATH=path_with_datarun),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)

    # Then each does what the text says
    text = "\n".join(said)
    assert "wine@" in text
    assert "is ready" in text
    assert re.search(r"forest +wine +10 tested ", text)
    assert "10 acknowledged" in text
    assert "Nothing is new." in text
    assert "name 'LogisticRegression' is not defined" in text
    assert "ERROR(train)" in text
    assert "valid_accuracy" in text
    assert folder.processes() == {}
