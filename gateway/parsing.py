"""JSON to models, with a bound on what it becomes in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import ValidationError

from gateway.bodies import Body, BodyModel
from gateway.closest import closest
from gateway.refusals import Unprocessable
from schemas.wire import first_fault

MOST_WITHIN = 1_000
"""Lists and objects in a body: each takes a hundred bytes of memory for three that are sent, also
in a field that is ignored. What is asked for has four at most."""

# Possessive: each byte is looked at once.
_WITHIN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_WINDOW = 1 << 20
"""Bytes that are looked at without letting another thread go on."""

_QUOTE = 0x22


def parsed(model: type[BodyModel], raw: bytes) -> BodyModel:
    """The body, validated. Raises Unprocessable."""
    _check_structure(raw, model.most_strings, model.most_outside)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise Unprocessable(f"the body cannot be taken: {_fault(model, error)}") from error


def _fault(model: type[Body], error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    # A misspelt name is also one that is missing: say what was meant.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), None)
    if fault is None:
        return first_fault(error)
    name, known = str(fault["loc"][0]), list(model.model_fields)
    return f"it has no field {name[:80]!r}{closest(name, known)}, only {', '.join(known)}"


def _check_structure(raw: bytes, most_strings: int, most_outside: int) -> None:
    """Not when it is parsed: three bytes may become an object of a hundred, or an error of 500.

    Raises Unprocessable.
    """
    # A string has two quotes that are not escaped, or one that looks so: "ends in \\".
    if raw.count(b'"') - raw.count(b'\\"') > 2 * most_strings:
        raise Unprocessable(f"the body has more than {most_strings} texts and names")
    # Most bodies have no more of them, whether in a text or not, and are not looked at closer.
    if len(raw) <= most_outside and _begun(raw, 0, len(raw)) <= MOST_WITHIN:
        return
    outside = within = 0
    for begin, end in _outside(raw):
        outside += end - begin
        within += _begun(raw, begin, end)
    if outside > most_outside:
        raise Unprocessable(f"the body has more than {most_outside} bytes outside of texts")
    if within > MOST_WITHIN:
        raise Unprocessable(f"the body has more than {MOST_WITHIN} lists and objects in it")


def _begun(raw: bytes, begin: int, end: int) -> int:
    """How many lists and objects begin there."""
    return raw.count(b"[", begin, end) + raw.count(b"{", begin, end)


def _outside(raw: bytes) -> Iterator[tuple[int, int]]:
    """Where what is in no string begins and ends."""
    at = 0
    while (begin := raw.find(b'"', at)) >= 0:
        yield at, begin
        at = _end_of_string(raw, begin + 1)
    yield at, len(raw)


def _end_of_string(raw: bytes, at: int) -> int:
    """Where what follows it begins; the string may lack its end."""
    while at < len(raw) and raw[at] != _QUOTE:
        within = _WITHIN_STRING.match(raw, at, at + _WINDOW)
        assert within is not None
        at = within.end() if within.end() > at else len(raw)
    return min(at + 1, len(raw))
