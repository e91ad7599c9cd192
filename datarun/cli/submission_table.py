"""The table of submissions: one row each, from the results of its folds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from datarun.cli.console import NOTHING, kilobytes, score, seconds, stdout, table
from datarun.cli.score_columns import print_scorers, score_headers, scorers_of
from schemas.states import FoldState
from schemas.verdicts import Verdict

if TYPE_CHECKING:
    from producer.report import Submission
    from producer.results import Result


@dataclass(frozen=True)
class Row:
    """One submission on one data set."""

    submission: str
    dataset: str
    scorers: tuple[str, ...]
    """The scores below are the first one's."""

    folds: int
    tested: int
    failed: int
    validation_score: float | None
    """Mean over the folds; None when none was tested."""

    validation_spread: float | None
    """Standard deviation over the folds."""

    test_score: float | None
    """Mean over the folds."""

    train_seconds: float | None
    """All folds together."""

    memory_kb: float | None
    """The largest peak of a fold alone."""

    verdict: Verdict | None
    """Of the first fold that failed."""


def row(name: str, submission: Submission, results: Sequence[Result]) -> Row:
    """What became of a submission."""
    tested = [result for result in results if result.state is FoldState.TESTED]
    failed = [result for result in results if result.state is not FoldState.TESTED]
    validation = _known(next(iter(result.valid_scores.values()), None) for result in tested)
    test = _known(next(iter(result.test_scores.values()), None) for result in tested)
    times = _known(result.train_time for result in tested)
    peaks = _known(result.test_memory or result.train_memory for result in tested)
    verdicts = [result.verdict for result in failed if result.verdict is not None]
    return Row(
        submission=name,
        dataset=submission.dataset.partition("@")[0],
        scorers=scorers_of(results),
        folds=len(results),
        tested=len(tested),
        failed=len(failed),
        validation_score=statistics.fmean(validation) if validation else None,
        validation_spread=statistics.pstdev(validation) if validation else None,
        test_score=statistics.fmean(test) if test else None,
        train_seconds=sum(times) if times else None,
        memory_kb=max(peaks) if peaks else None,
        verdict=verdicts[0] if verdicts else None,
    )


def document(line: Row) -> dict[str, Any]:
    """A row for programs."""
    document = dict(vars(line))
    if line.verdict is not None:
        document["verdict"] = line.verdict.model_dump(mode="json")
    return document


def print_rows(lines: Sequence[Row]) -> None:
    """The table on stdout, and under it why folds failed."""
    console = stdout()
    rows = [
        (
            line.submission,
            line.dataset,
            _folds(line),
            _with_spread(line.validation_score, line.validation_spread),
            score(line.test_score),
            seconds(line.train_seconds),
            kilobytes(line.memory_kb),
        )
        for line in lines
    ]
    scorers = [line.scorers for line in lines]
    scores = score_headers(scorers)
    numbers = ("folds", *scores, "train,\nall folds", "peak\nmemory")
    console.print(table(("submission", "data set", *numbers), rows, right=numbers))
    print_scorers(console, scorers)
    for line in lines:
        if line.verdict is not None:
            fault = f" (fault of: {line.verdict.culprit})"
            console.print(
                Text.assemble(
                    (line.submission, "bold"), " failed: ", (line.verdict.message, "red"), fault
                )
            )


def _folds(line: Row) -> Text:
    counts = (("tested", "green", line.tested), ("failed", "red", line.failed))
    return Text(", ").join(
        Text(f"{count} {what}", style=style) for what, style, count in counts if count
    )


def _with_spread(mean: float | None, spread: float | None) -> str:
    return NOTHING if mean is None else f"{score(mean)} ± {score(spread)}"


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
