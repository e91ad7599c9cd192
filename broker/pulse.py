"""A file whose age says whether a service is at work, for those who look from outside."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import TracebackType

from schemas.errors import ConfigurationError

logger = logging.getLogger(__name__)


class Pulse:
    """Touches its file at each `beat`, and removes it when the service ends as it should.

    A file, and no port: a health check beside the service can read it, and nobody else can ask.
    """

    def __init__(self, path: Path | None) -> None:
        """None: no file is written."""
        self.path = path

    def __enter__(self) -> Pulse:
        if self.path is not None:
            try:
                # What a service that was killed has left says nothing of this one.
                self.path.unlink(missing_ok=True)
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"setting pulse (DATARUN_PULSE): {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def beat(self) -> None:
        """The service has just done what it is there for."""
        if self.path is None:
            return
        try:
            self.path.touch()
        except OSError as error:
            logger.warning("no pulse: %s", error, extra={"action": "pulse_not_written"})


def seconds_since(path: Path) -> float | None:
    """Age of the last beat; None where there was none, or the service has ended."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return None
