"""Splitting data sets: what comes out, and what is said of data that cannot be split."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from schemas.states import Culprit, FailureKind, Phase, Visibility
from tests.support.split_case import (
    MIXED,
    NUMBERS,
    SPECIFIC,
    Case,
    csv_of,
    custom,
    digests,
    value,
)


def test_iris_is_split_as_in_2016(tmp_path: Path) -> None:
    # Given iris as a CSV file
    iris = load_iris(as_frame=True)
    frame = iris.data.assign(species=[str(iris.target_names[i]) for i in iris.target])
    case = Case(tmp_path, {"iris.csv": csv_of(frame)}, target="species")

    # When it is split
    prepared = case.run()

    # Then rows, columns and classes are those of train_test_split
    train, test = train_test_split(frame, test_size=0.5, random_state=42)
    assert (prepared.n_train, prepared.n_test) == (75, 75)
    assert prepared.columns == tuple(iris.data.columns)
    assert prepared.classes is not None
    assert prepared.classes.tolist() == ["setosa", "versicolor", "virginica"]
    assert value(prepared, "X_train") == pytest.approx(train.drop(columns="species").to_numpy())
    assert value(prepared, "y_train").tolist() == train["species"].tolist()
    assert value(prepared, "X_test") == pytest.approx(test.drop(columns="species").to_numpy())
    assert value(prepared, "y_test").tolist() == test["species"].tolist()
    assert {part.name: part.visibility for part in prepared.parts} == {
        "X_train": Visibility.PUBLIC,
        "y_train": Visibility.PUBLIC,
        "X_test": Visibility.PUBLIC,
        "y_test": Visibility.SECRET,
    }
    assert sorted(path.name for path in case.out.iterdir()) == sorted(
        part.path.name for part in prepared.parts
    )


def test_same_table_gives_the_same_bytes_however_it_is_compressed(tmp_path: Path) -> None:
    # Given a table of numbers, as text and compressed
    content = NUMBERS.encode()
    files: dict[str, bytes] = {
        "data.csv": content,
        "data.csv.gz": gzip.compress(content),
        "data.csv.bz2": bz2.compress(content),
        "data.csv.zip": zipped(content),
    }

    # When each is split
    split = [Case(tmp_path / name, {name: file}).run() for name, file in files.items()]

    # Then all parts are the same, and numbers have a common type
    assert len({tuple(digests(prepared)) for prepared in split}) == 1
    assert split[0].n_train == 10
    assert value(split[0], "X_train").dtype == np.float64
    assert value(split[0], "y_train").dtype == np.dtype("<U3")


def test_feature_extractor_keeps_the_data_frame(tmp_path: Path) -> None:
    # Given text, integers and booleans for a feature extractor
    cases = [
        Case(tmp_path / name, {"data.csv": MIXED}, elements="feature_extractor, classifier")
        for name in "ab"
    ]

    # When they are split
    prepared, again = (case.run() for case in cases)

    # Then X is the data frame that pandas reads
    train, _ = train_test_split(pd.read_csv(io.StringIO(MIXED)), test_size=0.5, random_state=42)
    expected = train.drop(columns="y").reset_index(drop=True)
    pd.testing.assert_frame_equal(value(prepared, "X_train"), expected)
    assert prepared.columns == ("colour", "size", "big")
    assert prepared.classes is not None
    assert prepared.classes.tolist() == [0, 1]

    # And each time the same bytes
    assert digests(prepared) == digests(again)


def test_regressor_has_no_classes(tmp_path: Path) -> None:
    text = csv_of(pd.DataFrame({"a": np.arange(20), "y": np.arange(20) / 3}))

    prepared = Case(tmp_path, {"data.csv": text}, elements="regressor").run()

    assert prepared.classes is None
    assert value(prepared, "y_train").dtype == np.float64


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.csv", content)
    return buffer.getvalue()


def test_file_that_is_not_what_its_suffix_says(tmp_path: Path) -> None:
    verdict = Case(tmp_path, {"data.csv.gz": NUMBERS}).fail().verdict

    assert verdict.message.startswith("data.csv.gz cannot be read: Not a gzipped file")
    assert (verdict.phase, verdict.kind, verdict.culprit) == (
        Phase.DATA,
        FailureKind.DATA,
        Culprit.ORGANISER,
    )


def test_custom_code_splits_into_a_list_of_series(tmp_path: Path) -> None:
    # Given an organiser's code, its sibling, and its data
    # When it is run
    prepared = custom(tmp_path).run()

    # Then X is what it returned, and only its code goes along
    assert (prepared.n_train, prepared.n_test, prepared.columns) == (12, 8, None)
    assert prepared.classes is not None
    assert prepared.classes.tolist() == ["no", "yes"]
    x = value(prepared, "X_train")
    assert len(x) == 12
    assert isinstance(x[0], pd.Series)
    assert {part.name for part in prepared.parts} == {
        "X_train",
        "y_train",
        "X_test",
        "y_test",
        "specific.py",
        "shared.py",
    }
    assert prepared.output.stdout == "preparing\n"
    assert digests(prepared) == digests(custom(tmp_path / "again").run())


def test_custom_numbers_are_not_pickled(tmp_path: Path) -> None:
    code = SPECIFIC.replace(
        "[pd.Series(row) for row in frame.drop(columns=COLUMN).to_numpy()]",
        "frame.drop(columns=COLUMN).to_numpy()",
    )

    prepared = custom(tmp_path, code).run()

    assert {part.format for part in prepared.parts} == {"npy", "file"}


@pytest.mark.parametrize(
    ("old", "new", "message", "kind"),
    [
        ("def get_test_data", "def get_testing_data",
         "specific.py lacks the function get_test_data", FailureKind.DATA),
        ("from shared import", "from shard import",
         "ModuleNotFoundError: No module named 'shard'", FailureKind.EXCEPTION),
        ("def prepare_data(", "def prepare_data((",
         "SyntaxError: ", FailureKind.EXCEPTION),
    ],
)  # fmt: skip
def test_custom_code_that_fails(
    tmp_path: Path, old: str, new: str, message: str, kind: FailureKind
) -> None:
    assert old in SPECIFIC

    verdict = custom(tmp_path, SPECIFIC.replace(old, new)).fail().verdict

    assert verdict.message.startswith(message), verdict
    assert (verdict.phase, verdict.kind, verdict.culprit) == (
        Phase.DATA,
        kind,
        Culprit.ORGANISER,
    )


def test_exception_shows_the_organisers_frames_and_what_was_printed(tmp_path: Path) -> None:
    code = SPECIFIC.replace("frame = pd.read_csv(", "frame = pd.read_csv('missing' + ", 1)

    failed = custom(tmp_path, code).fail()

    assert "FileNotFoundError" in failed.verdict.message
    assert 'File "specific.py", line 9, in prepare_data' in failed.verdict.traceback
    assert "pandas" not in failed.verdict.traceback
    assert failed.output.stdout == "preparing\n"
