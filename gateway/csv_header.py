"""Whether a CSV file has the column to predict, seen from its first line alone.

Only what can be said for certain is refused here: the split reads the file again, and judges.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections.abc import Sequence

from gateway.closest import closest
from schemas.errors import MessageError

_BEGINNING = 1 << 20
"""Bytes in which a header ends, or is not looked at."""

_NAMES_SHOWN = 20
_NAME_SHOWN = 80

_UNNAMED = re.compile(r"Unnamed: \d+")
"""What pandas calls a column without a name."""


def check_target(file: str, pieces: Sequence[tuple[int, bytes]], target: str) -> None:
    """Raises MessageError when the file, which is `packed`, has a readable header without the
    column `target`."""
    names = _header(pieces)
    if names is None or target in names or _UNNAMED.fullmatch(target):
        return
    more = len(names) - _NAMES_SHOWN
    shown = ", ".join(repr(name[:_NAME_SHOWN]) for name in names[:_NAMES_SHOWN])
    raise MessageError(
        f"target_column: {file} has no column {target[:_NAME_SHOWN]!r}{closest(target, names)}; "
        f"it has {shown}" + (f" and {more} more" if more > 0 else "")
    )


def _header(pieces: Sequence[tuple[int, bytes]]) -> list[str] | None:
    """The names in the first line that is not blank; None when that cannot be said."""
    beginning = zlib.decompressobj().decompress(pieces[0][1], _BEGINNING)
    text = beginning.decode("utf-8-sig", "replace")
    lines = io.StringIO(text, newline="")
    try:
        row = next((row for row in csv.reader(lines) if any(cell.strip() for cell in row)), None)
    except csv.Error:
        return None
    is_whole = sum(size for size, _ in pieces) == len(beginning)
    is_cut = not is_whole and lines.tell() == len(text)
    if row is None or is_cut or any("\ufffd" in name or "\0" in name for name in row):
        return None
    return row
