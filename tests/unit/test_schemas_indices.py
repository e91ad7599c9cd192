"""Indices are row numbers: whole, not negative, not repeated, at least one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from schemas.arrays import Array
from schemas.errors import ArrayError, MessageError
from schemas.messages import FoldMessage, row_numbers
from schemas.wire import pack, unpack
from tests.unit.schema_strategies import envelope, fold


def read_fold(**changes: Any) -> FoldMessage:
    message = unpack(envelope(fold(**changes)))
    assert isinstance(message, FoldMessage)
    return message


@pytest.mark.parametrize(
    ("indices", "reason"),
    [
        ([-1, 2], "index -1 is negative"),
        ([3, 1, 3], "index 3 is repeated"),
        ([], "empty"),
        ([0.0, 1.0], "indices are integers"),
        ([0.5], "indices are integers"),
        ([True, False], "indices are integers"),
        ([0, True], "mixes"),
        (["0"], "indices are integers"),
        ([[0, 1]], "one dimension"),
        ([[0], [1, 2]], "not an array"),
        ([2**63], "larger than any row"),
        ([2**64 - 1], "larger than any row"),
        ([2**64], "not taken"),
        ([-1, 2**63], "train_is"),
        ([None], "not taken"),
        (5, "train_is"),
        ("0,1", "train_is"),
        (None, "train_is"),
    ],
)
@pytest.mark.parametrize("field", ["train_is", "test_is"])
def test_indices_that_are_no_row_numbers_are_refused(field: str, indices: Any, reason: str):
    with pytest.raises(MessageError) as caught:
        read_fold(**{field: indices})
    assert field in str(caught.value)
    assert reason.replace("train_is", field) in str(caught.value)


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<i4", "|u1", "<u8", ">u2"])
def test_indices_of_any_integer_type_are_row_numbers(dtype: str):
    # Given indices in any order, of an integer type of either byte order
    rows = row_numbers(Array.of(np.array([5, 0, 3], dtype=dtype)))

    # Then they are int64 in that order
    assert rows.dtype == np.int64
    assert rows.tolist() == [5, 0, 3]


def test_a_uint64_index_past_int64_does_not_wrap_into_a_negative_one():
    with pytest.raises(ArrayError, match="18446744073709551615 is larger"):
        row_numbers(Array.of(np.array([0, 2**64 - 1], dtype=np.uint64)))


def test_a_fold_of_a_million_rows_is_read_quickly():
    # Given a fold over two million rows, shuffled
    rows = np.random.default_rng(0).permutation(2_000_000)
    packed = pack(FoldMessage(**fold(train_is=rows[:1000000], test_is=rows[1000000:])), "folds.a")

    # When it is read, at its best of three (other work shares the machine)
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        unpack(packed)
        seconds.append(time.process_time() - begin)

    # Then it does not hold up a delivery loop for long
    assert min(seconds) < 0.4
