"""Attacks by theft: out of the sandbox, and into what others have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from datarun.attack.attack import ROOMY, Attack, Family, regressor

_attack = partial(Attack, Family.THEFT)

_FOLDER = Path(__file__).parent / "submissions"


def _thief(module: str) -> Mapping[str, str]:
    """A submission that does what `submissions/<module>.py` says."""
    fit = f"import {module}\n{module}.attack(X, y)\nprint('all was tried')"
    files = {f"{name}.py": (_FOLDER / f"{name}.py").read_text() for name in (module, "attempts")}
    return {**regressor(fit), **files}


_TRIED = "all was tried"

ATTACKS = (
    *(
        _attack(name, what, _thief(name.replace("-", "_")), limits=ROOMY, says=_TRIED)
        for name, what in (
            (
                "host-files",
                "Reads /etc/shadow, homes and devices; writes to the system; asks for root.",
            ),
            ("environment", "Reads every environment in sight for passwords and addresses."),
            ("network", "Connects to the broker, the internet, metadata services, unix sockets."),
            ("other-processes", "Traces, reads and steers its parent, its siblings and pid 1."),
            ("kernel", "Mounts, reboots, loads modules, makes namespaces, sets the clock."),
            ("labels", "Searches memory, objects, frames, descriptors and files for labels."),
            ("neighbours", "Reads the files and the memory of the fold that runs beside it."),
        )
    ),
)
