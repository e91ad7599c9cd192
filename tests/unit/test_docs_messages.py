"""The JSON of docs/messages.md and docs/console.md is what the models read."""

from __future__ import annotations

import pytest

from schemas.wire import Envelope, unpack
from tests.support.documents import json_blocks

BLOCKS = [
    pytest.param(key, body, id=f"{page}-{key}-{number}")
    for page in ("messages", "console")
    for number, (key, body) in enumerate(json_blocks(page))
]


@pytest.mark.parametrize(("key", "body"), BLOCKS)
def test_a_block_is_a_message(key: str, body: str) -> None:
    message = unpack(Envelope(body=body.encode(), routing_key=key))
    for file in getattr(message, "files", {}).values():
        assert file.to_bytes().isascii()
