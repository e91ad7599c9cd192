"""docs/architecture.md names what is there."""

from __future__ import annotations

import re

import pytest

from schemas.states import FailureKind
from tests.support.command import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("schemas", "broker", "producer", "consumer", "storage", "gateway", "datarun")
SOURCES = {
    path: path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_0-9/]+\.py)`", PAGE))))
def test_a_module_that_is_named_is_there(name: str) -> None:
    assert (ROOT / name).is_file() or any(str(path).endswith(f"/{name}") for path in SOURCES)


@pytest.mark.parametrize(
    "definition",
    sorted(set(re.findall(r"^ *((?:async )?(?:def|class) \w+)", PAGE, re.MULTILINE))),
)
def test_a_function_or_class_that_is_shown_is_there(definition: str) -> None:
    assert any(re.search(rf"^ *{definition}\b", text, re.MULTILINE) for text in SOURCES.values())


def test_every_kind_of_failure_is_explained_to_those_who_submit() -> None:
    page = (ROOT / "docs" / "submissions.md").read_text(encoding="utf-8")
    verdicts = page.partition("## Verdicts")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", verdicts, re.MULTILINE)) == set(FailureKind)
