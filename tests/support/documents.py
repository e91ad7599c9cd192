"""Messages that stand in the pages of docs/, each under a comment with its routing key."""

from __future__ import annotations

from pathlib import Path

from tests.support.pages import ROOT, blocks_of

DOCS = Path(__file__).parents[2] / "docs"


def json_blocks(page: str) -> list[tuple[str, str]]:
    """Routing key and body of each, in the order of the page."""
    blocks = blocks_of(ROOT / "docs" / f"{page}.md")
    return [(block.marks["key"], block.code) for block in blocks if block.language == "json"]
