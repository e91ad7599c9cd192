"""Data sets: how one is described, split, and cut into immutable parts."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from schemas.arrays import AnyArray
from schemas.errors import FileError, MessageError
from schemas.files import checked_name
from schemas.frozen import BlobId, Frozen
from schemas.states import Visibility

_SHORT_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


def is_short_name(name: str) -> bool:
    """Whether it can name a data set or a pool."""
    return _SHORT_NAME.fullmatch(name) is not None


def checked_short_name(name: str) -> str:
    """`name` itself when it can name a data set or a pool; else MessageError."""
    if not is_short_name(name):
        raise MessageError(
            f"{name[:80]!r} is not a name here: use 1 to 40 of letters, digits, '_' and '-'"
        )
    return name


ShortName = Annotated[
    str,
    AfterValidator(checked_short_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_SHORT_NAME.pattern}$"}),
]
"""1 to 40 of letters, digits, `_` and `-`."""

DatasetName = ShortName

FileName = Annotated[str, AfterValidator(checked_name)]

STANDARD_WORKFLOWS = (
    ("classifier",),
    ("regressor",),
    ("feature_extractor", "classifier"),
    ("feature_extractor", "regressor"),
    ("classifier", "calibrator"),
    ("feature_extractor", "classifier", "calibrator"),
)
"""What a CSV data set's submissions may consist of, in the order in which they are applied."""

_ELEMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")
_REFERENCE = re.compile(rf"({_SHORT_NAME.pattern})(?:@([0-9a-f]{{16}}))?")


@dataclass(frozen=True)
class HoldOut:
    """Split a CSV file with `train_test_split(df, test_size=held_out_test, random_state=...)`.

    held_out_test: the share of rows kept for testing, between 0 and 1, both excluded.
    Raises MessageError.
    """

    held_out_test: Annotated[float, Field(gt=0, lt=1)]
    random_state: Annotated[int, Field(ge=0, lt=2**32)] = 42

    def __post_init__(self) -> None:
        share, seed = self.held_out_test, self.random_state
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < 1:
            raise MessageError(
                f"held_out_test: {share!r} is not a share of the rows; give a number between 0 "
                "and 1, such as 0.2"
            )
        if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**32:
            raise MessageError(f"random_state: {seed!r} is not an integer from 0 to 2**32 - 1")
        # numpy's numbers are taken, and kept as Python's.
        object.__setattr__(self, "held_out_test", float(share))
        object.__setattr__(self, "random_state", int(seed))


@dataclass(frozen=True)
class Custom:
    """Split with the organiser's python file, one of the uploaded files.

    It defines `prepare_data(raw_data_path)`, `get_train_data(raw_data_path)`,
    `get_test_data(raw_data_path)`, `train_submission(module_path, X, y, train_indices)` and
    `test_submission(trained_model, X, test_indices)`. Raises FileError.
    """

    file: FileName

    def __post_init__(self) -> None:
        if not isinstance(self.file, str):
            raise FileError(f"split: {self.file!r} is not a file name")
        checked_name(self.file)


Split = HoldOut | Custom


def workflow_elements(text: str) -> tuple[str, ...]:
    """The element names in `text`, separated by commas: `feature_extractor, classifier`.

    Raises MessageError when one is not usable as a Python module name.
    """
    elements = tuple(element.strip() for element in text.split(","))
    for element in elements:
        if not _ELEMENT.fullmatch(element):
            raise MessageError(
                f"workflow_elements: {element[:80]!r} is not a name of a Python module; "
                "write names separated by commas, such as 'feature_extractor, classifier'"
            )
    if len(set(elements)) < len(elements):
        raise MessageError(f"workflow_elements: {text[:200]!r} names an element twice")
    return elements


def checked_workflow(text: str, split: Split) -> str:
    """`text` itself when a data set split so can have these elements; else MessageError."""
    elements = workflow_elements(text)
    if isinstance(split, HoldOut) and elements not in STANDARD_WORKFLOWS:
        known = "; ".join(", ".join(workflow) for workflow in STANDARD_WORKFLOWS)
        raise MessageError(
            f"workflow_elements: {text[:200]!r} is no standard workflow. "
            f"Use one of: {known}; or a custom split with an own python file"
        )
    return ", ".join(elements)


@dataclass(frozen=True)
class DatasetReference:
    """`iris`, the newest version when a fold starts, or `iris@0123456789abcdef`, that one."""

    name: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> DatasetReference:
        """Raises MessageError when `text` is neither."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise MessageError(
                f"dataset: {text[:80]!r} is not a data set's name (1 to 40 of letters, digits, "
                "'_', '-'), nor name@version (16 hexadecimal digits)"
            )
        return cls(match.group(1), match.group(2))

    def __str__(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


class Part(Frozen):
    """One part of a data set, stored as one blob (a stream)."""

    name: FileName
    """`X_train`, `y_train`, `X_test`, `y_test`, or the name of an organiser's python file."""

    format: Literal["npy", "pickle", "file"]
    """`npy`: never pickled; `pickle`: opened only in a fold's own process; `file`: raw bytes."""

    visibility: Visibility
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    blob: BlobId
    """The id of the blob that holds it; not part of the version's digest."""


class BlobTrailer(Frozen):
    """The last message of a blob: what stands before it."""

    chunks: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Frozen):
    """Everything that makes a version of a data set, and where its parts are."""

    name: DatasetName
    target_column: str | None
    workflow_elements: str
    split: Split
    n_train: Annotated[int, Field(ge=1)]
    n_test: Annotated[int, Field(ge=1)]
    columns: tuple[str, ...] | None = None
    """Names of X's columns, for a feature extractor's data frame; None for custom data."""

    classes: AnyArray | None = None
    """Sorted class labels, of shape (n_classes,); None for regression."""

    scoring: tuple[str, ...] = ()
    """scikit-learn scorer names; empty for accuracy or RMSE."""

    parts: tuple[Part, ...]

    @property
    def version(self) -> str:
        """16 hexadecimal digits of the SHA-256 of everything but the blobs' ids."""
        return _version(self)

    @property
    def reference(self) -> str:
        """`name@version`, as a FoldMessage names it."""
        return f"{self.name}@{self.version}"

    def part(self, name: str) -> Part:
        """The part of that name; KeyError when there is none."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)


@lru_cache(maxsize=64)
def _version(manifest: Manifest) -> str:
    """Of manifests that are frozen, and asked again with each fold."""
    content = manifest.model_dump(mode="json")
    for part in content["parts"]:
        del part["blob"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
