"""At which isolation level folds run, said plainly to whoever starts a worker."""

from __future__ import annotations

from schemas.errors import ConfigurationError
from schemas.settings import Settings
from schemas.states import Isolation

_MEANING = {
    Isolation.STRICT: "each fold has a user, files, processes and a network of its own, "
    "and a filter for system calls",
    Isolation.PROCESS: "folds share user, files and network with the worker; "
    "do not run code you do not trust",
    Isolation.NONE: "as process, and no limit on memory, CPU time or processes; for debugging only",
}


def with_isolation(settings: Settings, *, or_weaker: bool = False) -> tuple[Settings, str]:
    """`settings` with the level filled in, and what to say of it: `isolation: strict - each ...`.

    or_weaker: where `strict` does not hold, and no level was asked for by name, take the next one.
    Raises ConfigurationError when the level does not hold on this host.
    """
    from consumer.sandbox.levels import strict_obstacle

    level = settings.isolation or Isolation.STRICT
    why = ""
    if level is Isolation.STRICT and (obstacle := strict_obstacle()):
        if settings.isolation is not None or not or_weaker:
            raise ConfigurationError(
                f"isolation strict does not hold on this host: {obstacle}. `datarun doctor` says "
                f"more; to run folds all the same, ask for less by name: --isolation process "
                f"({_MEANING[Isolation.PROCESS]})"
            )
        level = Isolation.PROCESS
        why = f"\nstrict does not hold on this host: {obstacle}; `datarun doctor` says more"
    chosen = settings.model_copy(update={"isolation": level})
    return chosen, f"isolation: {level} - {_MEANING[level]}{why}"
