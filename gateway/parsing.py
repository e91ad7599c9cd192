"""JSON to models, with a bound on what it becomes in memory."""

from __future__ import annotations

import re

from pydantic import ValidationError

from gateway.bodies import Body, BodyModel
from gateway.closest import closest
from gateway.refusals import Unprocessable
from schemas.wire import first_fault

MOST_OUTSIDE = 16 << 20
"""Bytes outside of strings: numbers, and what holds them together."""

# Possessive: each byte is looked at once.
_WITHIN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_WINDOW = 1 << 20
"""Bytes that are looked at without letting another thread go on."""

_QUOTE = 0x22


def parsed(model: type[BodyModel], raw: bytes) -> BodyModel:
    """The body, validated. Raises Unprocessable."""
    _check_structure(raw, model.most_strings)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise Unprocessable(f"the body cannot be taken: {_fault(model, error)}") from error


def _fault(model: type[Body], error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    if fault["type"] != "extra_forbidden":
        return first_fault(error)
    name, known = str(fault["loc"][0]), list(model.model_fields)
    return f"it has no field {name[:80]!r}{closest(name, known)}, only {', '.join(known)}"


def _check_structure(raw: bytes, most_strings: int) -> None:
    """Not when it is parsed: three bytes may become an object of a hundred, or an error of 500.

    Raises Unprocessable.
    """
    # A string has two quotes that are not escaped, or one that looks so: "ends in \\".
    if raw.count(b'"') - raw.count(b'\\"') > 2 * most_strings:
        raise Unprocessable(f"the body has more than {most_strings} texts and names")
    if len(raw) > MOST_OUTSIDE and _outside(raw) > MOST_OUTSIDE:
        raise Unprocessable(f"the body has more than {MOST_OUTSIDE} bytes outside of texts")


def _outside(raw: bytes) -> int:
    """How many bytes are in no string."""
    outside = at = 0
    while (begin := raw.find(b'"', at)) >= 0:
        outside += begin - at
        at = _end_of_string(raw, begin + 1)
    return outside + len(raw) - at


def _end_of_string(raw: bytes, at: int) -> int:
    """Where what follows it begins; the string may lack its end."""
    while at < len(raw) and raw[at] != _QUOTE:
        within = _WITHIN_STRING.match(raw, at, at + _WINDOW)
        assert within is not None
        at = within.end() if within.end() > at else len(raw)
    return min(at + 1, len(raw))
