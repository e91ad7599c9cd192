"""A data set that a test has split, as a prepare worker does it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from consumer.jobs import PreparedData, PrepareFailed
from consumer.parts import open_part
from consumer.preparation.prepare import prepare_dataset
from schemas.datasets import Custom, HoldOut, Split
from schemas.messages import DataMessage
from tests.support.strict import strict_if_required

Content = str | bytes
ISOLATION = strict_if_required()


class Case:
    """A data set to be split, in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, Content],
        *,
        elements: str = "classifier",
        target: str | None = "y",
        split: Split | None = None,
    ) -> None:
        self.raw, self.out = folder / "raw", folder / "out"
        self.raw.mkdir(parents=True)
        self.out.mkdir()
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (self.raw / name).write_bytes(data)
        self.message = DataMessage(
            name="data",
            target_column=target,
            workflow_elements=elements,
            files=dict.fromkeys(files, ""),
            split=split or HoldOut(0.5, random_state=42),
        )

    def run(self, *, wall: float = 60, memory: int = 2 << 30) -> PreparedData:
        return asyncio.run(
            prepare_dataset(
                self.message,
                self.raw,
                self.out,
                isolation=ISOLATION,
                wall_seconds=wall,
                memory_bytes=memory,
            )
        )

    def fail(self, **limits: Any) -> PrepareFailed:
        with pytest.raises(PrepareFailed) as raised:
            self.run(**limits)
        return raised.value


def value(prepared: PreparedData, name: str) -> Any:
    (part,) = [part for part in prepared.parts if part.name == name]
    assert part.format != "file"
    with part.path.open("rb") as file:
        return open_part(file.fileno(), part.format)


def digests(prepared: PreparedData) -> list[str]:
    return [hashlib.sha256(part.path.read_bytes()).hexdigest() for part in prepared.parts]


def csv_of(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False)


NUMBERS = csv_of(
    pd.DataFrame({"a": np.arange(20), "b": np.arange(20) / 4, "y": ["no", "yes"] * 10})
)
MIXED = csv_of(
    pd.DataFrame(
        {
            "colour": ["red", "blüe"] * 10,
            "size": range(20),
            "big": [True, False] * 10,
            "y": [0, 1] * 10,
        }
    )
)


SPECIFIC = """
import os
import pandas as pd
from sklearn.model_selection import train_test_split
from shared import COLUMN

def prepare_data(raw_data_path):
    print("preparing")
    frame = pd.read_csv(os.path.join(raw_data_path, "series.csv"))
    train, test = train_test_split(frame, test_size=0.4, random_state=1)
    train.to_csv(os.path.join(raw_data_path, "train.csv"), index=False)
    test.to_csv(os.path.join(raw_data_path, "test.csv"), index=False)

def read(raw_data_path, name):
    frame = pd.read_csv(os.path.join(raw_data_path, name))
    X = [pd.Series(row) for row in frame.drop(columns=COLUMN).to_numpy()]
    return X, frame[COLUMN].to_numpy()

def get_train_data(raw_data_path):
    return read(raw_data_path, "train.csv")

def get_test_data(raw_data_path):
    return read(raw_data_path, "test.csv")

def train_submission(module_path, X, y, train_indices): ...
def test_submission(trained_model, X, test_indices): ...
"""


def custom(folder: Path, code: str = SPECIFIC, **options: Any) -> Case:
    return Case(
        folder,
        {"specific.py": code, "shared.py": "COLUMN = 'y'", "series.csv": NUMBERS},
        split=Custom("specific.py"),
        target=None,
        **options,
    )


def prepare_with(folder: Path, statement: str) -> Case:
    return custom(folder, SPECIFIC.replace('print("preparing")', statement))
