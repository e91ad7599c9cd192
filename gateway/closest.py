"""The name that somebody probably meant; bounded, since the names may be a stranger's."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

_MOST_NAMES = 1000
_LONGEST = 100


def closest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'acknowledge'?)`, or nothing."""
    if len(name) > _LONGEST:
        return ""
    candidates = [other for other in islice(known, _MOST_NAMES) if len(other) <= _LONGEST]
    close = difflib.get_close_matches(name, candidates, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
