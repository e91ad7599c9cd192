"""hypothesis strategies for every message of the contract, and what the schemas tests share."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import AwareDatetime, BaseModel

from schemas.arrays import Array
from schemas.datasets import STANDARD_WORKFLOWS, Custom, HoldOut, Manifest, Part
from schemas.files import File
from schemas.frozen import MAX_ID, Message
from schemas.messages import LEAST_SECONDS, DataMessage, FoldMessage, Limits, UploadedFile
from schemas.states import Priority, Visibility
from schemas.verdicts import Verdict
from schemas.wire import Envelope

FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ids = st.integers(0, MAX_ID)
names = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
versions = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
file_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_. -]{0,20}\.(py|csv)", fullmatch=True)
numbers = st.floats(1e-3, 1e6)
limits = st.floats(LEAST_SECONDS, 1e6)
instants = st.datetimes(
    datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)
)  # naive bounds, as hypothesis wants them
contents = st.one_of(texts, st.binary(max_size=40))
plain_json = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)

dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="<"),
    hnp.integer_dtypes(endianness=">"),
    hnp.unsigned_integer_dtypes(endianness="<"),
    hnp.unsigned_integer_dtypes(endianness=">"),
    hnp.floating_dtypes(endianness="<", sizes=(16, 32, 64)),
    hnp.floating_dtypes(endianness=">", sizes=(16, 32, 64)),
    hnp.unicode_string_dtypes(endianness="<", min_len=1, max_len=6),
    hnp.unicode_string_dtypes(endianness=">", min_len=1, max_len=6),
)


def _elements(dtype: np.dtype[Any]) -> st.SearchStrategy[Any] | None:
    if dtype.kind != "U":
        return None
    # numpy cannot tell a NUL at the end of a text from no character.
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    return st.text(characters, max_size=dtype.itemsize // 4)


arrays: st.SearchStrategy[npt.NDArray[Any]] = dtypes.flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
        elements=_elements(dtype),
    )
)
"""Every dtype that is taken, in both byte orders, of 1 to 4 dimensions that may be zero."""

row_indices = st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True)


@st.composite
def data_messages(draw: st.DrawFn) -> DataMessage:
    if draw(st.booleans()):
        split: HoldOut | Custom = HoldOut(
            draw(st.floats(0.01, 0.99)), draw(st.integers(0, 2**32 - 1))
        )
        elements = draw(st.sampled_from(STANDARD_WORKFLOWS))
        files = {draw(file_names): draw(contents)}
    else:
        split = Custom("specific.py")
        elements = ("classifier", "extra_step")
        files = draw(st.dictionaries(file_names, contents, max_size=3)) | {"specific.py": "x = 1"}
    uploads = {}
    if isinstance(split, Custom):
        upload = st.builds(UploadedFile, size=ids, sha256=digests, blob=names)
        uploads = draw(st.dictionaries(file_names, upload, max_size=2))
        uploads = {name: file for name, file in uploads.items() if name not in files}
    return DataMessage(
        name=draw(names),
        target_column=draw(texts.filter(bool)),
        workflow_elements=", ".join(elements),
        files={name: File.of(content) for name, content in files.items()},
        uploads=uploads,
        split=split,
        scoring=tuple(draw(st.lists(texts, max_size=2))),
        uploader=draw(st.none() | texts),
    )


@st.composite
def fold_messages(draw: st.DrawFn) -> FoldMessage:
    version = draw(st.none() | versions)
    limit = st.none() | st.integers(1, 2**31 - 1)
    return FoldMessage(
        submission_fold_id=draw(ids),
        submission_id=draw(ids),
        dataset=draw(names) + (f"@{version}" if version else ""),
        files={
            name: File.of(content)
            for name, content in draw(
                st.dictionaries(file_names, contents, min_size=1, max_size=3)
            ).items()
        },
        train_is=Array.of(draw(row_indices)),
        test_is=Array.of(draw(row_indices)),
        priority=draw(st.sampled_from(Priority)),
        pool=draw(names),
        limits=Limits(
            wall_seconds=draw(st.none() | limits),
            cpu_seconds=draw(st.none() | limits),
            memory_bytes=draw(limit),
            processes=draw(limit),
        ),
        params=draw(plain_json),
        force=draw(st.booleans()),
        uploader=draw(st.none() | texts),
    )


parts = st.builds(
    Part,
    name=file_names | st.sampled_from(["X_train", "y_test"]),
    format=st.sampled_from(["npy", "pickle", "file"]),
    visibility=st.sampled_from(Visibility),
    size=ids,
    sha256=digests,
    blob=names,
)
manifests = st.builds(
    Manifest,
    name=names,
    target_column=st.none() | texts,
    workflow_elements=texts,
    split=st.builds(HoldOut, st.floats(0.01, 0.99)) | st.just(Custom("specific.py")),
    n_train=st.integers(1, MAX_ID),
    n_test=st.integers(1, MAX_ID),
    columns=st.none() | st.lists(texts, max_size=3).map(tuple),
    classes=st.none() | arrays.map(Array.of),
    scoring=st.lists(texts, max_size=2).map(tuple),
    parts=st.lists(parts, max_size=3).map(tuple),
)

_MADE_BY_HAND: dict[type, st.SearchStrategy[Any]] = {
    DataMessage: data_messages(),
    FoldMessage: fold_messages(),
    Manifest: manifests,
    Array: arrays.map(Array.of),
}
_BY_FIELD: dict[str, st.SearchStrategy[Any]] = {
    "name": names,
    "dataset": names,
    "blobs": st.lists(st.tuples(st.sampled_from(Visibility), names), max_size=3).map(tuple),
    "test_is": row_indices.map(Array.of),
    "details": plain_json,
}
_BY_TYPE: dict[object, st.SearchStrategy[Any]] = {
    str: texts,
    bool: st.booleans(),
    int: st.integers(2, 1000),
    float: numbers,
    AwareDatetime: instants,
    type(None): st.none(),
}


@functools.cache
def of_model(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Instances of a model, field by field from its annotations."""
    if model in _MADE_BY_HAND:
        return _MADE_BY_HAND[model]
    fields = {
        name: _BY_FIELD[name] if name in _BY_FIELD and model is not Verdict else _of(hint)
        for name, hint in typing.get_type_hints(model).items()
        if name in model.model_fields
    }
    return st.builds(model, **fields)


