"""The two columns of scores in a table: which scorer they are of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from producer.results import Result
    from schemas.requests import FoldRecord

HEADER_COLUMNS = 12
"""Longer names are broken at their underscores: the table must fit into 80 columns."""


def scorers_of(results: Iterable[Result | FoldRecord]) -> tuple[str, ...]:
    """Names of all scorers, in the data set's order."""
    names = (name for result in results for name in (*result.valid_scores, *result.test_scores))
    return tuple(dict.fromkeys(names))


def score_headers(
    scorers: Iterable[Sequence[str]], validation: str = "validation"
) -> tuple[str, str]:
    """`validation accuracy`, `test accuracy`, in two lines; `scorers`: those of each row."""
    first = {names[0] for names in scorers if names}
    if len(first) != 1:
        return validation, "test"
    # A line may be broken behind a hyphen, and no scorer has one.
    lines = textwrap.wrap(first.pop().replace("_", "-"), HEADER_COLUMNS)
    name = "\n".join(lines).replace("-", "_")
    return f"{validation}\n{name}", f"test\n{name}"


def print_scorers(console: Console, scorers: Iterable[Sequence[str]]) -> None:
    """What the headers cannot say: several scorers, or not the same ones in each row."""
    different = list(dict.fromkeys(tuple(names) for names in scorers if names))
    for names in different:
        if len(names) > 1:
            console.print(
                f"scores are {names[0]}, the first of {', '.join(names)}; "
                "`datarun folds show ID` shows all",
                markup=False,
            )
    first = list(dict.fromkeys(names[0] for names in different))
    if len(first) > 1:
        console.print(f"scores are, by data set, {' or '.join(first)}", markup=False)
