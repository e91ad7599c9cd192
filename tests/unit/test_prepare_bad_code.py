"""An organiser's functions whose answers are no data set are refused with a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from consumer.preparation.custom_split import split_custom
from consumer.preparation.split_task import SplitTask
from consumer.workflows.failure import Refusal
from schemas.states import Culprit, FailureKind

CODE = """
def prepare_data(raw_data_path): ...

def get_train_data(raw_data_path):
    X, y = [[0.5], [0.25], [1.0]], ["no", "yes", "no"]
    RETURN

get_test_data = get_train_data

def train_submission(module_path, X, y, train_indices): ...
def test_submission(trained_model, X, test_indices): ...
"""


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("return X, y[1:]", "get_train_data returned 3 rows of X, but 2 labels"),
        ("return X", "get_train_data must return X and y, not list"),
        ("return [], []", "get_train_data returned no rows"),
        ("return X, ['one'] * len(X)", "own.py has only one class, one"),
        (
            "return [lambda: 0] * len(X), y",
            "X of get_train_data or get_test_data cannot be stored",
        ),
        ("return X, [float('nan')] * len(X)", "get_train_data returned labels that are NaN"),
    ],
)
def test_answer_that_is_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returned: str, message: str
) -> None:
    # Given an organiser's code, which is imported by its name
    (tmp_path / "own.py").write_text(CODE.replace("RETURN", returned))
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setitem(sys.modules, "own", sys)
    task = SplitTask(
        raw=str(tmp_path),
        out=str(tmp_path / "out"),
        folder=str(tmp_path / "home"),
        threads=1,
        memory_bytes=1 << 30,
        processes=64,
        files=("own.py",),
        elements=("classifier",),
        scoring=(),
        target_column=None,
        held_out_test=0.0,
        random_state=0,
        custom_file="own.py",
    )

    # When it is called, then what it returns is refused
    with pytest.raises(Refusal) as refused:
        split_custom(task, "own.py")
    assert str(refused.value).startswith(message)
    assert (refused.value.kind, refused.value.culprit) == (FailureKind.DATA, Culprit.ORGANISER)
