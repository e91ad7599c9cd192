"""Live progress of submissions: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from datarun.cli.console import stderr
from schemas.states import FoldState

if TYPE_CHECKING:
    from rich.progress import TaskID

    from producer.client import Client
    from producer.report import Submission
    from producer.results import Result

MOST_AT_ONCE = 16
"""Submissions that are followed at one time."""


class Following:
    """Follows submissions, each in a thread of its own, and shows how far they are.

    Use it in a `with` block, inside that of the client.
    """

    def __init__(self, client: Client, timeout: float, *, quiet: bool = False) -> None:
        """quiet: shows nothing."""
        self._client = client
        self._timeout = timeout
        self._shown: Shown = Nothing() if quiet else Bars() if stderr().is_terminal else Lines()
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE)
        self._followed: dict[str, Future[list[Result]]] = {}

    def add(self, name: str, submission: Submission) -> None:
        """Follow one more."""
        self._shown.add(name, len(submission.fold_ids))
        self._followed[name] = self._pool.submit(self._follow, name, submission)

    def results(self) -> dict[str, list[Result]]:
        """Wait for all verdicts; each submission's, without predictions, in the order of the ids.

        Raises TimeoutError, which names the folds without a verdict.
        """
        return {name: future.result() for name, future in self._followed.items()}

    def _follow(self, name: str, submission: Submission) -> list[Result]:
        results = []
        for result in self._client.follow(
            submission.fold_ids, timeout=self._timeout, with_predictions=False
        ):
            results.append(result)
            self._shown.advance(name, failed=result.state is not FoldState.TESTED)
        return sorted(results, key=lambda result: result.submission_fold_id)

    def __enter__(self) -> Self:
        self._shown.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._shown.stop()
        # After Ctrl-C, threads end when the client is closed, which comes next.
        self._pool.shutdown(wait=error is None, cancel_futures=True)


class Shown(Protocol):
    """One way to show progress; called from several threads."""

    def start(self) -> None:
        """Before the first submission."""

    def add(self, name: str, folds: int) -> None:
        """A submission with so many folds."""

    def advance(self, name: str, *, failed: bool) -> None:
        """One of its folds has ended."""

    def stop(self) -> None:
        """After the last one."""


class Nothing:
    """For programs, which want the results alone."""

    def start(self) -> None: ...

    def add(self, name: str, folds: int) -> None: ...

    def advance(self, name: str, *, failed: bool) -> None: ...

    def stop(self) -> None: ...


class Bars:
    """For a terminal."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("[red]{task.fields[note]}"),
            TimeElapsedColumn(),
            console=stderr(),
        )
        self._tasks: dict[str, TaskID] = {}
        self._failed: dict[str, int] = {}

    def start(self) -> None:
        self._progress.start()

    def add(self, name: str, folds: int) -> None:
        self._failed[name] = 0
        self._tasks[name] = self._progress.add_task(name, total=folds, note="")

    def advance(self, name: str, *, failed: bool) -> None:
        self._failed[name] += failed
        note = f"{self._failed[name]} failed" if self._failed[name] else ""
        self._progress.update(self._tasks[name], advance=1, note=note)

    def stop(self) -> None:
        self._progress.stop()


class Lines:
    """For a log: one line when a submission is through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._folds: dict[str, int] = {}

    def start(self) -> None: ...

    def add(self, name: str, folds: int) -> None:
        self._left[name] = self._folds[name] = folds
        self._failed[name] = 0

    def advance(self, name: str, *, failed: bool) -> None:
        with self._lock:
            self._left[name] -= 1
            self._failed[name] += failed
            if not self._left[name]:
                text = f"{name}: {self._folds[name]} folds, {self._failed[name]} failed"
                stderr().print(text, markup=False)

    def stop(self) -> None: ...
