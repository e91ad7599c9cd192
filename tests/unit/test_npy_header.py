"""Headers of npy files, whoever wrote them."""

from __future__ import annotations

import io

import numpy as np
import pytest

from consumer.npy_header import npy_header


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_header_is_read_as_numpy_wrote_it(version: tuple[int, int], order: str) -> None:
    # Given
    array = np.array(np.arange(6.0).reshape(2, 3), order=order)  # type: ignore[call-overload]
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)

    # When it is read, and again
    first, second = (npy_header(memoryview(file.getvalue())) for _ in range(2))

    # Then
    assert first == second
    assert (first.shape, first.fortran_order, first.dtype) == ((2, 3), order == "F", np.float64)
    assert file.getvalue()[first.size :] == array.tobytes(order)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY\x01",
        b"\x93NUMPY\x04\x00" + bytes(100),
        b"not numpy at all",
        b"\x93NUMPY\x01\x00\xff\xff" + b" " * 70_000,
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        npy_header(memoryview(data))
