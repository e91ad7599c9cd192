"""CSV files that cannot be split are refused with a sentence that says what is wrong, and where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from consumer.preparation.held_out import split_held_out
from consumer.preparation.split_task import SplitTask
from consumer.workflows.failure import Refusal
from schemas.states import Culprit, FailureKind

ROOT = Path(__file__).parents[2]
NUMBERS = pd.DataFrame(
    {"a": np.arange(20), "b": np.arange(20) / 4, "y": ["no", "yes"] * 10}
).to_csv(index=False)


def task(folder: Path, content: str | bytes, target: str, elements: str) -> SplitTask:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "data.csv").write_bytes(data)
    (folder / "out").mkdir()
    return SplitTask(
        raw=str(folder),
        out=str(folder / "out"),
        folder=str(folder / "home"),
        threads=1,
        memory_bytes=1 << 30,
        processes=64,
        files=("data.csv",),
        elements=(elements,),
        scoring=(),
        target_column=target,
        held_out_test=0.5,
        random_state=42,
        custom_file=None,
    )


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            NUMBERS,
            {"target": "Y"},
            "data.csv has no column 'Y'; it has 'a', 'b', 'y'",
        ),
        (
            NUMBERS.replace("y\n", "label\n", 1),
            {"target": "lable"},
            "data.csv has no column 'lable' (did you mean 'label'?); it has 'a', 'b', 'label'",
        ),
        ("", {}, "data.csv is empty"),
        ("\n\n", {}, "data.csv is empty"),
        ("a,b,y\n", {}, "data.csv has a header, but no rows"),
        ("a,y\n1,x\n2,x,9\n3,y\n", {}, "data.csv, line 3: 3 fields, expected 2"),
        ("a,b,y\n1,2,x\n3,y\n", {}, "data.csv, line 3: 2 fields, expected 3"),
        (
            "a,y\n1,x,7\n2,x,8\n",
            {},
            "data.csv: its rows have more fields than its header has names",
        ),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            {},
            "data.csv is not a text file: it has a zero byte at its beginning",
        ),
        (
            b"a,y\n\xff\xfe,x\n",
            {},
            "data.csv is not a text file in UTF-8: byte 0xff at position",
        ),
        ("a,y,a\n1,x,2\n", {}, "data.csv has more than one column called 'a'"),
        (
            "a,y\n1,x\n2,x\n3,x\n4,x\n",
            {},
            "column 'y' of data.csv has only one class, x; a classifier needs two or more",
        ),
        (
            "a,y\n1,x\n2,\n3,z\n4,\n",
            {},
            "column 'y' of data.csv has 2 missing values, the first in row 2",
        ),
        ("a,y\n1,x\n2,\n3,z\n", {}, "column 'y' of data.csv has a missing value in row 2"),
        (
            "a,c,d,y\nu,1,w,x\nv,2,w,z\n",
            {},
            "columns 'a', 'd' of data.csv are not numeric: encode as numbers, or use "
            "workflow_elements='feature_extractor, classifier'",
        ),
        (
            "a,y\n1,x\n2,z\n",
            {"elements": "regressor"},
            "column 'y' of data.csv is not numeric: row 1 is 'x'; a regressor needs numbers",
        ),
        (
            "a,y\n1,0.5\n2,0.25\n3,1\n",
            {},
            "column 'y' of data.csv holds continuous values such as 0.5; a classifier needs "
            "classes, a regressor takes numbers",
        ),
        ("y\n1\n2\n", {}, "data.csv has no column besides the target 'y'"),
        ("a,y\n1,x\n", {}, "data.csv has 1 rows, too few to hold out 0.5 of them"),
    ],
)
def test_file_that_cannot_be_split(
    tmp_path: Path, content: str | bytes, options: dict[str, str], message: str
) -> None:
    split = task(
        tmp_path, content, options.get("target", "y"), options.get("elements", "classifier")
    )

    with pytest.raises(Refusal) as refused:
        split_held_out(split)

    assert str(refused.value).startswith(message)
    assert (refused.value.kind, refused.value.culprit) == (FailureKind.DATA, Culprit.ORGANISER)


def test_a_file_is_read_before_scikit_learn_is_imported() -> None:
    # Importing it takes longer than finding out that most bad files are bad.
    code = "import consumer.preparation.held_out, sys; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"False\n"
