"""The exported JSON Schema holds together, and what we send is what it describes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.frozen import Message
from schemas.json_schema import json_schema
from schemas.messages import DataMessage, FoldMessage
from schemas.wire import MESSAGE_TYPES, pack
from tests.unit.schema_strategies import FEW, dataset, fold, of_model

SCHEMA = json_schema()
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
KNOWN = {
    *("$ref", "$defs", "$schema", "anyOf", "enum", "const", "type", "properties", "required"),
    *("additionalProperties", "items", "prefixItems", "minItems", "maxItems", "propertyNames"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern", "format"),
    *("title", "description", "default", "messages", "minLength", "maxLength"),
}


def schemas_in(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and every schema inside it."""
    yield schema
    for keyword in ("properties", "$defs", "messages"):
        for inner in schema.get(keyword, {}).values():
            yield from schemas_in(inner)
    for keyword in ("anyOf", "prefixItems"):
        for inner in schema.get(keyword, []):
            yield from schemas_in(inner)
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(keyword), dict):
            yield from schemas_in(schema[keyword])


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is what the schema says: the keywords that ours uses."""
    if "$ref" in schema:
        return fits(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in schema:
        return any(fits(value, choice) for choice in schema["anyOf"])
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema:
        if not isinstance(value, TYPES[schema["type"]]):
            return False
        if isinstance(value, bool) and schema["type"] != "boolean":
            return False
    match value:
        case dict():
            properties = schema.get("properties", {})
            others = schema.get("additionalProperties", True)
            names = schema.get("propertyNames", {})
            return (
                set(schema.get("required", [])) <= set(value)
                and all(fits(value[name], properties[name]) for name in properties if name in value)
                and all(fits(name, names) for name in value)
                and (
                    not isinstance(others, dict)
                    or all(fits(value[name], others) for name in value if name not in properties)
                )
            )
        case list():
            first = schema.get("prefixItems", [])
            rest = schema.get("items", {})
            return (
                schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
                and all(fits(item, inner) for item, inner in zip(value, first, strict=False))
                and (rest is False or all(fits(item, rest) for item in value[len(first) :]))
            )
        case str():
            return "pattern" not in schema or re.search(schema["pattern"], value) is not None
        case bool() | None:
            return True
        case _:
            return (
                schema.get("minimum", value) <= value <= schema.get("maximum", value)
                and not value <= schema.get("exclusiveMinimum", value - 1)
                and not value >= schema.get("exclusiveMaximum", value + 1)
            )


def schema_of(model: type[Message]) -> dict[str, Any]:
    return SCHEMA["messages"][model.TYPE]


def test_the_schema_is_json_and_names_every_message():
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(SCHEMA["messages"]) == set(MESSAGE_TYPES)


def test_every_reference_resolves_and_every_keyword_is_known():
    for schema in schemas_in(SCHEMA):
        assert set(schema) <= KNOWN
        if "$ref" in schema:
            assert schema["$ref"].removeprefix("#/$defs/") in SCHEMA["$defs"]
        if "type" in schema:
            assert schema["type"] in TYPES
        if "pattern" in schema:
            re.compile(schema["pattern"])
        if "properties" in schema:
            assert set(schema.get("required", [])) <= set(schema["properties"])


@pytest.mark.parametrize("model", MESSAGE_TYPES.values(), ids=lambda model: model.__name__)
@FEW
@given(data=st.data())
def test_every_message_we_send_is_what_the_schema_says(model: type[Message], data: st.DataObject):
    body = json.loads(pack(data.draw(of_model(model)), "key").body)
    assert fits(body, schema_of(model))


def test_a_message_typed_by_hand_is_what_the_schema_says():
    # Given plain lists for arrays and plain text for files, as DESIGN lets people write them
    assert fits(fold(), schema_of(FoldMessage))
    assert fits(fold(files={"a.py": {"data": "x = 1"}}), schema_of(FoldMessage))
    assert fits(dataset(), schema_of(DataMessage))


@pytest.mark.parametrize(
    "changes",
    [
        {"submission_fold_id": -1},
        {"submission_fold_id": "1"},
        {"submission_id": True},
        {"train_is": "0, 1"},
        {"priority": "M"},
        {"pool": "a b"},
        {"limits": {"wall_seconds": 0}},
        {"files": ["a.py"]},
    ],
    ids=str,
)
def test_the_schema_refuses_what_we_refuse(changes: dict[str, Any]):
    assert not fits(fold(**changes), schema_of(FoldMessage))
