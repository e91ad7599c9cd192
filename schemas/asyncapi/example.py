"""`Example`: a message as it stands in the document, ready to be published as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """One message: its body, and what else travels with it."""

    name: str
    summary: str
    payload: Any
    """JSON; text for what is no JSON."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    """AMQP properties and headers; none at all for what a person types into the console."""


Examples = Mapping[str, tuple[Example, ...]]
"""By the name of the message's model."""
