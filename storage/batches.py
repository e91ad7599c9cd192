"""Which messages are stored together: how long they wait for company, and how many go at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.delivery import Delivery
from schemas.events import FoldPart, FoldStarted, FoldTrained, FoldValidated

PROGRESS_SECONDS = 0.5
"""How long a fold's progress may wait to be stored together with what comes after it: a transaction
costs as much as some ten messages in it."""

LINGER_SECONDS = 0.05
"""How long anything else waits for more; what somebody waits for in person does not wait."""

BATCH_BYTES = 64 << 20
"""Bodies that one transaction stores, at most; a single larger one goes alone."""

READ_BYTES = 64 << 10
"""Bodies that are read in the event loop: sooner done than brought to another thread and back."""

_PROGRESS = frozenset({FoldStarted.TYPE, FoldTrained.TYPE, FoldValidated.TYPE, FoldPart.TYPE})


def patience(delivery: Delivery) -> float:
    """How long a batch may wait once this is in it."""
    if delivery.envelope.reply_to is not None:
        return 0.0
    return PROGRESS_SECONDS if delivery.envelope.type in _PROGRESS else LINGER_SECONDS


def cut(deliveries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """Batches of at most BATCH_BYTES."""
    batch: list[Delivery] = []
    size = 0
    for delivery in deliveries:
        length = len(delivery.envelope.body)
        if batch and size + length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(delivery)
        size += length
    yield batch
