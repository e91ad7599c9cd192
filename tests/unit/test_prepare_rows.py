"""Which rows a held-out split takes: those of scikit-learn."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from consumer.preparation.held_out import split_rows


@given(
    n_rows=st.integers(2, 500),
    held_out=st.floats(0.001, 0.999),
    random_state=st.integers(0, 2**32 - 1),
)
def test_rows_are_those_of_train_test_split(
    n_rows: int, held_out: float, random_state: int
) -> None:
    train, test = split_rows(n_rows, held_out, random_state)

    try:
        expected = train_test_split(
            np.arange(n_rows), test_size=held_out, random_state=random_state
        )
    except ValueError:  # nothing is left to train on
        assert len(train) == 0
    else:
        np.testing.assert_array_equal(train, expected[0])
        np.testing.assert_array_equal(test, expected[1])
