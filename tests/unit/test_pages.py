"""The pages of the documentation: every block is run by a test, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import client_reference
from tests.support.command import ROOT
from tests.support.pages import (
    FOLLOWED_BY,
    LANGUAGES,
    Block,
    blocks_of,
    is_for_a_reader,
    name_of,
    pages,
)

BLOCKS = [block for page in pages() for block in blocks_of(page)]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page ends with, as forges make it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_run(block: Block) -> None:
    assert set(block.marks) <= {"run by", "file", "from", "key"}
    if is_for_a_reader(block):
        assert "file" in block.marks or "from" in block.marks or block.language in LANGUAGES, (
            f"{block}: no test runs it. Use one of {', '.join(LANGUAGES)}, which "
            "tests/acceptance/test_pages.py runs; or write <!-- run by: tests/... --> above it, "
            "and have that test do what the block says"
        )


@pytest.mark.parametrize("block", [block for block in BLOCKS if "run by" in block.marks], ids=str)
def test_whoever_runs_a_block_reads_it_from_the_page(block: Block) -> None:
    test = (ROOT / block.marks["run by"]).read_text(encoding="utf-8")
    assert f'run_by(__file__, "{block.page}")' in test


@pytest.mark.parametrize("page", FOLLOWED_BY)
def test_a_page_that_starts_a_stack_is_followed_elsewhere(page: str) -> None:
    test = (ROOT / FOLLOWED_BY[page]).read_text(encoding="utf-8")
    assert f'(ROOT / "{page}")' in test
    assert " = Reader(" in test


def test_no_code_stands_outside_of_a_fence() -> None:
    # Indented code, which is a paragraph of its own and no part of a list
    outside = []
    for page in pages():
        text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        found = re.findall(r"\n\n((?: {4}\S.*\n)+)", text)
        outside += [f"{name_of(page)}: {code}" for code in found]
    assert outside == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if "from" in block.marks], ids=str)
def test_a_block_from_a_file_is_that_file(block: Block) -> None:
    assert block.code == (ROOT / block.marks["from"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", [block for block in BLOCKS if "file" in block.marks], ids=str)
def test_a_file_of_a_page_is_used_by_what_follows(block: Block) -> None:
    file = Path(block.marks["file"])
    followers = [other for other in BLOCKS if other.page == block.page and other.line > block.line]
    typed = "".join(other.code for other in followers if is_for_a_reader(other))
    assert file.parts[0] in typed or file.stem in typed


def test_a_page_links_to_what_is_there() -> None:
    broken = []
    for page in [*pages(), ROOT / "CONTRIBUTING.md"]:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if link.startswith(("http:", "https:")):
                continue
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{name_of(page)}: {link}")
    assert broken == []


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    there = {page.name for page in pages() if page.parent.name == "docs"} - {"README.md"}
    assert there - set(LINK.findall(index)) == set()


def test_the_client_reference_is_what_the_code_says() -> None:
    assert client_reference.missing() == set()
    written = client_reference.PAGE.read_text(encoding="utf-8")
    assert written == client_reference.reference(), "run scripts/docs"
