"""`Report`: what a cross-validation came to."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producer.results import Result
from schemas.results import Scores
from schemas.states import FoldState

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Spread:
    """Mean and standard deviation over folds."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.deviation:.4f}"


@dataclass(frozen=True)
class Submission:
    """What was published to cross-validate one submission."""

    submission_id: int
    dataset: str
    """`name@version`."""

    fold_ids: tuple[int, ...]


@dataclass(frozen=True, repr=False, eq=False)
class Report:
    """One submission on every fold of a cross-validation, in the order of the fold ids."""

    submission_id: int
    dataset: str
    """`name@version`."""

    results: tuple[Result, ...]

    @property
    def tested(self) -> tuple[Result, ...]:
        """The folds that succeeded."""
        return tuple(result for result in self.results if result.state is FoldState.TESTED)

    @property
    def failed(self) -> tuple[Result, ...]:
        """The folds that did not."""
        return tuple(result for result in self.results if result.state is not FoldState.TESTED)

    @property
    def valid_scores(self) -> dict[str, Spread]:
        """Scorer name -> mean and deviation over the tested folds, on their `test_is` rows."""
        return _spreads(self.tested, lambda result: result.valid_scores)

    @property
    def test_scores(self) -> dict[str, Spread]:
        """Scorer name -> mean and deviation over the tested folds, on the test rows."""
        return _spreads(self.tested, lambda result: result.test_scores)

    def to_frame(self) -> pd.DataFrame:
        """One row a fold: ids, state, `valid_<scorer>`, `test_<scorer>`, times in seconds,
        memory in kB, and the verdict's sentence. Raises ImportError without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("Report.to_frame needs pandas: pip install pandas") from error
        return pd.DataFrame([_row(result) for result in self.results])

    def __str__(self) -> str:
        lines = [
            f"submission {self.submission_id} on {self.dataset}: "
            f"{len(self.tested)} folds tested, {len(self.failed)} failed"
        ]
        for label, scores in (("validation", self.valid_scores), ("test", self.test_scores)):
            lines += [f"  {label} {name}: {spread}" for name, spread in scores.items()]
        seconds = [result.train_time for result in self.tested if result.train_time is not None]
        if seconds:
            lines.append(f"  training: {statistics.fmean(seconds):.3f} s a fold")
        lines += [
            f"  fold {result.submission_fold_id} {result.state}: {result.verdict}"
            for result in self.failed[:3]
        ]
        if len(self.failed) > 3:
            lines.append(f"  ... and {len(self.failed) - 3} more failed folds")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Report of {self}>"


def _spreads(
    results: tuple[Result, ...], scores_of: Callable[[Result], Scores]
) -> dict[str, Spread]:
    names = dict.fromkeys(name for result in results for name in scores_of(result))
    spreads = {}
    for name in names:
        values = [score for result in results if (score := scores_of(result).get(name)) is not None]
        if values:
            spreads[name] = Spread(statistics.fmean(values), statistics.pstdev(values))
    return spreads


def _row(result: Result) -> dict[str, object]:
    return {
        "submission_fold_id": result.submission_fold_id,
        "state": str(result.state),
        **{f"valid_{name}": score for name, score in result.valid_scores.items()},
        **{f"test_{name}": score for name, score in result.test_scores.items()},
        "train_time": result.train_time,
        "validation_time": result.validation_time,
        "test_time": result.test_time,
        "train_cpu_time": result.train_cpu_time,
        "test_cpu_time": result.test_cpu_time,
        "train_memory": result.train_memory,
        "test_memory": result.test_memory,
        "verdict": None if result.verdict is None else result.verdict.message,
    }
