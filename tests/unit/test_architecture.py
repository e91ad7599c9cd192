"""docs/architecture.md names what is there."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from typing import Any

import pytest

from schemas.states import FailureKind
from tests.support.command import ROOT
from tests.support.pages import Block, run_by

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


LAYERS, *OUTLINES = run_by(__file__, "docs/architecture.md")


def parameters(definition: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = definition.args
    return [each.arg for each in (*given.args, *given.kwonlyargs) if each.arg != "self"]


@pytest.fixture(scope="module")
def defined() -> dict[str, list[Any]]:
    """Name -> every class, and the parameters of every function or constructor, of that name."""
    found: dict[str, list[Any]] = defaultdict(list)
    for text in SOURCES.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name].append(parameters(node))
            elif isinstance(node, ast.ClassDef):
                found[node.name].append(ast.ClassDef)
    return found


def test_the_layers_are_those_that_the_linter_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (each["layers"] for each in contracts["contracts"] if each["type"] == "layers")
    assert [layer.strip() for layer in LAYERS.code.split("<-")] == layers[::-1]


@pytest.mark.parametrize("outline", OUTLINES, ids=str)
def test_an_outline_shows_what_is_there(outline: Block, defined: dict[str, list[Any]]) -> None:
    # Given the outline without comments, a definition in each line or several
    code = re.sub(r"#.*$", "", outline.code, flags=re.MULTILINE)
    classes = re.findall(r"^class (\w+)", code, re.MULTILINE)
    shown = re.findall(r"((?:async )?def \w+\([^#]*?\)) *(?:->.*)?\n", code)
    assert len(shown) == code.count("def ")

    # Then each class is there, and each function has these parameters, in this order
    for name in classes:
        assert ast.ClassDef in defined[name], name
    for text in shown:
        (definition,) = ast.parse(f"{text}: ...").body
        assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
        wanted = parameters(definition)
        candidates = [each for each in defined[definition.name] if isinstance(each, list)]
        assert wanted in candidates, f"{text}: {candidates}"


def test_every_kind_of_failure_is_explained_to_those_who_submit() -> None:
    page = (ROOT / "docs" / "submissions.md").read_text(encoding="utf-8")
    verdicts = page.partition("## Verdicts")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", verdicts, re.MULTILINE)) == set(FailureKind)
