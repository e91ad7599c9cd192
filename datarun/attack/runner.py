"""Runs attacks one after the other, and says of each what went wrong."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from datarun.attack.attack import STOLEN, Attack
from datarun.attack.ground import Ended, Ground
from datarun.attack.honest import Honest
from datarun.attack.traces import Traces, differences
from schemas.states import FoldState, Isolation

SETTLING_SECONDS = 8.0
"""Files of a fold may be removed after its verdict is known."""

_LONGEST_SENTENCE = 1000
_LONGEST_OUTPUT = 3 * 20_000


@dataclass(frozen=True)
class Report:
    """What became of one attack."""

    attack: Attack
    problems: tuple[str, ...]
    verdict: str
    """The sentence that the attacker gets; `TESTED` where there is none."""

    seconds: float
    skipped: str = ""
    """Why it was not run."""

    @property
    def passed(self) -> bool:
        """Whether nothing came of it."""
        return not self.problems


class Runner:
    """Attacks one worker."""

    def __init__(self, ground: Ground, *, settling_seconds: float = SETTLING_SECONDS) -> None:
        """Looks at everything as it is before any attack.

        settling_seconds: how long what is left may take to go by itself.
        """
        self._ground = ground
        self._settling_seconds = settling_seconds
        self._honest = Honest.before(ground)
        self._before = self._at_rest()

    def run(self, attack: Attack) -> Report:
        """Run it, and look at all that it may have changed."""
        ground, began = self._ground, time.monotonic()
        strict = ground.isolation is Isolation.STRICT
        if attack.harmful and not strict:
            why = f"it would harm this host at level {ground.isolation}"
            return Report(attack, (), "", 0.0, skipped=why)
        ended = ground.run(attack.files, attack.limits)
        problems = judge(attack, ended)
        problems += self._honest.after_an_attack(ground)
        problems += self._changes()
        if not ground.neighbour_lives():
            problems.append("the fold in the other slot is dead")
        verdict = str(ended.verdict) if ended.verdict else str(ended.state)
        return Report(attack, tuple(problems), verdict, time.monotonic() - began)

    def _changes(self) -> list[str]:
        """What is left, once nothing more goes by itself."""
        strict = self._ground.isolation is Isolation.STRICT
        deadline = time.monotonic() + self._settling_seconds
        while True:
            found = differences(self._before, self._ground.traces(), same_keepers=strict)
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.05)

    def _at_rest(self) -> Traces:
        """Twice the same: a process that is forked ahead takes a moment."""
        former = self._ground.traces()
        deadline = time.monotonic() + self._settling_seconds
        while True:
            time.sleep(0.2)
            now = self._ground.traces()
            if now == former or time.monotonic() > deadline:
                return now
            former = now


def judge(attack: Attack, ended: Ended) -> list[str]:
    """What is wrong with how an attack ended."""
    expected, verdict = attack.ends, ended.verdict
    problems = []
    if ended.results != 1:
        problems.append(f"{ended.results} results are stored")
    stolen = [line for line in ended.output.splitlines() if STOLEN in line]
    problems += [f"stolen: {line.partition(STOLEN)[2].strip()}" for line in stolen[:3]]
    if len(stolen) > 3:
        problems.append(f"stolen: {len(stolen) - 3} more")
    if ended.state is not expected.state:
        problems.append(f"{ended.state} ({verdict}), expected {expected}")
    elif verdict is not None:
        if verdict.kind not in expected.kinds:
            problems.append(f"{verdict.kind} ({verdict}), expected {expected}")
        elif not re.fullmatch(expected.sentence, verdict.message):
            problems.append(f"its verdict says {verdict.message!r}, not {expected.sentence!r}")
        if verdict.phase is not expected.phase:
            problems.append(f"its verdict is of {verdict.phase}, expected {expected.phase}")
        if verdict.culprit is not expected.culprit:
            problems.append(f"its verdict blames the {verdict.culprit}")
        if len(verdict.message) > _LONGEST_SENTENCE:
            problems.append(f"its verdict has {len(verdict.message)} characters")
    if len(ended.output) > _LONGEST_OUTPUT:
        problems.append(f"{len(ended.output)} characters of output are kept")
    if ended.state is FoldState.TESTED and any(part is None for part in ended.predictions):
        problems.append("it has no predictions")
    if attack.says and not re.search(attack.says, ended.output, re.MULTILINE):
        problems.append(f"it did not say {attack.says!r}, but {ended.output[-200:]!r}")
    if attack.memory_kb and (ended.memory or 0.0) < attack.memory_kb:
        problems.append(f"{ended.memory} kB are measured, of at least {attack.memory_kb}")
    if attack.cpu_seconds and (ended.cpu or 0.0) < attack.cpu_seconds:
        problems.append(f"{ended.cpu} s CPU are measured, of at least {attack.cpu_seconds}")
    return problems
