"""The pages of the documentation: every block is run or excused, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import client_reference
from tests.support.command import ROOT
from tests.support.pages import LANGUAGES, OWN_TESTS, Block, blocks_of, excuse, name_of, pages

BLOCKS = [block for page in pages() for block in blocks_of(page)]
LINK = re.compile(r"\]\(([^)\s]+)\)")

# Pages that the index names before they are there: they come from other branches.
COMING = {"object-store.md"}


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page ends with, as forges make it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    reason = excuse(block)
    if reason is None:
        assert "file" in block.marks or "from" in block.marks or block.language in LANGUAGES, (
            f"{block}: no test runs it. Use one of {', '.join(LANGUAGES)}, which "
            "tests/acceptance/test_pages.py runs; or write <!-- run by: tests/... --> or "
            "<!-- not run: reason --> above it"
        )
    elif block.language:
        assert len(reason.split()) > 2 or (ROOT / reason).is_file(), f"{block}: {reason!r}"


def test_a_page_with_a_test_of_its_own_is_named_there() -> None:
    for page, test in OWN_TESTS.items():
        if (ROOT / page).exists():
            assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", [block for block in BLOCKS if "run by" in block.marks], ids=str)
def test_whoever_runs_a_block_exists(block: Block) -> None:
    assert (ROOT / block.marks["run by"]).is_file()


@pytest.mark.parametrize("block", [block for block in BLOCKS if "from" in block.marks], ids=str)
def test_a_block_from_a_file_is_that_file(block: Block) -> None:
    assert block.code == (ROOT / block.marks["from"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", [block for block in BLOCKS if "file" in block.marks], ids=str)
def test_a_file_of_a_page_is_used_by_what_follows(block: Block) -> None:
    file = Path(block.marks["file"])
    followers = [other for other in BLOCKS if other.page == block.page and other.line > block.line]
    typed = "".join(other.code for other in followers if excuse(other) is None)
    assert file.parts[0] in typed or file.stem in typed


def test_a_page_links_to_what_is_there() -> None:
    broken = []
    for page in [*pages(), ROOT / "CONTRIBUTING.md"]:
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if link.startswith(("http:", "https:")) or (name in COMING and not target.exists()):
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
