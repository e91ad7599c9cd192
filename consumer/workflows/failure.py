"""From an exception in a fold to what its verdict says: sentence, culprit, the user's frames."""

from __future__ import annotations

import os
import traceback
from dataclasses import asdict, dataclass

from schemas.states import Culprit, FailureKind

_SENTENCE = 500
_TRACEBACK = 16 * 1024
_CHAIN = 5


@dataclass(frozen=True)
class Failure:
    """Why a fold cannot go on, as it says itself; the worker takes it with care."""

    kind: FailureKind
    culprit: Culprit
    message: str
    """Without the phase, which the worker knows."""

    traceback: str = ""

    def as_json(self) -> dict[str, str]:
        """As the fold's last frame carries it."""
        return asdict(self)


class Refusal(Exception):
    """Something that a workflow itself finds wrong; its message is the verdict's sentence."""

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind = FailureKind.EXCEPTION,
        culprit: Culprit = Culprit.SUBMISSION,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.culprit = culprit


def describe(error: BaseException, submission: str | None, organiser: str | None) -> Failure:
    """What is to be said about `error`.

    submission, organiser: the folders of their files. An error that was raised by the organiser's
    code, and not beneath the submission's, is the organiser's.
    """
    if isinstance(error, Refusal):
        return Failure(error.kind, error.culprit, str(error))
    folders = [folder for folder in (submission, organiser) if folder]
    trimmed = traceback.TracebackException.from_exception(error, compact=True)
    touched = _files(error)
    in_submission = submission and any(_beneath(name, submission) for name in touched)
    culprit = Culprit.SUBMISSION if in_submission or organiser is None else Culprit.ORGANISER
    _trim(trimmed, folders, _CHAIN)
    lines = list(trimmed.format())
    sentence = "".join(trimmed.format_exception_only()).strip()
    if isinstance(error, SyntaxError):
        name = os.path.basename(error.filename or "")
        sentence = f"{type(error).__name__}: {error.msg} ({name}, line {error.lineno})"
    return Failure(
        FailureKind.EXCEPTION,
        culprit,
        _clipped(sentence.splitlines()[0] if sentence else type(error).__name__, _SENTENCE),
        _clipped("".join(lines), _TRACEBACK),
    )


def _files(error: BaseException) -> list[str]:
    names = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        names.append(error.filename)
    return names


def _trim(trimmed: traceback.TracebackException, folders: list[str], depth: int) -> None:
    """Leave only frames of files in `folders`, called by their names."""
    frames = []
    for frame in trimmed.stack:
        if any(_beneath(frame.filename, folder) for folder in folders):
            frame.filename = os.path.basename(frame.filename)
            frames.append(frame)
    trimmed.stack = traceback.StackSummary.from_list(frames)
    if isinstance(getattr(trimmed, "filename", None), str):  # of a SyntaxError
        trimmed.filename = os.path.basename(trimmed.filename)
    for chained in (trimmed.__cause__, trimmed.__context__):
        if chained is not None and depth:
            _trim(chained, folders, depth - 1)


def _beneath(name: str, folder: str) -> bool:
    return name.startswith(folder + os.sep)


def _clipped(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} ... {text[-half:]}"
