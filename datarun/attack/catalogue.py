"""All attacks, and those that somebody asks for."""

from __future__ import annotations

from collections.abc import Sequence

from datarun.attack import exits, learning, leftovers, memory, output, processes, theft, time
from datarun.attack.attack import Attack, Family
from schemas.errors import ConfigurationError

ATTACKS: tuple[Attack, ...] = (
    *processes.ATTACKS,
    *time.ATTACKS,
    *memory.ATTACKS,
    *output.ATTACKS,
    *exits.ATTACKS,
    *theft.ATTACKS,
    *leftovers.ATTACKS,
    *learning.ATTACKS,
)


def selected(wanted: Sequence[str]) -> tuple[Attack, ...]:
    """The attacks of these families and names; all of them when none is named.

    Raises ConfigurationError for a word that is neither.
    """
    known = {*Family, *(attack.name for attack in ATTACKS)}
    for word in wanted:
        if word not in known:
            raise ConfigurationError(
                f"there is no attack {word!r} and no family of that name; families: "
                f"{', '.join(Family)}; `datarun attack --list` names all attacks"
            )
    return tuple(
        attack
        for attack in ATTACKS
        if not wanted or attack.name in wanted or attack.family in wanted
    )
