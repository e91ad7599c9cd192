"""Log lines of a service: one event a line, with an `action` and its ids as fields.

On a terminal as text, else as JSON, which programs search and people grep.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from schemas.settings import LogFormat

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PASSWORD = re.compile(r"(://[^:/@\s\"']*):[^@/\s\"']+@")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")

_encode = json.JSONEncoder(default=str).encode
"""Made once: `json.dumps` with an argument makes one for each line."""

LIBRARY = "library"
"""The action of lines that are not ours; `logger` says whose they are."""


class LineFormatter(logging.Formatter):
    """`2026-11-21T07:41:03+0000 INFO    fold tested  action=fold_tested run_id=... `."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, then everything that was passed as `extra`."""
        # A submission's error may be in it: it begins no line of its own, and moves no cursor.
        line = _escaped(super().formatMessage(record))
        pairs = [f"{key}={_word(value)}" for key, value in _fields(record).items()]
        return f"{line}  {' '.join(pairs)}"

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback where there is one."""
        return without_passwords(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, logger, message, action, and its ids."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = datetime.fromtimestamp(record.created, UTC)
        document: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return without_passwords(_encode(document))


def log_to_stderr(
    level: str, form: LogFormat = LogFormat.AUTO, *, service: str = "datarun"
) -> bool:
    """Send the log of this process, from `level` on, to standard error; whether as JSON."""
    is_json = form is LogFormat.JSON or (form is LogFormat.AUTO and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if is_json else LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for chatty in ("aio_pika", "aiormq", "pika"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    return is_json


def readable(line: str) -> str:
    """A line of a log for a person: JSON as text, any other as it is; none moves a cursor."""
    try:
        document = json.loads(line)
        at = datetime.fromisoformat(document["time"]).astimezone()
        said = [f"{at:%Y-%m-%dT%H:%M:%S%z} {document['level']:<7} {document['message']}"]
        said += document.get("exception", "").splitlines()
    except (ValueError, KeyError, TypeError, AttributeError):
        said = [line]
    return "\n".join(map(_escaped, said))


def without_passwords(text: str) -> str:
    """`text`, in whose URLs `***` stands for each password."""
    return _PASSWORD.sub(r"\1:***@", text) if "://" in text else text


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    given = {
        key: value
        for key, value in vars(record).items()
        if key not in _STANDARD and value is not None
    }
    return given if "action" in given else {"action": LIBRARY, **given}


def _word(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c in "\"'=" for c in text) else text
