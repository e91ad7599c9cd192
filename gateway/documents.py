"""What answers hold, as models: the fields of 2016, and those that came since."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.states import FoldState, Priority


class RawDataState(StrEnum):
    """Where a data set stands."""

    REGISTERED = "REGISTERED"
    """Its files are stored; nobody has asked for it to be split."""

    TODO = "TODO"
    """It is being split."""

    READY = "READY"
    """It is split: folds can run."""

    FAILED = "FAILED"
    """It could not be split; `log_messages` says why."""


class Document(BaseModel):
    """Every field is always there."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class RawDataDocument(Document):
    """A data set."""

    id: int = Field(description="What `raw_data` and `raw_data_id` name elsewhere.", examples=[1])
    name: str = Field(description="Its name.", examples=["flowers"])
    files_path: None = Field(None, description="Always null: files are in the database.")
    workflow_elements: str = Field(
        description="The files that a submission has.", examples=["classifier"]
    )
    target_column: str | None = Field(
        description="The CSV file's column to predict; null where a python file splits the data."
    )
    state: RawDataState = Field(
        description="REGISTERED, then TODO once a split is asked for, then READY or FAILED."
    )
    task_id: str | None = Field(description="The latest split; null before the first.")
    version: str | None = Field(description="The version that this split has made, when READY.")
    n_train: int | None = Field(description="Training rows, when READY.")
    n_test: int | None = Field(description="Test rows, when READY.")
    log_messages: str = Field(description="What the split printed, and why it failed.")


class TaskDocument(Document):
    """A split that was asked for."""

    task_id: str = Field(description="Id of the message; the same for the same split.")


class ArrayTypes(Document):
    """numpy's type strings of the predictions, `<f8` for numbers."""

    full_train_predictions: str | None = Field(description="null while there are none.")
    test_predictions: str | None = Field(description="null while there are none.")


class ArrayShapes(Document):
    """Shapes of the predictions."""

    full_train_predictions: list[int] | None = Field(
        description="[n_train, n_classes], for a regression [n_train]; null while there are none."
    )
    test_predictions: list[int] | None = Field(
        description="[n_test, n_classes], or [n_test] for a regression; null while there are none."
    )


_PREDICTIONS = (
    "base64(zlib(raw bytes in C order)), numbers as little-endian float64; with `?format=json` "
    "(nested) lists; null while there are none."
)


class PredictionsDocument(Document):
    """A finished fold, with what it predicted."""

    databoard_sf_id: int = Field(description="Id of the fold.", examples=[7001])
    databoard_s: int = Field(description="Id of the submission.", examples=[700])
    full_train_predictions: str | list[Any] | None = Field(
        description=f"Predictions of all training rows: {_PREDICTIONS}"
    )
    test_predictions: str | list[Any] | None = Field(
        description=f"Predictions of the test rows: {_PREDICTIONS}"
    )
    dtype: ArrayTypes
    shape: ArrayShapes
    classes: list[Any] | None = Field(
        description="The classes that the columns of the predictions stand for, in their order; "
        "null for a regression."
    )
    state: FoldState = Field(
        description="TODO, TRAINED, VALIDATED, and at last TESTED, ERROR or CANCELLED."
    )
    log_messages: str = Field(
        description="What the fold printed. That of a failed fold ends with `ERROR(split data)`, "
        "`ERROR(train)`, `ERROR(validation)` or `ERROR(test)`."
    )
    train_time: float = Field(description="Wall-clock seconds of training; 0 while not known.")
    validation_time: float = Field(description="Wall-clock seconds of predicting training rows.")
    test_time: float = Field(description="Wall-clock seconds of predicting test rows.")
    train_cpu_time: float = Field(description="CPU seconds of training, children included.")
    test_cpu_time: float = Field(description="CPU seconds of predicting test rows.")
    train_memory: float = Field(description="Peak memory of this fold in training, in kB.")
    test_memory: float = Field(description="Peak memory of this fold in testing, in kB.")
    task_id: str = Field(description="Id of the run; another one when the fold is run again.")
    valid_scores: dict[str, float | None] = Field(description="Scores on the rows `test_is`.")
    test_scores: dict[str, float | None] = Field(description="Scores on the test rows.")


class SubmissionFoldDocument(PredictionsDocument):
    """A submission on a CV fold: all fields."""

    train_is: str | list[int] = Field(
        description="Rows to train on, as base64(zlib(int64)); with `?format=json` a list."
    )
    test_is: str | list[int] = Field(
        description="Rows to validate on, as base64(zlib(int64)); with `?format=json` a list."
    )
    priority: Priority = Field(description="`L` or `H`.")
    new: bool = Field(
        description="True until the result has been delivered by testpredictions/list/ or new/, or "
        "was acknowledged."
    )
    raw_data: int | None = Field(description="Id of its data set.")
    version: str | None = Field(
        description="The version of the data set; null while that is being split."
    )


class SubmissionFoldDetail(SubmissionFoldDocument):
    """A submission on a CV fold, with the files of its submission."""

    files: dict[str, str] | None = Field(
        description="name -> base64(zlib(content)), with `?format=json` text where it is any; null "
        "to other users than the one who has sent them, and admins."
    )


class SubmissionFoldLight(Document):
    """How a fold stands."""

    databoard_sf_id: int = Field(description="Id of the fold.", examples=[7001])
    databoard_s: int = Field(description="Id of the submission.", examples=[700])
    state: FoldState = Field(description="Its state.")
    new: bool = Field(description="Whether its result has not been delivered yet.")


class AcknowledgedDocument(Document):
    """What was acknowledged."""

    acknowledged: int = Field(description="How many results were new until now.", examples=[1])
