"""Lines of logs: one event each, whatever is in it, and no password."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from datarun.logs import JsonFormatter, LineFormatter, readable

FORMATTERS = [LineFormatter(), JsonFormatter("collector")]


def record(message: str, **extra: object) -> logging.LogRecord:
    """What a logger makes of a call."""
    return logging.makeLogRecord(
        {"name": "storage.collector", "levelname": "INFO", "msg": message, **extra}
    )


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_what_a_submission_says_begins_no_line_of_its_own(formatter: logging.Formatter) -> None:
    line = formatter.format(
        record("failed: a\n2026 INFO\r\x1b[2J  action=forged\u2028", action="x")
    )
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_passwords_in_urls_are_not_told(formatter: logging.Formatter) -> None:
    # Given a password in a sentence, in a field and in a traceback
    url = "amqp://datarun:hunter2@127.0.0.1:5672/work"
    try:
        raise ConnectionError(url)
    except ConnectionError:
        error = sys.exc_info()

    # When it is written
    text = formatter.format(record(f"cannot reach {url}", action="x", broker=url, exc_info=error))

    # Then the rest of the address stands
    assert "hunter2" not in text
    assert text.count("amqp://datarun:***@127.0.0.1:5672/work") == 3


def test_lines_of_libraries_have_an_action_too() -> None:
    line = json.loads(JsonFormatter("gateway").format(record("pool exhausted")))
    assert line["action"] == "library"
    assert line["service"] == "gateway"


def test_text_has_the_ids_as_words() -> None:
    line = LineFormatter().format(
        record("fold tested", action="fold_tested", run_id="a b", at=None)
    )
    assert line.endswith("INFO    fold tested  action=fold_tested run_id='a b'")


def test_line_of_json_is_shown_to_a_person_as_text() -> None:
    line = JsonFormatter("collector").format(record("collector ready", action="collector_ready"))
    assert readable(line).endswith("INFO    collector ready")
    assert readable("Traceback:") == "Traceback:"
    assert readable("17") == "17"


def test_what_json_has_escaped_does_not_reach_a_terminal() -> None:
    # Given a line with what a submission's error says, and a traceback
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        error = sys.exc_info()
    line = JsonFormatter("worker").format(record("failed: \x1b]0;x\x07\nforged", exc_info=error))

    # When it is shown, then it is one event, and the traceback has its lines
    first, *traceback = readable(line).split("\n")
    assert first.endswith(r"failed: \x1b]0;x\x07\nforged")
    assert len(traceback) > 2
    assert "\x1b" not in readable(line)
    assert readable("\x1b[2J") == r"\x1b[2J"


def test_without_prometheus_client_all_goes_on_unless_a_port_is_set() -> None:
    # Given a Python without it
    program = """
import sys
sys.modules["prometheus_client"] = None
import consumer.metrics, storage.metrics
from broker.metrics import serving_metrics
from schemas.errors import ConfigurationError
from schemas.settings import Settings
consumer.metrics.FOLDS.labels("TESTED", "", "").inc()
consumer.metrics.BUSY_SLOTS.set_function(lambda: 1)
storage.metrics.BATCH_SECONDS.observe(1)
with serving_metrics(Settings()):
    pass
try:
    with serving_metrics(Settings(metrics_port=9464)):
        pass
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    # Then counting does nothing, and asking for a port says what to install
    assert "DATARUN_METRICS_PORT is set, and prometheus-client is not installed" in done.stdout
