"""Where the `datarun` command begins: what a smaller installation lacks is said in a sentence."""

from __future__ import annotations

import sys
from typing import NoReturn

_EVERY = ("cli", "worker", "server")

BROUGHT_BY = {
    "aio_pika": ("worker", "server"),
    "alembic": ("server",),
    "argon2": ("server",),
    "fastapi": ("server",),
    "fastapi_offline": ("server",),
    "httptools": ("server",),
    "pandas": ("worker",),
    "psutil": _EVERY,
    "psycopg": ("server",),
    "pyseccomp": ("worker",),
    "rich": _EVERY,
    "sklearn": ("worker", "server"),
    "sqlalchemy": ("server",),
    "threadpoolctl": ("worker", "server"),
    "typer": _EVERY,
    "uvicorn": ("server",),
    "uvloop": ("worker", "server"),
}
"""What the base install does not have, and the extras that bring it, the smallest first."""

_WANTS = {
    "attack": "all",
    "collector": "server",
    "demo": "all",
    "doctor": "worker",
    "gateway": "server",
    "up": "all",
    "users": "server",
    "worker": "worker",
}
"""The extra that a command needs; for others it is the first that brings what is missing."""


def main() -> NoReturn:
    """Run the command of this process's arguments, and exit with its status."""
    arguments = sys.argv[1:]
    try:
        from datarun.cli.main import main as run

        run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in BROUGHT_BY:
            raise
        sentence = what_is_missing(missing, arguments)
    if "--json" in arguments:
        import json

        print(json.dumps({"error": sentence}))
    else:
        print(f"Error: {sentence}", file=sys.stderr)
    sys.exit(1)


def what_is_missing(module: str, arguments: list[str]) -> str:
    """What to install so that the command of these arguments has `module`."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    every_command = module in ("typer", "rich")
    what = "the datarun command" if every_command else f"datarun {command}".strip()
    extra = _WANTS.get(command, BROUGHT_BY[module][0])
    return (
        f"{what} needs {module}, which is not installed: pip install 'datarun[{extra}]' "
        "(`import datarun` alone needs no extra)"
    )
