"""`Attack`: a hostile submission, and what has to become of it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.messages import Limits
from schemas.states import Culprit, FailureKind, FoldState, Phase

STOLEN = "STOLEN"
"""What an attack prints, with what it has got, when nothing stopped it."""

MARK = "datarun-attack"
"""In the names of all that attacks leave behind outside of their own folder."""

SYSV_KEY = 0xDA7A
"""Of the System V shared memory, queues and semaphores that attacks leave behind."""


class Family(StrEnum):
    """What an attack is after."""

    PROCESSES = "processes"
    """Outliving the fold, and harming whoever watches it."""

    TIME = "time"
    """Never ending."""

    MEMORY = "memory"
    """Taking more than is allowed."""

    OUTPUT = "output"
    """Filling pipes and disks."""

    EXITS = "exits"
    """Ending in odd ways, and claiming to have ended otherwise."""

    THEFT = "theft"
    """Getting out, and reading what is not its own."""

    LEARNING = "learning"
    """Predictions, models and measurements that are not what they seem."""


@dataclass(frozen=True)
class Ending:
    """How an attack has to end."""

    state: FoldState
    kinds: tuple[FailureKind, ...] = ()
    sentence: str = ""
    """A regular expression for the verdict's whole sentence."""

    phase: Phase | None = None
    culprit: Culprit = Culprit.SUBMISSION

    def __str__(self) -> str:
        if self.state is FoldState.TESTED:
            return "TESTED"
        return f"{' or '.join(self.kinds)} in {self.phase}"


TESTED = Ending(FoldState.TESTED)
"""Whatever it tried was stopped without more ado, and it predicts what it likes."""


def fails(*kinds: FailureKind, sentence: str, phase: Phase = Phase.TRAIN) -> Ending:
    """It gets a verdict."""
    return Ending(FoldState.ERROR, kinds, sentence, phase)


MIB = 1 << 20
ROOMY = Limits(wall_seconds=20, cpu_seconds=20, memory_bytes=512 * MIB, processes=64)
"""More than an attack needs that is stopped at once, also on a busy machine."""

BRIEF = ROOMY.model_copy(update={"wall_seconds": 1.0})
"""For what goes on until it is stopped."""


@dataclass(frozen=True)
class Attack:
    """A hostile submission."""

    family: Family
    name: str
    what: str
    """One sentence."""

    files: Mapping[str, str]
    ends: Ending = TESTED
    limits: Limits = ROOMY
    says: str = ""
    """A regular expression for something that it has to print: that it has tried."""

    cpu_seconds: float = 0.0
    """What its training uses at least, whatever it claims."""

    memory_kb: float = 0.0
    """What its training's peak is at least, whatever it does to hide it."""

    harmful: bool = False
    """Would do harm to the host where nothing stops it: run at level `strict` only."""


_IMPORTS = """\
import atexit, ctypes, gc, mmap, os, signal, socket, struct, subprocess, sys, threading, time
import types
import numpy as np

"""


def regressor(
    fit: str = "pass", predict: str = "return np.zeros(len(X))", before: str = ""
) -> Mapping[str, str]:
    """A submission whose `fit` and `predict` do this; it also predicts when it is let."""
    text = "class Regressor:\n" + "".join(
        f"    def {head}:\n{textwrap.indent(textwrap.dedent(body).strip(), ' ' * 8)}\n\n"
        for head, body in (("fit(self, X, y)", fit), ("predict(self, X)", predict))
    )
    return {"regressor.py": f"{_IMPORTS}{textwrap.dedent(before)}\n{text}"}
