"""Verdicts: what happened to a fold or a data set, in which phase, and whose fault it was."""

from __future__ import annotations

import re

from schemas.frozen import Frozen, Text
from schemas.states import Culprit, FailureKind, Phase

MAX_OUTPUT = 16 * 1024
"""Characters kept of each of stdout, stderr and traceback: half from the head, half of the tail."""

_MARKER = re.compile(r"ERROR\((?=\s*(?:split data|train|validation|test)\s*\))", re.IGNORECASE)


class Verdict(Frozen):
    """Why a fold or a data set failed."""

    phase: Phase
    kind: FailureKind
    culprit: Culprit
    message: Text
    """One sentence for a human, such as `memory: 4.0 of 4.0 GiB used in train`."""

    traceback: Text = ""
    """The traceback, trimmed to the user's frames."""

    def __str__(self) -> str:
        return self.message


class Output(Frozen):
    """What a fold wrote to its standard streams, bounded by `clip`."""

    stdout: Text = ""
    stderr: Text = ""


def clip(text: str, limit: int = MAX_OUTPUT) -> str:
    """Keep the head and the tail of `text`, and say how much is missing between them."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def log_messages(verdict: Verdict | None, output: Output | None = None) -> str:
    """The `log_messages` of 2016: what was printed, and for a failure the reason.

    A failed fold's text ends with exactly one of `ERROR(split data)`, `ERROR(train)`,
    `ERROR(validation)`, `ERROR(test)`. The same text written by a submission is defused, since
    databoard searches for these markers. A cancelled fold has not failed, and gets none.
    """
    blocks = []
    if output is not None:
        blocks += [text.rstrip("\n") for text in (output.stdout, output.stderr) if text.strip()]
    if verdict is not None:
        blocks += [text.rstrip("\n") for text in (verdict.traceback, verdict.message) if text]
    text = _MARKER.sub("ERROR (", "\n".join(blocks))
    if verdict is None or verdict.kind is FailureKind.CANCELLED:
        return text
    return f"{text}\n{verdict.phase.marker}"
