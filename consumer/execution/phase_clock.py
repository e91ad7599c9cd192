"""A fold's measurements, phase by phase; wall times are the worker's."""

from __future__ import annotations

import time

from schemas.events import Measurements
from schemas.states import Phase


class PhaseClock:
    """Turns what has been used since the beginning into what each phase used."""

    def __init__(self) -> None:
        self.measurements = Measurements()
        self._began: float | None = None
        self._cpu = 0.0

    def begin(self, cpu: float, moment: float | None = None) -> None:
        """A phase begins now, or at `moment`; `cpu` seconds were used before it."""
        self._began = time.monotonic() if moment is None else moment
        self._cpu = cpu

    def end(self, phase: Phase, cpu: float, memory: int, moment: float | None = None) -> None:
        """The phase has ended, or was broken off; nothing when it has ended before.

        cpu: seconds in all; memory: peak kB until now.
        """
        if self._began is None:
            return
        now = time.monotonic() if moment is None else moment
        wall, used = max(0.0, now - self._began), max(0.0, cpu - self._cpu)
        match phase:
            case Phase.TRAIN:
                new = {"train_time": wall, "train_cpu_time": used, "train_memory": memory}
            case Phase.VALIDATION:
                new = {"validation_time": wall}
            case Phase.TEST:
                new = {"test_time": wall, "test_cpu_time": used, "test_memory": memory}
            case Phase.DATA:
                return
        self._began = None
        self.measurements = self.measurements.model_copy(update={**new, "memory_source": "sampled"})
