"""`rawdata/`: data sets, and their splits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import Connection, Select, func, select

from gateway.bodies import CustomSplitPost, RawDataPost, SplitPost, described
from gateway.documents import RawDataDocument, RawDataState, TaskDocument
from gateway.paging import TOTAL, Limit, Offset, total_header
from gateway.refusals import ErrorDocument
from gateway.registration import CUSTOM_FILE, check_name, read_registration, register
from gateway.request_body import body_of
from gateway.service import MEANINGS, Service, TheService, TheUser, add_route, errors
from gateway.splitting import request_split
from gateway.streamed_list import StreamedList
from schemas.datasets import Custom, HoldOut, Manifest
from storage.gateway_models import RawData
from storage.models import Dataset, DatasetVersion

logger = logging.getLogger(__name__)

router = APIRouter(tags=["data sets"])

PAGE = 200
"""Data sets read at a time: what their splits printed may be long."""


class NameTakenDocument(BaseModel):
    """The name is taken; worded as in 2016."""

    name: list[str] = Field(
        description="What is wrong with it.", examples=[["RawData with this name already exists."]]
    )


def list_raw_data(
    user: TheUser,  # noqa: ARG001
    service: TheService,
    limit: Limit = None,
    offset: Offset = 0,
) -> StreamedList:
    """List all data sets, in the order in which they were registered.

    Data sets that were published by a message are there, too. With `limit` or `offset` the answer
    has a header `X-Total-Count`.
    """
    total = service.database.read(_count) if limit is not None or offset else None
    return StreamedList(_pages(service, limit, offset), headers=total_header(total))


def post_raw_data(
    user: TheUser,
    service: TheService,
    post: Annotated[RawDataPost, body_of(RawDataPost)],
) -> JSONResponse:
    """Register a data set: its files are stored, until a split is asked for.

    A single file becomes `<name>.csv` and keeps an ending such as `.gz`. The python file among
    several becomes `specific.py`; an existing `specific.py` stays what it is. A python file alone
    is one that makes or fetches its data.

    A name is taken once the data set is split, or is being split. Until then, and when every split
    has failed, the same user may register it again: the new files replace the former ones, under
    the same id.
    """
    service.database.read(check_name, post.name, user)
    registered = service.database.write(register, read_registration(post), user)
    _log("raw_data_registered", user, registered.raw_data_id, dataset=post.name)
    of_id = _rows().where(RawData.id == registered.raw_data_id)
    (document,) = service.database.read(_documents, of_id)
    return JSONResponse(document.model_dump(mode="json"), 201 if registered.is_new else 200)


def post_split(
    user: TheUser,
    service: TheService,
    post: Annotated[SplitPost, body_of(SplitPost)],
) -> JSONResponse:
    """Split a CSV data set into training and test rows: that makes a version of it.

    Asking for the same split again changes nothing. Another split makes another version; folds that
    were accepted before stay with theirs.
    """
    split = HoldOut(post.held_out_test, post.random_state)
    task_id = service.database.write(request_split, post.raw_data_id, split, user)
    _log("split_requested", user, post.raw_data_id, task_id=task_id)
    return JSONResponse({"task_id": task_id})


def post_custom_split(
    user: TheUser,
    service: TheService,
    post: Annotated[CustomSplitPost, body_of(CustomSplitPost)],
) -> JSONResponse:
    """Split a data set with the python file that came with it."""
    split = Custom(CUSTOM_FILE)
    task_id = service.database.write(request_split, post.raw_data_id, split, user)
    _log("split_requested", user, post.raw_data_id, task_id=task_id)
    return JSONResponse({"task_id": task_id})


def _log(action: str, user: TheUser, raw_data_id: int, **ids: object) -> None:
    extra = {"action": action, "raw_data_id": raw_data_id, "user": user.username, **ids}
    logger.info(action.replace("_", " "), extra=extra)


def _count(connection: Connection) -> int:
    return connection.scalar(select(func.count()).select_from(RawData)) or 0


def _pages(service: Service, limit: int | None, offset: int) -> Iterator[list[RawDataDocument]]:
    """Each page is a snapshot of its own: nothing is held for a slow client."""
    after, left = -1, limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        query = _rows().where(RawData.id > after).limit(size).offset(offset)
        documents = service.database.read(_documents, query)
        yield documents
        if len(documents) < size:
            return
        after, offset = documents[-1].id, 0
        left = None if left is None else left - size


def _rows() -> Select[*tuple[Any, ...]]:
    return (
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


def _documents(connection: Connection, query: Select[*tuple[Any, ...]]) -> list[RawDataDocument]:
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
    response_class=Response,
    responses={200: {"model": list[RawDataDocument], "headers": TOTAL}, **errors(422)},
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
