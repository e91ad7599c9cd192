"""The documentation's pages as programs: their code blocks, and a reader who types them in.

A comment directly above a block says what it is, where that is not "run it":

    <!-- file: NAME -->           written to the file NAME, for the blocks that follow
    <!-- from: PATH -->           the same as the repository's file PATH; written to its name
    <!-- run by: TEST -->         another test runs it; its file is TEST
    <!-- not run: REASON -->      nobody does
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from schemas.settings import Settings
from tests.support.command import ROOT, environment

LANGUAGES = ("bash", "console", "python", "toml")
"""What a Reader can run; a block of another language needs a mark."""

OWN_TESTS = {
    "docs/operations.md": "tests/acceptance/test_docs_operations.py",
}
"""Pages that another test runs, all of their blocks."""

# Page and language -> why a Reader passes these blocks over.
EXCUSED = {
    ("docs/architecture.md", "python"): "tests/unit/test_architecture.py looks for each name",
    ("docs/messages.md", "json"): "tests/unit/test_docs_messages.py reads each",
    ("docs/console.md", "json"): "tests/unit/test_docs_messages.py reads each",
    ("docs/console.md", "toml"): "it is part of a connection.toml",
    ("docs/console.md", "console"): "tests/acceptance/wire/test_dead_letters.py does the same",
    ("docs/console.md", "sh"): "its fold is published by tests/acceptance/wire/test_console.py",
    ("docs/object-store.md", "json"): "a policy for S3 itself, not for datarun",
}

_FENCE = re.compile(
    r"(?P<marks>(?:^[ ]*<!-- (?:(?!-->).)* -->\n)*)"
    r"^(?P<indent>[ ]*)```(?P<language>[a-z0-9+-]*)[^\n`]*\n(?P<code>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"<!-- ([a-z ]+): (.*?) -->")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    """Of its first fence, from 1."""

    language: str
    """Empty when it has none: then it is text."""

    code: str
    marks: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language or 'text'})"


def pages() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def name_of(page: Path) -> str:
    """`docs/quickstart.md`."""
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for fence in _FENCE.finditer(text):
        indent = len(fence["indent"])
        lines = fence["code"].splitlines(keepends=True)
        blocks.append(
            Block(
                page=name_of(page),
                line=text.count("\n", 0, fence.end("marks")) + 1,
                language=fence["language"],
                code="".join(line[indent:] if line.strip() else line for line in lines),
                marks=dict(_MARK.findall(fence["marks"])),
            )
        )
    assert 2 * len(blocks) == len(re.findall(r"^ *```", text, re.MULTILINE)), f"{page}: a fence"
    return blocks


def file_name(block: Block) -> str:
    """Of a block that is a file; an example's is that within its folder of examples/."""
    if "file" in block.marks:
        return block.marks["file"]
    return str(Path(*Path(block.marks["from"]).parts[2:]))


def excuse(block: Block) -> str | None:
    """Why a Reader passes it over, where he does; empty when it is text."""
    if not block.language:
        return ""
    for mark in ("run by", "not run"):
        if mark in block.marks:
            return block.marks[mark]
    return OWN_TESTS.get(block.page) or EXCUSED.get((block.page, block.language))


def is_run_by_a_reader(page: Path) -> bool:
    """Whether there is anything to do."""
    return any(excuse(block) is None for block in blocks_of(page))


class Reader:
    """Somebody who does what a page says, in a folder that is empty at first."""

    def __init__(self, place: Path, **settings: str) -> None:
        """`settings` are environment variables; a stack is found from the folder upwards."""
        self.place = place / "place"
        self.place.mkdir(parents=True)
        self._environment = environment(PATH=path_with_datarun(place / "bin"), **settings)

    def follow(self, page: Path) -> str:
        """Do what each block says, one after the other; AssertionError when one fails.

        Returns what was printed.
        """
        said = []
        for block in blocks_of(page):
            if excuse(block) is not None:
                continue
            if "file" in block.marks or "from" in block.marks:
                file = self.place / file_name(block)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.code, encoding="utf-8")
            elif block.language == "bash":
                said.append(self._run(block, ["bash", "-euo", "pipefail", "-c", block.code]))
            elif block.language == "python":
                said.append(self._run(block, ["python", "-c", block.code]))
            elif block.language == "console":
                said.append(self._talk(block))
            elif block.language == "toml":
                unknown = tomllib.loads(block.code).keys() - Settings.model_fields.keys()
                assert not unknown, f"{block}: no such settings: {unknown}"
            else:
                raise AssertionError(f"{block}: nobody knows how to run it")
        return "\n".join(said)

    def _talk(self, block: Block) -> str:
        """Type what follows each `$ `; every other line is among what is printed."""
        lines = block.code.splitlines()
        typed = "\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
        said = self._run(block, ["bash", "-euo", "pipefail", "-c", typed])
        for line in lines:
            assert line.startswith("$ ") or line in said, f"{block}: {line!r} not in\n{said}"
        return said

    def _run(self, block: Block, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{block.code}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def path_with_datarun(programs: Path) -> str:
    """A PATH on which `datarun` and `python` are those of this environment, and of this tree."""
    programs.mkdir()
    for name, command in (("python", sys.executable), ("datarun", f"{sys.executable} -m datarun")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
