"""A client of the stack that is configured here, for one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from schemas.errors import BrokerUnreachable

if TYPE_CHECKING:
    from producer.client import Client

TIMEOUT_SECONDS = 15.0
"""A person waits for the answer."""


@contextmanager
def connected() -> Iterator[Client]:
    """Raises ConfigurationError when no stack is configured, BrokerUnreachable when it is away."""
    from producer.client import Client

    try:
        with Client(timeout=TIMEOUT_SECONDS) as client:
            yield client
    except BrokerUnreachable as error:
        if (stale := _stale_connection_file()) is None:
            raise
        raise BrokerUnreachable(
            f"{stale} names a stack that no longer runs; start it again with `datarun up` ({error})"
        ) from error


def _stale_connection_file() -> str | None:
    """The one that was used, if the `datarun up` that wrote it was killed."""
    from datarun.up.home import Home
    from schemas.settings import find_home, load_settings

    found = find_home()
    if found is None or load_settings().broker is not None:
        return None
    home = Home.at(found)
    return str(home.connection_file) if home.holder() is None else None
