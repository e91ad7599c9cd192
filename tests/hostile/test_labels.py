"""No fold can find a label that it was not given, wherever it looks in a strict sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from datarun.attack.attack import STOLEN
from datarun.attack.catalogue import selected
from datarun.attack.planted import FIRST_LABEL, ROWS, x_and_y
from schemas.datasets import Custom
from schemas.states import FoldState, Isolation
from tests.support.folds import SLOTS, Dataset, Folds, make_dataset
from tests.support.strict import require_strict

N_TRAIN = 100

(LABELS,) = selected(["labels"])

ORGANISERS = """
from importlib import import_module

def train_submission(module_path, X, y, train_indices):
    import labels
    labels.attack(X, y[train_indices])
    print("all was tried")

def test_submission(model, X, test_indices):
    return [0.0] * len(X)
"""
"""Searches with all that an organiser's code has in sight, which is more than a submission has."""


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folds]:
    require_strict()
    folder = tmp_path_factory.mktemp("labels")
    with closing(Folds(folder, isolation=Isolation.STRICT)) as running:
        yield running


def planted(folder: Path, **more: object) -> Dataset:
    x, y = x_and_y()
    parts = (x[:N_TRAIN], x[N_TRAIN:])
    return make_dataset(folder, parts, y[:N_TRAIN], elements="regressor", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("workflow", ["standard", "custom"])
def test_labels_that_a_fold_was_not_given_are_nowhere(
    folds: Folds, tmp_path: Path, workflow: str
) -> None:
    # Given folds that ran before in the same slots, on all labels, of this data set
    more = (
        {"split": Custom("specific.py"), "code": {"specific.py": ORGANISERS}}
        if workflow == "custom"
        else {}
    )
    dataset = planted(tmp_path / "parts", **more)
    for slot in range(SLOTS):
        everything = folds.run(dataset, LABELS.files, slot=slot, train_is=np.arange(N_TRAIN))
        assert everything.state is FoldState.TESTED, everything
        assert f"its own: {N_TRAIN}" in everything.output.stdout

    for slot in range(SLOTS):
        # When a fold on three rows searches memory, objects, frames, descriptors and files
        outcome = folds.run(dataset, LABELS.files, slot=slot, train_is=[3, 14, 59])

        # Then it finds the labels of these three, and no other
        assert outcome.state is FoldState.TESTED, outcome
        assert "its own: 3\n" in outcome.output.stdout
        assert "all was tried" in outcome.output.stdout
        assert STOLEN not in outcome.output.stdout
        assert outcome.output.stdout.count("nothing labels in") == 5


@pytest.mark.parametrize(
    ("plant", "where"),
    [
        ("planted = ctypes.create_string_buffer(np.array([LABEL], float).tobytes())", "its memory"),
        ("self.planted = [[1.0, LABEL * 1.0]]", "objects"),
        ("self.planted = [b'a label: LABEL']", "objects"),
        ("planted = np.array([LABEL])", "frames"),
        ("open('/tmp/planted', 'w').write('LABEL')", "files"),
        ("np.save('/box/planted.npy', np.array([LABEL], float))", "files"),
        ("np.save(file := open('/box/open', 'wb'), [LABEL * 1.0]); file.flush()", "descriptors"),
    ],
)
def test_the_search_finds_a_label_that_is_there(
    folds: Folds, tmp_path: Path, plant: str, where: str
) -> None:
    # Given a fold in whose process a label lies that it was not given
    _, y = x_and_y()
    label = str(int(y[N_TRAIN - 1]))
    planting = f"import labels; {plant.replace('LABEL', label)}"
    files = dict(LABELS.files)
    files["regressor.py"] = files["regressor.py"].replace("import labels", planting)

    # When it searches
    outcome = folds.run(planted(tmp_path / "parts"), files, train_is=[3, 14, 59])

    # Then it finds it there
    assert f"{STOLEN} labels in {where}: [{label}]" in outcome.output.stdout, outcome


def test_the_search_knows_the_labels() -> None:
    text = LABELS.files["labels.py"].replace("_", "")
    assert f"LOWEST, HIGHEST = {FIRST_LABEL - 1}.5, {FIRST_LABEL + ROWS - 1}.5" in text
