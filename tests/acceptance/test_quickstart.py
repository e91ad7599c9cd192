"""docs/quickstart.md, followed literally: the one page with a stack of its own."""

from __future__ import annotations

import re

import pytest

from tests.support.command import ROOT, Folder
from tests.support.pages import Reader


@pytest.mark.slow
def test_quickstart_followed_literally_works(folder: Folder) -> None:
    # Given an empty folder
    stranger = Reader(folder.path)

    # When a stranger does what the page says
    said = stranger.follow(ROOT / "docs" / "quickstart.md")

    # Then each step does what the text says
    assert "wine@" in said
    assert "is ready" in said
    assert re.search(r"forest +wine +10 tested ", said)
    assert "10 acknowledged" in said
    assert "Nothing is new." in said
    assert "name 'LogisticRegression' is not defined" in said
    assert "ERROR(train)" in said
    assert "valid_accuracy" in said
    assert folder.processes() == {}
