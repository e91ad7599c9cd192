"""The organiser's python file, imported by its name, with its siblings beside it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from consumer.workflows.failure import Refusal
from schemas.states import Culprit


def load_organiser(folder: str, file: str) -> ModuleType:
    """Import `file` of `folder` as a module called by its stem; its siblings can be imported.

    The name is the same when a data set is prepared and in every fold, so that pickled objects of
    the organiser's own classes find their way back. Passes on what the import raises.
    """
    sys.path.insert(0, folder)
    path = Path(folder) / file
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Refusal(f"{file} cannot be imported", culprit=Culprit.ORGANISER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def required_function(module: ModuleType, name: str, file: str) -> Callable[..., Any]:
    """A function of the organiser's file; Refusal when it is not there."""
    function = getattr(module, name, None)
    if not callable(function):
        raise Refusal(f"{file} lacks the function {name}", culprit=Culprit.ORGANISER)
    return function  # type: ignore[no-any-return]


def row_count(x: object) -> int:
    """Rows of X, whatever it is: its length, or that of its first dimension. TypeError if none."""
    shape = getattr(x, "shape", None)
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    return len(x)  # type: ignore[arg-type]
