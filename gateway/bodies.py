"""What requests bring, as models: validated once, and the source of the OpenAPI description."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from schemas.datasets import ShortName, workflow_elements
from schemas.errors import MessageError
from schemas.files import checked_name
from schemas.frozen import MAX_ID
from schemas.messages import MAX_INDEX_BYTES
from schemas.states import Priority


def _storable(text: str) -> str:
    if "\0" in text:
        raise MessageError("the text holds a NUL character, which databases refuse")
    return text


def _priority(value: object) -> object:
    names = {"L": "L", "LOW": "L", "H": "H", "HIGH": "H"}
    return names.get(value.upper(), value) if isinstance(value, str) else value


def _force(value: str | None) -> str | None:
    unknown = forced(value) - {SUBMISSION, SUBMISSION_FOLD}
    if unknown:
        raise MessageError(
            f"{', '.join(sorted(unknown))[:80]!r} cannot be forced: write 'submission_fold', "
            "'submission', or both with a comma between them"
        )
    return value


def _text_as_bytes(_source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
    return core_schema.custom_error_schema(
        core_schema.bytes_schema(strict=True), custom_error_type="string_type"
    )


def _names(files: dict[str, bytes]) -> dict[str, bytes]:
    for name in files:
        checked_name(name)
    return files


def _elements(text: str) -> str:
    workflow_elements(text)
    return text


_PRIORITIES = "^([Ll]|[Hh]|[Ll][Oo][Ww]|[Hh][Ii][Gg][Hh])$"
_FORCED = " *(submission|submission_fold)? *"
SUBMISSION = "submission"
SUBMISSION_FOLD = "submission_fold"


def _number(value: object) -> object:
    """Digits as text are a number, as in 2016; true and false are none."""
    if isinstance(value, bool):
        raise MessageError("true and false are no numbers")
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value


_DIGITS = re.compile(r"[0-9]{1,19}")
_NumberJson = Annotated[int, Field(ge=0, le=MAX_ID)] | Annotated[str, Field(pattern="^[0-9]+$")]
Number = Annotated[
    int,
    Field(ge=0, le=MAX_ID),
    BeforeValidator(_number, json_schema_input_type=_NumberJson),
]
Text = Annotated[str, Field(max_length=1000), AfterValidator(_storable)]
# As UTF-8: a str has up to four bytes for each character, whatever most of them are.
LongText = Annotated[bytes, GetPydanticSchema(_text_as_bytes), WithJsonSchema({"type": "string"})]
FileContents = Annotated[dict[str, LongText], AfterValidator(_names)]
SomeFileContents = Annotated[dict[str, LongText], Field(min_length=1), AfterValidator(_names)]
_MOST_INDICES = MAX_INDEX_BYTES // 8
# Strict: a mask of true and false is no list of rows. `fail_fast`, here and below: else there is
# an error in memory for each of millions.
Indices = (
    LongText
    | Annotated[
        list[Annotated[int, Field(strict=True)]], Field(max_length=_MOST_INDICES, fail_fast=True)
    ]
)
_MOST_IDS = 100_000
FoldIds = Annotated[list[Number], Field(max_length=_MOST_IDS, fail_fast=True)]
TaskId = Annotated[str, Field(max_length=255), AfterValidator(_storable)]
TaskIds = Annotated[list[TaskId], Field(max_length=_MOST_IDS, fail_fast=True)]

MOST_NAMED = 10_000
"""Texts and names in a body that has files: each is an object in memory, however short it is."""

_FILES = (
    "The files: name -> content, as base64(zlib(bytes)) or as plain text. Names are plain file "
    "names, without folders."
)
_INDICES = (
    "as base64(zlib(bytes of a little-endian int64 array in C order)), or as a list. Not empty, "
    "none negative, none repeated."
)


# Examples belong together: in the order of the description they work on an empty service.
_FLOWERS = "petal length,species\n" + "1.4,setosa\n4.7,versicolor\n" * 5
_ID = "Id of the registered data set: the `id` that registering it has answered."


class Body(BaseModel):
    """Unknown fields are ignored, as in 2016."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    most_strings: ClassVar[int] = 1 << 20
    """So many texts and names such a body has at most."""

    @property
    def texts(self) -> Iterable[bytes]:
        """What may be base64(zlib(...)), and inflate."""
        return ()


class ExactBody(Body):
    """Unknown fields are refused: what such a call clears, a misspelt field would clear too."""

    model_config = ConfigDict(extra="forbid")


