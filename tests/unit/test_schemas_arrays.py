"""Arrays survive a round trip exactly; what is refused is refused before it costs memory."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.arrays import MAX_ARRAY_BYTES, Array
from schemas.errors import ArrayError, MessageError
from schemas.wire import unpack
from tests.unit.schema_strategies import MANY, arrays, envelope, fold

ROOT = Path(__file__).parents[2]


def packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw)).decode()


def same(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    """Equal to the bit: type, byte order, shape, values (NaN and -0.0 too)."""
    return (
        left.dtype.str == right.dtype.str
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )


@MANY
@given(arrays)
def test_an_array_survives_a_round_trip(array: npt.NDArray[Any]):
    # Given an array of any type, byte order and shape that is taken, zero sizes too
    # When it is written as JSON and read again
    decoded = Array.model_validate_json(Array.of(array).model_dump_json()).to_numpy()

    # Then it is the same, writable and in C order
    assert same(decoded, array)
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous


@MANY
@given(arrays)
def test_the_memory_order_of_an_array_does_not_matter(array: npt.NDArray[Any]):
    # Given Fortran order, a transposed, a reversed and a strided view
    for view in (np.asfortranarray(array), array.T, array[::-1], array[..., ::2]):
        assert same(Array.of(view).to_numpy(), view)


@MANY
@given(arrays, st.integers(1, 50))
def test_an_array_in_parts_is_put_together_again(array: npt.NDArray[Any], size: int):
    # Given an array whose data travels in pieces
    whole = Array.of(array)
    bare, texts = whole.split(size)

    # Then the pieces are small, the bare array survives the wire, and joined it is the same
    assert max(map(len, texts)) <= size
    bare = Array.model_validate_json(bare.model_dump_json())
    assert bare.data is None
    assert bare.parts == len(texts)
    assert bare.joined(texts) == whole
    with pytest.raises(ArrayError, match="parts"):
        bare.to_numpy()
    with pytest.raises(ArrayError, match="parts"):
        bare.joined(texts[1:])
    with pytest.raises(ArrayError, match="already"):
        bare.split(size)


def test_special_floats_survive_to_the_bit():
    array = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    assert same(Array.of(array).to_numpy(), array)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], np.array([1, 2, 3])),
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
        ([[[0.5]]], np.array([[[0.5]]])),
        ([1, 2.5], np.array([1.0, 2.5])),
        ([True, False], np.array([True, False])),
        (["a", "bcd", ""], np.array(["a", "bcd", ""])),
        ([["né"], ["☃"]], np.array([["né"], ["☃"]])),
        ([np.str_("a"), "b"], np.array(["a", "b"])),
        ([], np.array([])),
        ([[], []], np.empty((2, 0))),
        ((1, 2), np.array([1, 2])),
    ],
)
def test_a_plain_list_is_an_array(values: Any, expected: npt.NDArray[Any]):
    assert same(Array.of(values).to_numpy(), expected)


@pytest.mark.parametrize(
    "values",
    [
        np.float64(1.0),
        np.array(3),
        5,
        "text",
        np.array([object], dtype=object),
        [None, 1],
        [{}],
        np.array([1j]),
        np.array([(1, 2.0)], dtype="i4,f8"),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([1], dtype="m8[s]"),
        np.array([1.0], dtype=np.longdouble),
        np.array([b"bytes"]),
        np.array([b"raw"], dtype="V3"),
        np.array(["a"], dtype=np.dtypes.StringDType()),
        [[1, 2], [3]],
        [[1], 2],
        [[[1]], [2]],
        [1, "a"],
        [["a"], [None]],
        [0, True],
        [2**64],
        ["\ud800"],
        np.zeros((1,) * 33),
        np.broadcast_to(np.int8(0), (0, 2**40)),
    ],
    ids=lambda values: repr(values)[:40],
)
def test_a_refused_array_raises_array_error(values: Any):
    with pytest.raises(ArrayError):
        Array.of(values)


@pytest.mark.parametrize(
    "dtype",
    [
        "",
        "f8",
        "float64",
        "=f8",
        "<f3",
        "<f16",
        "<f0",
        "<U0",
        "|O",
        "<c16",
        "<M8[D]",
        "|V8",
        "|S3",
        "f8,f8",
        "(2,)<f8",
        "a5",
        "<f8\0",
        "<f8\n",
        " <f8",
        "<b1",
        "|f8",
        "<i1",
        "<U999999999",
        "(" * 100_000,
        "f8," * 100_000,
        "<U" + "9" * 100_000,
        "٣",
        "<f٨",
    ],
    ids=lambda dtype: dtype[:12].encode("unicode_escape").decode(),
)
def test_a_type_string_that_numpy_would_not_write_is_refused(dtype: str):
    # Given any text that is not a type string of ours, old aliases and hostile ones too
    with pytest.raises(ValidationError) as caught:
        Array(dtype=dtype, shape=(0,), data=packed(b""))
    assert "are not taken" in str(caught.value)


@pytest.mark.parametrize(
    "shape",
    [
        [2**40],
        [2**31, 2**31, 2**31],
        [2**63, 2],
        [10**4000, 10**4000],
        [0, 2**62],
        [0, 2**30, 2**30, 2**30],
        [1] * 33,
        [],
        [-1],
        [1.0],
        [True],
        ["1"],
        None,
        8,
    ],
    ids=lambda shape: str(shape)[:20],
)
def test_an_impossible_shape_is_refused_when_it_is_read(shape: Any):
    bad = {"dtype": "<f8", "shape": shape, "encoding": "zlib+base64", "data": packed(b"\0" * 8)}
    with pytest.raises(MessageError, match="train_is"):
        unpack(envelope(fold(train_is=bad)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "ends after 0 of 16"),
        ("!!!!", "base64"),
        ("AAAA\n", "base64"),
        ("é", "base64"),
        ("AAAA", "zlib"),
        (packed(b"\0" * 15), "ends after 15 of 16"),
        (packed(b"\0" * 17), "inflates past"),
        (packed(b""), "ends after 0"),
        (base64.b64encode(zlib.compress(b"\0" * 16)[:-1]).decode(), "ends after 16 of 16"),
        (base64.b64encode(zlib.compress(b"\0" * 16) + b"x").decode(), "goes on"),
        (base64.b64encode(zlib.compress(b"\0" * 16) + b"x" * 200_000).decode(), "goes on"),
        (base64.b64encode(b"\0" * 16).decode(), "zlib"),
    ],
)
def test_data_that_is_not_what_dtype_and_shape_declare_is_refused(data: str, reason: str):
    with pytest.raises(ArrayError, match=reason):
        Array(dtype="<f8", shape=(2,), data=data).to_numpy()


def test_bytes_that_are_no_booleans_or_no_characters_are_refused():
    for dtype, raw in (("|b1", b"\2"), ("<U1", b"\0\0\x11\0"), (">U1", b"\0\x11\0\0")):
        with pytest.raises(ArrayError, match="values"):
            Array(dtype=dtype, shape=(1,), data=packed(raw)).to_numpy()
    with pytest.raises(ArrayError, match="unicode"):
        Array(dtype="<U1", shape=(1,), data=packed(b"\0\xd8\0\0")).to_numpy()


def test_an_array_has_either_data_or_parts():
    for fields in ({}, {"data": packed(b""), "parts": 1}, {"parts": -1}, {"parts": 10**9}):
        with pytest.raises(ValidationError):
            Array.model_validate({"dtype": "<f8", "shape": [0], **fields})


def test_more_than_the_limit_is_not_decoded():
    array = Array.of(np.zeros(100))
    with pytest.raises(ArrayError, match="at most 799"):
        array.to_numpy(limit=799)
    assert array.to_numpy(limit=800).size == 100


@pytest.fixture(scope="module")
def gibibyte() -> str:
    """A gibibyte of zeros, as it travels."""
    squeeze = zlib.compressobj(1)
    zeros = bytes(1 << 24)
    packed_zeros = b"".join(squeeze.compress(zeros) for _ in range(64)) + squeeze.flush()
    return base64.b64encode(packed_zeros).decode()


UNPACK_AND_MEASURE = """
import resource, sys
from schemas.errors import MessageError
from schemas.wire import Envelope, unpack

body = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    unpack(Envelope(body, "folds.default"))
except MessageError:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("shape", "mebibytes"),
    [
        pytest.param([1], 64, id="declared as 8 bytes"),
        pytest.param([1 << 24], 300, id="declared as the 128 MiB that indices may have"),
        pytest.param([1 << 27], 64, id="declared as it is"),
        pytest.param([1 << 60], 64, id="declared as 8 EiB"),
        pytest.param(None, 128, id="short texts beside a long one"),
    ],
)
def test_a_bomb_never_takes_more_memory_than_it_may_declare(
    gibibyte: str, shape: list[int] | None, mebibytes: int
):
    # Given a fold whose indices inflate to a gibibyte, or would as numpy's text to terabytes
    bomb: object = {"dtype": "<i8", "shape": shape, "encoding": "zlib+base64", "data": gibibyte}
    if shape is None:
        bomb = ["a" * 10**6, *[""] * 10**6]

    # When a process of its own reads it
    run = subprocess.run(
        [sys.executable, "-c", UNPACK_AND_MEASURE],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        input=json.dumps(fold(train_is=bomb)).encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )

    # Then it is refused, and the peak of that process has grown by no more than the bound
    assert run.returncode == 0, run.stderr.decode()
    assert int(run.stdout) <= mebibytes


def test_the_largest_array_that_is_taken_is_a_gibibyte():
    assert MAX_ARRAY_BYTES == 1 << 30
    Array(dtype="|b1", shape=(1 << 30,), data=packed(b""))
    with pytest.raises(ValidationError, match="declares more than"):
        Array(dtype="|b1", shape=((1 << 30) + 1,), data=packed(b""))


def test_what_gets_smaller_is_deflated_and_what_hardly_does_is_stored_as_it_is() -> None:
    # Given as many bytes of zeros, of noise, and of noise that gives way to zeros
    noise = np.random.default_rng(0).random(100_000)
    half = np.where(np.arange(noise.size) < noise.size // 2, noise, 0)

    # When they are encoded
    sizes = {
        name: len(Array.of(values).data or "") / noise.nbytes
        for name, values in (("zeros", 0 * noise), ("noise", noise), ("half", half))
    }

    # Then only noise takes what it took, and base64's third on top
    assert sizes["zeros"] < 0.02
    assert 1.3 < sizes["noise"] < 1.35
    assert sizes["half"] < 0.7
