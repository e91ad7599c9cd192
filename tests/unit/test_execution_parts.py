"""Data-set parts on disk come back as they were, mapped privately."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consumer.parts import map_npy, open_part, write_npy, write_pickle


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(5, dtype=">i4"),
        np.array(["a", "bcd", "é"]),
        np.array([True, False]),
        np.empty((0, 3)),
    ],
    ids=["C", "Fortran", "big-endian", "text", "booleans", "empty"],
)
def test_array_comes_back(tmp_path: Path, array: np.ndarray) -> None:
    write_npy(tmp_path / "part.npy", array)

    back = map_npy(tmp_path / "part.npy")

    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_objects_come_back_with_their_buffers_writable(tmp_path: Path) -> None:
    # Given a list of series and a data frame with text
    value = [
        pd.Series(np.arange(1000.0)),
        pd.DataFrame({"text": ["a", "b"], "number": [1, 2]}),
        np.ones((3, 0)),
    ]
    path = tmp_path / "part.pickle"
    write_pickle(path, value)
    before = path.read_bytes()

    # When they are opened, and written to
    with path.open("rb") as file:
        series, frame, empty = open_part(file.fileno(), "pickle")
    series.iloc[0] = 7.0

    # Then they are the same, and the file stays as it was
    assert series.tolist() == [7.0, *range(1, 1000)]
    pd.testing.assert_frame_equal(frame, value[1])
    assert empty.shape == (3, 0)
    assert path.read_bytes() == before


def test_array_of_objects_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npy(tmp_path / "part.npy", np.array([None]))
