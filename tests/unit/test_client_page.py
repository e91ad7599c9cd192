"""docs/client.md: its signatures are Python's, and the tree of errors is that of the classes."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

import datarun
from datarun import errors
from tests.support.pages import Block, run_by

*SIGNATURES, TREE = run_by(__file__, "docs/client.md")


@pytest.mark.parametrize("block", SIGNATURES, ids=str)
def test_a_signature_has_the_parameters_of_what_it_names(block: Block) -> None:
    definition = ast.parse(f"def {block.code.strip()}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    owners = (datarun.Client, datarun.Result, datarun.Report, datarun.File)
    meant = [getattr(owner, definition.name, None) for owner in owners]
    candidates = [datarun.Client] if definition.name == "Client" else filter(None, meant)
    shown = [*definition.args.args, *definition.args.kwonlyargs]
    assert [argument.arg for argument in shown] in [
        [name for name in inspect.signature(each).parameters if name != "self"]
        for each in candidates
    ]


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    above: list[str] = []
    for line in TREE.code.splitlines():
        found = re.match(r"([ |+-]*)(\w+)", line)
        assert found is not None
        depth, name = len(found[1]) // 5 + (len(found[1]) % 5 > 0), found[2]
        if above:
            bases = {base.__name__ for base in getattr(errors, name).__bases__}
            assert above[depth - 1] in bases, line
        above[depth:] = [name]
    classes = {name for name, each in vars(errors).items() if inspect.isclass(each)}
    assert classes == {line.strip(" |+-").split()[0] for line in TREE.code.splitlines()}