def _of(hint: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_of(argument) for argument in arguments])
    if origin is tuple:
        return st.lists(_of(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(_of(arguments[0]), _of(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return st.deferred(lambda: of_model(hint))
    return _BY_TYPE[hint]


def arrays_in(value: object) -> Iterator[Array]:
    """Every array inside a message."""
    if isinstance(value, Array):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from arrays_in(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from arrays_in(item)


def envelope(body: bytes | str | dict[str, Any], kind: type[Message] = FoldMessage) -> Envelope:
    """A body as it arrives, with the type of `kind`. A dict is written as JSON."""
    if isinstance(body, dict):
        body = json.dumps(body)
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    return Envelope(body=raw, routing_key="", type=kind.TYPE)


def fold(**changes: Any) -> dict[str, Any]:
    """A fold as a person would type it into the management console."""
    return {
        "submission_fold_id": 11,
        "submission_id": 1,
        "dataset": "iris",
        "files": {"classifier.py": "class Classifier: pass\n"},
        "train_is": [0, 1, 2],
        "test_is": [3, 4],
    } | changes


def dataset(**changes: Any) -> dict[str, Any]:
    """A data set as a person would type it into the management console."""
    return {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"iris.csv": "a,species\n1,x\n"},
        "split": {"held_out_test": 0.5, "random_state": 42},
    } | changes