class RawDataPost(Body):
    """A data set to register: one CSV file, or several with a python file that splits them."""

    most_strings = MOST_NAMED

    name: ShortName = Field(
        description="Name of the data set: 1 to 40 of letters, digits, `_` and `-`.",
        examples=["flowers"],
    )
    target_column: Text | None = Field(
        None,
        description="The CSV file's column to predict; needed unless a python file splits it.",
        examples=["species"],
    )
    workflow_elements: Annotated[Text, AfterValidator(_elements)] = Field(
        description="The files that a submission has, without `.py`, separated by commas.",
        examples=["classifier", "feature_extractor, classifier"],
    )
    files: SomeFileContents = Field(
        description=_FILES,
        examples=[{"flowers.csv": _FLOWERS}],
    )

    @property
    def texts(self) -> Iterable[bytes]:
        """The files."""
        return self.files.values()


class SplitPost(Body):
    """A CSV data set to split into training and test rows."""

    raw_data_id: Number = Field(description=_ID, examples=[1])
    held_out_test: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="The share of the rows that is kept for testing.", examples=[0.2]
    )
    random_state: Annotated[Number, Field(lt=2**32)] = Field(
        42, description="Seed of the split.", examples=[42]
    )


class CustomSplitPost(Body):
    """A data set to split with the python file that came with it."""

    raw_data_id: Number = Field(description=f"{_ID} It has a python file.", examples=[2])


class SubmissionFoldPost(Body):
    """A submission on a CV fold, to train and to test."""

    most_strings = MOST_NAMED

    databoard_sf_id: Number = Field(description="Id of the fold.", examples=[7001])
    databoard_s_id: Number = Field(description="Id of the submission.", examples=[700])
    raw_data: Number | None = Field(
        None,
        description="Id of the data set; needed with the first fold of a submission.",
        examples=[1],
    )
    files: FileContents | None = Field(
        None,
        description=f"{_FILES} Needed with a submission's first fold, inherited by later ones.",
        examples=[{"classifier.py": "from sklearn.dummy import DummyClassifier as Classifier"}],
    )
    train_is: Indices = Field(
        description=f"Rows of the training data to train on, {_INDICES}", examples=[[0, 1, 2, 3, 4]]
    )
    test_is: Indices = Field(
        description=f"Rows of the training data to validate on, {_INDICES}", examples=[[5, 6, 7]]
    )
    priority: Annotated[
        Priority,
        BeforeValidator(
            _priority, json_schema_input_type=Annotated[str, Field(pattern=_PRIORITIES)]
        ),
    ] = Field(
        Priority.L,
        description="`H` (or `high`) overtakes every `L` (or `low`) that waits; small letters and "
        "capitals are the same.",
        examples=["L"],
    )
    force: Annotated[
        str | None,
        AfterValidator(_force),
        Field(json_schema_extra={"pattern": f"^{_FORCED}(,{_FORCED})*$"}),
    ] = Field(
        None,
        description=(
            "`submission_fold`: run this fold again, though it exists; one that runs is cancelled. "
            "`submission`: these files and this data set replace those of the submission, for "
            "folds to come. Both, with a comma: both. Other folds are never touched."
        ),
        examples=[None, "submission_fold", "submission, submission_fold"],
    )

    @property
    def texts(self) -> Iterable[bytes]:
        """The files, and indices that are no lists."""
        indices = (rows for rows in (self.train_is, self.test_is) if isinstance(rows, bytes))
        return (*(self.files or {}).values(), *indices)


class PredictionsListPost(ExactBody):
    """Folds whose predictions are wanted."""

    list_submission_fold: FoldIds = Field(
        description="Ids of folds. Those that have not ended, or do not exist, are left out.",
        examples=[[7001]],
    )


class PredictionsNewPost(ExactBody):
    """Which new predictions are wanted."""

    raw_data_id: Number | None = Field(
        None, description="Id of a data set; without it, folds of all data sets.", examples=[1]
    )


class AcknowledgePost(Body):
    """Results that have arrived. At least one of the two lists."""

    list_submission_fold: FoldIds = Field(
        default=[], description="Ids of folds that have ended.", examples=[[7001]]
    )
    task_ids: TaskIds = Field(
        default=[],
        description=(
            "`task_id`s of folds that have ended: exactly these runs, so that a fold which was run "
            "again meanwhile stays new."
        ),
        examples=[[]],
    )


BodyModel = TypeVar("BodyModel", bound=Body)


def forced(value: str | None) -> frozenset[str]:
    """What `force` names."""
    return frozenset(word.strip() for word in (value or "").split(",") if word.strip())


def described(model: type[Body], *, optional: bool = False) -> dict[str, Any]:
    """The body in the OpenAPI description, for a route's `openapi_extra`."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {
        "requestBody": {
            "required": not optional,
            "content": {"application/json": {"schema": schema}},
        }
    }
