"""A submission's files as a package: written to the fold's folder and imported from there."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from types import ModuleType

from consumer.workflows.failure import Refusal

PARENT_PACKAGE = "submissions"
MODULE_PATH = f"{PARENT_PACKAGE}.submission"
"""The dotted name of the submission's package, usable with `import_module('.classifier', ...)`."""

_FOLDER = MODULE_PATH.replace(".", "/")


def write_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Write files into a new folder."""
    os.makedirs(folder)
    for name, content in files.items():
        with open(f"{folder}/{name}", "wb") as file:
            file.write(content)


def submission_folder(root: str) -> str:
    """Where the submission's files are."""
    return f"{root}/{_FOLDER}"


def install_submission(root: str, behind: str | None = None) -> None:
    """Make the files importable, as MODULE_PATH and by their plain names.

    behind: a folder whose modules come before those of the same name.
    """
    first = sys.path.index(behind) + 1 if behind in sys.path else 0
    sys.path[first:first] = [root, submission_folder(root)]
    # As the import system would make them, were it not for a search of all of sys.path.
    for name, place in (
        (PARENT_PACKAGE, f"{root}/{PARENT_PACKAGE}"),
        (MODULE_PATH, submission_folder(root)),
    ):
        if not os.path.exists(f"{place}/__init__.py"):
            package = ModuleType(name)
            package.__path__ = [place]
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
