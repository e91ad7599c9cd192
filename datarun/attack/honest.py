"""The honest fold that follows each attack, compared with what it was before any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from datarun.attack.attack import ROOMY
from datarun.attack.ground import Ended, Ground
from schemas.states import FoldState

_FOLDER = Path(__file__).parent / "submissions"
HONEST = {"regressor.py": (_FOLDER / "honest.py").read_text(encoding="utf-8")}
NEIGHBOUR = {"regressor.py": (_FOLDER / "neighbour.py").read_text(encoding="utf-8")}

_BEFORE = 4
_TRIES = 4
"""On a busy machine a measurement is off now and then; what an attack has changed stays."""

_CPU_FACTOR, _CPU_SECONDS = 2.0, 0.05
_MEMORY_FACTOR, _MEMORY_KB = 1.25, 4096


@dataclass(frozen=True)
class Honest:
    """How honest folds end that no attack came before."""

    expected: Ended
    cpu: tuple[float, float]
    """Least and most CPU seconds."""

    memory: tuple[float, float]
    """Least and most kB."""

    @classmethod
    def before(cls, ground: Ground) -> Self:
        """Run some, on all labels, in the slot of the attacks; RuntimeError when they fail."""
        ended = [_run(ground) for _ in range(_BEFORE)]
        for one in ended:
            if one.state is not FoldState.TESTED or "FOUND" in one.output:
                raise RuntimeError(f"an honest fold failed before any attack: {one}")
        cpu = [one.cpu or 0.0 for one in ended]
        memory = [one.memory or 0.0 for one in ended]
        return cls(ended[0], (min(cpu), max(cpu)), (min(memory), max(memory)))

    def after_an_attack(self, ground: Ground) -> list[str]:
        """What is not as it was."""
        problems: list[str] = []
        for _ in range(_TRIES):
            ended = _run(ground)
            problems = self._lasting(ended)
            if problems:
                return problems
            problems = self._measured(ended)
            if not problems:
                return []
        return problems

    def _lasting(self, ended: Ended) -> list[str]:
        if ended.state is not FoldState.TESTED:
            return [f"the next honest fold failed: {ended.verdict}"]
        found = [line for line in ended.output.splitlines() if line.startswith("FOUND")]
        problems = [f"the next honest fold {line.lower()}" for line in found]
        for now, before in zip(ended.predictions, self.expected.predictions, strict=True):
            if now is None or before is None or not np.array_equal(now, before):
                problems.append("the next honest fold's predictions changed")
        if ended.results != 1:
            problems.append(f"the next honest fold has {ended.results} results")
        return problems

    def _measured(self, ended: Ended) -> list[str]:
        problems = []
        cpu, memory = ended.cpu or 0.0, ended.memory or 0.0
        if not (
            self.cpu[0] / _CPU_FACTOR - _CPU_SECONDS
            <= cpu
            <= self.cpu[1] * _CPU_FACTOR + _CPU_SECONDS
        ):
            problems.append(
                f"the next honest fold used {cpu:.3f} s CPU, "
                f"{self.cpu[0]:.3f} to {self.cpu[1]:.3f} s before"
            )
        if not (
            self.memory[0] / _MEMORY_FACTOR - _MEMORY_KB
            <= memory
            <= self.memory[1] * _MEMORY_FACTOR + _MEMORY_KB
        ):
            problems.append(
                f"the next honest fold used {memory:.0f} kB, "
                f"{self.memory[0]:.0f} to {self.memory[1]:.0f} kB before"
            )
        return problems


def _run(ground: Ground) -> Ended:
    return ground.run(HONEST, ROOMY, all_labels=True)
