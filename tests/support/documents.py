"""Messages that stand in the pages of docs/, each under a comment with its routing key."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^<!-- key: (\S+) -->\n```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def json_blocks(page: str) -> list[tuple[str, str]]:
    """Routing key and body of each, in the order of the page."""
    return _BLOCK.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
