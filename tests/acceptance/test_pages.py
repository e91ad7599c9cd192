"""The pages of the documentation, each followed literally on a running stack that they share.

The quickstart starts and stops one of its own: test_quickstart.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Folder
from tests.support.pages import Reader, is_run_by_a_reader, name_of, pages

# Where a page's own commands do not fail when something is wrong, this says what must be printed.
SAYS = {
    "docs/custom-data.md": ["120 recordings", "3 folds tested"],
}

PAGES = [
    page for page in pages() if name_of(page) != "docs/quickstart.md" and is_run_by_a_reader(page)
]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_followed_literally_works(running: Folder, page: Path) -> None:
    # Given somebody below the folder of a running stack
    reader = Reader(running.path / page.stem)

    # When he does what the page says, then nothing fails, and it says what it should
    said = reader.follow(page)
    for text in SAYS.get(name_of(page), []):
        assert text in said

    # And what he has submitted has learnt
    for result in running.json("results", "new"):
        assert result["state"] == "TESTED"
        assert result["test_scores"].get("accuracy", 1) > 0.7, result
        assert result["test_scores"].get("rmse", 0) < 70, result
