"""Registering a data set: its files under the names of 2016, and a row with an integer id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, exists, select, update

from gateway.bodies import RawDataPost
from gateway.csv_header import check_target
from gateway.encodings import file_pieces
from gateway.refusals import NameTaken, NotAcceptable, Unprocessable
from schemas.datasets import Custom, HoldOut, checked_workflow
from schemas.errors import MessageError
from schemas.states import DatasetState
from storage.gateway_models import RawData
from storage.models import Dataset
from storage.raw_files import delete_files, packed, write_file
from storage.upsert import insert_new
from storage.users import Account

CUSTOM_FILE = "specific.py"
"""The name of the python file that splits a data set, as in 2016."""

MAX_INFLATED_BYTES = 1 << 30
"""Files of one data set together: what a small body may swell to."""

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zip")


@dataclass(frozen=True)
class Registration:
    """A data set as it is to be stored."""

    name: str
    target_column: str | None
    workflow_elements: str
    files: Mapping[str, list[tuple[int, bytes]]]
    """Each file `packed`."""


@dataclass(frozen=True)
class Registered:
    """What became of it."""

    raw_data_id: int
    is_new: bool
    """False when it took the place of one that could not be split."""


def read_registration(post: RawDataPost) -> Registration:
    """Rename, then decode: nothing is inflated for what is refused anyway.

    Raises NotAcceptable, and Unprocessable.
    """
    try:
        names = renamed(post.name, tuple(post.files))
        is_custom = CUSTOM_FILE in names.values()
        checked_workflow(post.workflow_elements, Custom(CUSTOM_FILE) if is_custom else HoldOut(0.5))
        if not is_custom and not post.target_column:
            raise MessageError(
                "target_column: a CSV data set needs the name of the column to predict"
            )
        files: dict[str, list[tuple[int, bytes]]] = {}
        left = MAX_INFLATED_BYTES
        for given, text in post.files.items():
            files[names[given]] = packed(file_pieces(given, text, left))
            left -= sum(size for size, _ in files[names[given]])
            if not is_custom and post.target_column and names[given].endswith(".csv"):
                check_target(given, files[names[given]], post.target_column)
    except MessageError as error:
        raise Unprocessable(str(error)) from error
    return Registration(post.name, post.target_column or None, post.workflow_elements, files)


def check_name(connection: Connection, name: str, account: Account) -> int | None:
    """The id under which the user may register the name again; None when nobody has it.

    He may as long as the data set has no version, and no split is under way that may make one.
    Raises NameTaken.
    """
    known = connection.execute(
        select(RawData.id, RawData.uploader).where(RawData.name == name)
    ).one_or_none()
    if known is None:
        return None
    unfailed = select(Dataset.id).where(Dataset.name == name, Dataset.state != DatasetState.FAILED)
    if known.uploader != account.username or connection.scalar(select(exists(unfailed))):
        raise NameTaken("RawData with this name already exists.")
    raw_data_id: int = known.id
    return raw_data_id


def register(connection: Connection, registration: Registration, account: Account) -> Registered:
    """Store it, in the place of what could not be split. Raises NameTaken."""
    row = {
        "name": registration.name,
        "target_column": registration.target_column,
        "workflow_elements": registration.workflow_elements,
        "uploader": account.username,
        "created_at": datetime.now(UTC),
    }
    known = check_name(connection, registration.name, account)
    if known is None:
        # Somebody may insert the same name at this very moment: PostgreSQL then refuses the later
        # of the two transactions, which is tried again, and finds the name taken.
        insert_new(connection, RawData, [row])
        of_name = select(RawData.id).where(RawData.name == registration.name)
        raw_data_id = connection.execute(of_name).scalar_one()
    else:
        raw_data_id = known
        again = row | {"split": None, "message_id": None}
        connection.execute(update(RawData).where(RawData.id == raw_data_id).values(again))
        delete_files(connection, raw_data_id)
    for name, pieces in registration.files.items():
        write_file(connection, raw_data_id, name, pieces)
    return Registered(raw_data_id, is_new=known is None)


def renamed(dataset: str, files: tuple[str, ...]) -> dict[str, str]:
    """Given name -> stored name, as in 2016.

    A single file becomes `<data set>.csv`, and keeps the ending of its compression; the python file
    among several becomes `specific.py`. Raises NotAcceptable when it cannot be said which is which.
    """
    code = [name for name in files if name.endswith(".py")]
    names = {name: name for name in files}
    if not code:
        if len(files) > 1:
            raise NotAcceptable(
                f"there are {len(files)} files and none of them is a python file: send one CSV "
                f"file, or add a {CUSTOM_FILE} that reads them"
            )
        (only,) = files
        ending = next((end for end in COMPRESSIONS if only.lower().endswith(end)), "")
        return {only: f"{dataset}.csv{ending}"}
    if CUSTOM_FILE not in code:
        if len(code) > 1:
            raise NotAcceptable(
                f"there are {len(code)} python files, and none of them is named {CUSTOM_FILE}: "
                "name so the one that splits the data"
            )
        names[code[0]] = CUSTOM_FILE
    return names
