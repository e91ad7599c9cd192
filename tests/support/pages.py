"""The documentation's pages as programs: their code blocks, and a reader who types them in.

A comment directly above a block says what it is, where that is not "run it":

    <!-- file: NAME -->           written to the file NAME, for the blocks that follow
    <!-- from: PATH -->           the same as the repository's file PATH; written to its name
    <!-- run by: TEST -->         another test does what it says; its file TEST gets it by `run_by`
    <!-- key: KEY -->             a message with this routing key; has a mark of the others, too

There is no mark for a block that nothing runs.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.settings import Settings
from tests.support.command import ROOT, environment

BASH = ("bash", "-euo", "pipefail", "-c")
LANGUAGES = ("bash", "console", "python", "toml")
"""What a Reader can run; a block of another language, or of none, needs a mark."""

FOLLOWED_BY = {
    "README.md": "tests/acceptance/test_quickstart.py",
    "docs/quickstart.md": "tests/acceptance/test_quickstart.py",
    "docs/operations.md": "tests/acceptance/test_docs_operations.py",
}
"""Pages on which a stack is started: their Reader is in this test, all others' in test_pages.py."""

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
    """Empty when it has none: a picture, a signature."""

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


def run_by(test: str, page: str) -> list[Block]:
    """The blocks of a page that a test has to run, which asks for them by its `__file__`."""
    name = str(Path(test).resolve().relative_to(ROOT))
    found = [block for block in blocks_of(ROOT / page) if block.marks.get("run by") == name]
    assert found, f"{page} has no block that {name} runs"
    return found


def is_for_a_reader(block: Block) -> bool:
    """Whether a Reader runs it, and not another test."""
    return "run by" not in block.marks


class Reader:
    """Somebody who does what a page says, in a folder that is empty at first."""

    def __init__(self, place: Path, *, change: Callable[[str], str] = str, **settings: str) -> None:
        """`settings` are environment variables; a stack is found from the folder upwards.

        change: what is typed in place of a page's text, where that is about another machine.
        """
        self._change = change
        self.place = place / "place"
        self.place.mkdir(parents=True)
        self._environment = environment(PATH=path_with_datarun(place / "bin"), **settings)

    def install(self, block: Block) -> None:
        """Do what a block says in the clone; stay where it leads, with what it activates."""
        told = f'{block.code}\npwd\necho "$PATH"\n'
        *_, place, path = self._run(block, [*BASH, told], ROOT).splitlines()
        self.place = Path(place) if Path(place) != ROOT else self.place
        self._environment["PATH"] = path

    def follow(self, page: Path) -> str:
        """Do what each block says, one after the other; AssertionError when one fails.

        Returns what was printed.
        """
        return self.do(filter(is_for_a_reader, blocks_of(page)))

    def do(self, blocks: Iterable[Block]) -> str:
        """Do what these say."""
        said = []
        for block in blocks:
            if "file" in block.marks or "from" in block.marks:
                file = self.place / file_name(block)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.code, encoding="utf-8")
            elif block.language in ("bash", "sh"):
                said.append(self._run(block, [*BASH, block.code]))
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

    def type_in(self, block: Block) -> str:
        """Type what follows each `$ `, and nothing else; what is printed."""
        lines = self._change(block.code).splitlines()
        typed = "\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
        return self._run(block, [*BASH, typed])

    def _talk(self, block: Block) -> str:
        """Type it in; every other line is among what is printed."""
        said = self.type_in(block)
        for line in block.code.splitlines():
            assert line.startswith("$ ") or line in said, f"{block}: {line!r} not in\n{said}"
        return said

    def _run(self, block: Block, command: list[str], place: Path | None = None) -> str:
        done = subprocess.run(
            [self._change(word) for word in command],
            cwd=place or self.place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{block.code}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def installed_with() -> str:
    """The Python of this clone's `.venv`, which scripts/bootstrap then leaves as it is."""
    stamp = ROOT / ".venv" / "environment.stamp"
    lock = hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    if not stamp.exists() or lock not in stamp.read_text():
        pytest.fail("run scripts/bootstrap first: it would install anew while tests run")
    return stamp.read_text().partition(" ")[0]


def path_with_datarun(programs: Path) -> str:
    """A PATH on which `datarun` and `python` are those of this environment, and of this tree."""
    programs.mkdir()
    for name, command in (("python", sys.executable), ("datarun", f"{sys.executable} -m datarun")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
