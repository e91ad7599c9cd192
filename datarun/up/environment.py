"""Settings as environment variables, to hand them on to a child process.

Never as arguments: everybody on a machine can read the arguments of every process.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import SecretStr

from schemas.settings import Settings


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment, in which a child finds exactly these settings."""
    names = {f"DATARUN_{name.upper()}" for name in Settings.model_fields}
    given = {
        f"DATARUN_{name.upper()}": _text(getattr(settings, name))
        for name in settings.model_fields_set
        if getattr(settings, name) is not None
    }
    return {
        **{name: value for name, value in os.environ.items() if name.upper() not in names},
        **given,
        # What the settings file says is in `settings` already, unless it was overruled.
        "DATARUN_SETTINGS": os.devnull,
        "PYTHONUNBUFFERED": "1",
    }


def _text(value: object) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case Path():
            return str(value.absolute())
        case bool():
            return "true" if value else "false"
        case tuple():
            return json.dumps(value)
        case _:
            return str(value)
