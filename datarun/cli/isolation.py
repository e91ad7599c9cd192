"""Which isolation level folds run at in this version, said plainly to whoever starts a worker."""

from __future__ import annotations

from schemas.errors import ConfigurationError
from schemas.settings import Settings
from schemas.states import Isolation

_MEANING = {
    Isolation.PROCESS: "folds share user, files and network with the worker; "
    "do not run code you do not trust",
    Isolation.NONE: "folds may do whatever the worker may; for debugging only",
}


def with_isolation(settings: Settings) -> Settings:
    """`settings` with the level filled in. Raises ConfigurationError for one that is not built."""
    level = settings.isolation or Isolation.PROCESS
    if level not in _MEANING:
        raise ConfigurationError(
            f"isolation {level} is not in this version of datarun; it has "
            f"{' and '.join(_MEANING)}. Do not run code you do not trust with either"
        )
    return settings.model_copy(update={"isolation": level})


def isolation_sentence(settings: Settings) -> str:
    """`isolation: process - folds share ...`."""
    level = settings.isolation or Isolation.PROCESS
    return f"isolation: {level} - {_MEANING[level]}"
