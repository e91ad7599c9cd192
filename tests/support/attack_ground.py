"""Attacks on a folds executor of one's own, without a broker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datarun.attack.ground import Ended
from datarun.attack.honest import NEIGHBOUR
from datarun.attack.planted import attackers_rows, x_and_y
from datarun.attack.traces import Traces, traces_of
from schemas.messages import Limits
from schemas.states import Isolation
from tests.support.folds import Folds, make_dataset

N_TRAIN = 100
ATTACKED, NEIGHBOURS = 0, 1


class ExecutorGround:
    """As `Ground` has it; the worker is this process."""

    def __init__(self, folder: Path, isolation: Isolation) -> None:
        self.isolation = isolation
        x, y = x_and_y()
        self.dataset = make_dataset(
            folder / "parts", (x[:N_TRAIN], x[N_TRAIN:]), y[:N_TRAIN], elements="regressor"
        )
        self.folds = Folds(folder / "scratch", slots=2, isolation=isolation)
        self._neighbour = self.folds.begin(
            self.dataset, NEIGHBOUR, slot=NEIGHBOURS, train_is=np.arange(N_TRAIN), wall=3600
        )

    def run(self, files: Mapping[str, str], limits: Limits, *, all_labels: bool = False) -> Ended:
        rows = np.arange(N_TRAIN) if all_labels else attackers_rows(N_TRAIN)
        outcome = self.folds.begin(
            self.dataset,
            files,
            slot=ATTACKED,
            run_id="honest" if all_labels else "attack",
            train_is=rows,
            wall=limits.wall_seconds or 20,
            cpu=limits.cpu_seconds or 20,
            memory=limits.memory_bytes or 1 << 29,
            processes=limits.processes or 64,
        ).outcome(60)
        return Ended(
            results=1,
            state=outcome.state,
            verdict=outcome.verdict,
            output=f"{outcome.output.stdout}\n{outcome.output.stderr}",
            predictions=(outcome.full_train_predictions, outcome.test_predictions),
            cpu=outcome.measurements.train_cpu_time,
            memory=outcome.measurements.train_memory,
        )

    def traces(self) -> Traces:
        return traces_of(os.getpid(), [self.folds.scratch])

    def neighbour_lives(self) -> bool:
        return not self._neighbour.future.done()

    def close(self) -> None:
        """Kill what runs."""
        self.folds.close()
