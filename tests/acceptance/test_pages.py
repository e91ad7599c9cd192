"""The pages of the documentation, each followed literally on a running stack that they share.

Those that start and stop one are followed in tests of their own: FOLLOWED_BY names them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import Folder
from tests.support.pages import FOLLOWED_BY, Reader, blocks_of, is_for_a_reader, name_of, pages

# Where a page's own commands do not fail when something is wrong, this says what must be printed.
SAYS = {
    "docs/custom-data.md": ["120 recordings", "3 folds tested"],
}

PAGES = [
    page
    for page in pages()
    if name_of(page) not in FOLLOWED_BY and any(map(is_for_a_reader, blocks_of(page)))
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
