"""A submission's files as a package: written to the fold's folder and imported from there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from consumer.workflows.failure import Refusal

PARENT_PACKAGE = "submissions"
MODULE_PATH = f"{PARENT_PACKAGE}.submission"
"""The dotted name of the submission's package, usable with `import_module('.classifier', ...)`."""


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def submission_folder(root: Path) -> Path:
    """Where the submission's files are."""
    return root.joinpath(*MODULE_PATH.split("."))


def install_submission(root: Path, behind: Path | None = None) -> None:
    """Make the files importable, as MODULE_PATH and by their plain names.

    behind: a folder whose modules come before those of the same name.
    """
    first = sys.path.index(str(behind)) + 1 if str(behind) in sys.path else 0
    sys.path[first:first] = [str(root), str(submission_folder(root))]
    # As the import system would make them, were it not for a search of all of sys.path.
    for name in (PARENT_PACKAGE, MODULE_PATH):
        place = root.joinpath(*name.split("."))
        if not (place / "__init__.py").exists():
            package = ModuleType(name)
            package.__path__ = [str(place)]
            sys.modules[name] = package


def load_element(element: str) -> object:
    """An instance of the class that a workflow element must define: `classifier.py: Classifier`.

    Whatever its import or its constructor raises is passed on; Refusal when there is no class.
    """
    module = importlib.import_module(f".{element}", MODULE_PATH)
    return _class_of(module, element)()


def _class_of(module: ModuleType, element: str) -> type:
    name = class_name(element)
    found = getattr(module, name, None)
    if not isinstance(found, type):
        raise Refusal(f"{element}.py has no class {name}; its workflow needs one")
    return found


def class_name(element: str) -> str:
    """`feature_extractor` -> `FeatureExtractor`."""
    return "".join(word.capitalize() for word in element.split("_"))
