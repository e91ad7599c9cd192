"""JSON Schema of every message of the contract."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from schemas.wire import MESSAGE_TYPES


def json_schema() -> dict[str, Any]:
    """One JSON Schema (2020-12) with a definition for each message, keyed by model name.

    `messages` maps the AMQP `type` property to its definition.
    """
    references, schema = models_json_schema(
        [(model, "validation") for model in MESSAGE_TYPES.values()],
        title="datarun messages",
        ref_template="#/$defs/{model}",
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "messages": {
            name: references[(model, "validation")] for name, model in MESSAGE_TYPES.items()
        },
    }
