"""`rawdata/`: data sets, and their splits."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Connection, select

from gateway.bodies import CustomSplitPost, RawDataPost, SplitPost, body_of, described
from gateway.documents import RawDataDocument, RawDataState, TaskDocument
from gateway.refusals import ErrorDocument
from gateway.registration import CUSTOM_FILE, read_registration, register
from gateway.service import MEANINGS, TheService, TheUser, add_route, errors
from gateway.splitting import request_split
from schemas.datasets import Custom, HoldOut, Manifest
from storage.gateway_models import RawData
from storage.models import Dataset, DatasetVersion

router = APIRouter(tags=["data sets"])


class NameTakenDocument(BaseModel):
    """The name is taken; worded as in 2016."""

    name: list[str] = Field(
        description="What is wrong with it.", examples=[["RawData with this name already exists."]]
    )


def list_raw_data(user: TheUser, service: TheService) -> JSONResponse:  # noqa: ARG001
    """List all data sets, in the order in which they were registered.

    Data sets that were published by a message are there, too.
    """
    documents = service.database.read(_documents)
    return JSONResponse([document.model_dump(mode="json") for document in documents])


def post_raw_data(
    user: TheUser,
    service: TheService,
    post: Annotated[RawDataPost, Depends(body_of(RawDataPost))],
) -> JSONResponse:
    """Register a data set: its files are stored, until a split is asked for.

    A single file becomes `<name>.csv` and keeps an ending such as `.gz`. The python file among
    several becomes `specific.py`; an existing `specific.py` stays what it is. A python file alone
    is one that makes or fetches its data.

    A name is taken once the data set is split, or is being split. Until then, and when every split
    has failed, the same user may register it again: the new files replace the former ones, under
    the same id.
    """
    registered = service.database.write(register, read_registration(post), user)
    (document,) = service.database.read(_documents, registered.raw_data_id)
    return JSONResponse(document.model_dump(mode="json"), 201 if registered.is_new else 200)


def post_split(
    user: TheUser,
    service: TheService,
    post: Annotated[SplitPost, Depends(body_of(SplitPost))],
) -> JSONResponse:
    """Split a CSV data set into training and test rows: that makes a version of it.

    Asking for the same split again changes nothing. Another split makes another version; folds that
    were accepted before stay with theirs.
    """
    split = HoldOut(post.held_out_test, post.random_state)
    task_id = service.database.write(request_split, post.raw_data_id, split, user)
    return JSONResponse({"task_id": task_id})


def post_custom_split(
    user: TheUser,
    service: TheService,
    post: Annotated[CustomSplitPost, Depends(body_of(CustomSplitPost))],
) -> JSONResponse:
    """Split a data set with the python file that came with it."""
    split = Custom(CUSTOM_FILE)
    task_id = service.database.write(request_split, post.raw_data_id, split, user)
    return JSONResponse({"task_id": task_id})


def _documents(connection: Connection, raw_data_id: int | None = None) -> list[RawDataDocument]:
    query = (
        select(
            RawData.__table__,
            Dataset.state,
            Dataset.version,
            Dataset.log_messages,
            DatasetVersion.manifest,
        )
        .outerjoin(Dataset, Dataset.message_id == RawData.message_id)
        .outerjoin(
            DatasetVersion,
            (DatasetVersion.name == RawData.name) & (DatasetVersion.version == Dataset.version),
        )
        .order_by(RawData.id)
    )
    if raw_data_id is not None:
        query = query.where(RawData.id == raw_data_id)
    return [_document(row) for row in connection.execute(query)]


def _document(row: Any) -> RawDataDocument:
    manifest = Manifest.model_validate_json(row.manifest) if row.manifest is not None else None
    return RawDataDocument(
        id=row.id,
        name=row.name,
        workflow_elements=row.workflow_elements,
        target_column=row.target_column,
        state=RawDataState(row.state) if row.state is not None else RawDataState.REGISTERED,
        task_id=row.message_id,
        version=row.version,
        n_train=manifest.n_train if manifest is not None else None,
        n_test=manifest.n_test if manifest is not None else None,
        log_messages=row.log_messages or "",
    )


_BOTH = {"description": MEANINGS[400], "model": NameTakenDocument | ErrorDocument}

add_route(
    router,
    ("rawdata", "raw_data"),
    list_raw_data,
    methods=["GET"],
    responses={200: {"model": list[RawDataDocument]}, **errors()},
)
add_route(
    router,
    ("rawdata", "raw_data"),
    post_raw_data,
    methods=["POST"],
    status_code=201,
    responses={
        200: {"model": RawDataDocument, "description": "Registered again, with other files."},
        201: {"model": RawDataDocument},
        **errors(400, 406, 422),
        400: _BOTH,
    },
    openapi_extra=described(RawDataPost),
)
add_route(
    router,
    ("rawdata/split", "raw_data/split"),
    post_split,
    methods=["POST"],
    responses={200: {"model": TaskDocument}, **errors(400, 403, 404, 422)},
    openapi_extra=described(SplitPost),
)
add_route(
    router,
    ("rawdata/customsplit", "raw_data/customsplit"),
    post_custom_split,
    methods=["POST"],
    responses={200: {"model": TaskDocument}, **errors(400, 403, 404, 422)},
    openapi_extra=described(CustomSplitPost),
)
