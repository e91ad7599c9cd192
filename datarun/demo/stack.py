"""A stack for the length of a `with` block, in a temporary home unless one is given."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datarun.up.home import Connection, Home
from datarun.up.launch import GIVEN_UP, launch
from datarun.up.notices import Listener
from schemas.settings import Settings


@contextmanager
def temporary_stack(settings: Settings, home: Path | None, listen: Listener) -> Iterator[Home]:
    """Everything that `datarun up` starts; nothing of it is left afterwards, however it ends.

    home: is used, and stays; None: a temporary one, which is removed, but after an error. A broker
    or a database that the settings name is not touched.
    """
    folder = home or Path(tempfile.mkdtemp(prefix="datarun-demo-"))
    own = settings.model_copy(
        update={
            "home": folder.absolute(),
            "broker": None,
            "database": None,
            "metrics_port": None,  # A stack that stays may have it.
            "grace_seconds": 0.0,
        }
    )
    keep = home is not None
    try:
        supervisor = launch(own, listen, attached=True, disposable=not keep)
        try:
            yield Home.at(folder)
        finally:
            _stop(supervisor, listen)
    except Exception as error:
        keep = True
        error.add_note(f"logs are kept in {folder / 'logs'}")
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def broker_of(home: Home) -> str:
    """The AMQP URL of a running stack."""
    return Connection.read(home).broker


def _stop(supervisor: subprocess.Popen[bytes], listen: Listener) -> None:
    # A second Ctrl-C must not leave half of it running; it all ends within seconds anyway.
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        listen(GIVEN_UP)
        supervisor.terminate()
        supervisor.wait()
    finally:
        signal.signal(signal.SIGINT, former)
