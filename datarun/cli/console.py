"""What the command prints: tables and sentences for people, one JSON document for programs."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Json = Annotated[
    bool,
    typer.Option(
        "--json", metavar="", help="Print one JSON document, and nothing else, for programs."
    ),
]
"""The option that every command has."""

LOG_COLUMNS = 1000
"""Lines are not broken in a file or a pipe: `grep` finds whole sentences."""

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells have it."""

NOTHING = "-"
"""Stands for a value that there is none of."""


def stdout() -> Console:
    """For results."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else LOG_COLUMNS)


@functools.cache
def stderr() -> Console:
    """For progress and errors: what a pipe or a redirection must not contain.

    One for all, so that a line goes above the bars that are being drawn.
    """
    from rich.console import Console

    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else LOG_COLUMNS)


def print_json(document: Any) -> None:
    """One JSON document on stdout; NaN is written as null, as JSON has none."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


VERSION = "version"
"""The header of a column that is copied from the screen: names beside it are broken first."""


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()
) -> Table:
    """A plain table; `right` names the columns of numbers. Cells are text, never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    numbers = set(right)
    # As narrow as can be: a table of ours fits into 80 columns.
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for header in headers:
        drawn.add_column(
            header,
            justify="right" if header in numbers else "left",
            no_wrap=header in numbers or header == VERSION,
            overflow="fold",
        )
    for row in rows:
        drawn.add_row(
            *(
                cell if isinstance(cell, Text) else Text(NOTHING if cell is None else str(cell))
                for cell in row
            )
        )
    return drawn


def state_text(state: str) -> Text:
    """A state in its colour."""
    from rich.text import Text

    return Text(state, style=_STATE_STYLES.get(state, ""))


def seconds(value: float | None) -> str:
    """`0.12 s`, `75 s`, `2 h 05 min`."""
    if value is None:
        return NOTHING
    if value < 10:
        return f"{value:.2f} s"
    if value < 600:
        return f"{value:.0f} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def kilobytes(value: float | None) -> str:
    """`12 MB`, `3.4 GB`; `value` is in kB."""
    if value is None:
        return NOTHING
    return f"{value / 1e6:.1f} GB" if value >= 1e6 else f"{value / 1e3:.0f} MB"


def score(value: float | None) -> str:
    """Three digits behind the point."""
    return NOTHING if value is None else f"{value:.3f}"


def ago(moment: datetime) -> str:
    """`3 s ago`, `5 min ago`, `2 days ago`."""
    passed = max(0, round((datetime.now(UTC) - moment).total_seconds()))
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if passed >= 2 * length:
            return f"{passed // length} {unit} ago"
    return f"{passed} s ago"


_STATE_STYLES = {
    "TESTED": "green",
    "READY": "green",
    "ERROR": "red",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "TODO": "dim",
}
