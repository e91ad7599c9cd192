"""Log lines of a service: one event a line, with an `action` and its ids as key=value."""

from __future__ import annotations

import logging
import sys

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """`07:41:03 INFO    fold tested  action=fold_tested run_id=... submission_fold_id=11`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, then everything that was passed as `extra`."""
        line = super().formatMessage(record)
        pairs = [
            f"{key}={_word(value)}"
            for key, value in vars(record).items()
            if key not in _STANDARD and value is not None
        ]
        return f"{line}  {' '.join(pairs)}" if pairs else line


def log_to_stderr(level: str) -> None:
    """Send the log of this process, from `level` on, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("aio_pika", "aiormq", "pika"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def _word(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c in "\"'=" for c in text) else text
