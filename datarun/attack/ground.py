"""Where attacks are run: a worker, and a look at what is left around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from datarun.attack.traces import Traces
from schemas.messages import Limits
from schemas.states import FoldState, Isolation
from schemas.verdicts import Verdict

Predictions = npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class Ended:
    """What is known of a fold that has ended."""

    results: int
    """How many results are stored of it."""

    state: FoldState
    verdict: Verdict | None
    output: str
    """What it printed."""

    predictions: tuple[Predictions, Predictions]
    """Of all training rows, and of the test rows."""

    cpu: float | None
    """CPU seconds of its training."""

    memory: float | None
    """Peak kB, up to the end of its training."""


class Ground(Protocol):
    """A worker with two slots, one of which a neighbour occupies."""

    isolation: Isolation

    def run(self, files: Mapping[str, str], limits: Limits, *, all_labels: bool = False) -> Ended:
        """Run a submission on the planted data set, and wait for its end.

        all_labels: train it on every training row; else on all but every fifth.
        """

    def traces(self) -> Traces:
        """What there is at this moment."""

    def neighbour_lives(self) -> bool:
        """Whether the fold in the other slot still runs."""
