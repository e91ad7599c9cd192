"""`submissionfold/` and `submissionfold-light/`: submissions on CV folds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel
from sqlalchemy import Connection

from gateway.acceptance import AcceptedFold, Application
from gateway.bodies import SubmissionFoldPost, described
from gateway.documents import (
    SubmissionFoldDetail,
    SubmissionFoldDocument,
    SubmissionFoldLight,
)
from gateway.encodings import encoded_file
from gateway.fold_documents import (
    INDICES,
    PREDICTIONS,
    ArrayFormat,
    FoldContent,
    contents,
    fold_document,
    fold_fields,
    slices,
)
from gateway.fold_selection import Selection, count, light_pages, pages
from gateway.paging import TOTAL, Limit, Offset, total_header
from gateway.refusals import Forbidden, NotFound
from gateway.request_body import aside, body_of
from gateway.service import Service, TheService, TheUser, add_route, errors
from gateway.streamed_list import StreamedList
from gateway.submission import FoldRequest, read_fold_request, stored_files
from schemas.frozen import MAX_ID
from schemas.states import FoldState
from storage.runs import Run, load_current_runs
from storage.users import Account

logger = logging.getLogger(__name__)

router = APIRouter(tags=["submissions on CV folds"])

Format = Annotated[
    ArrayFormat,
    Query(description="`json`: arrays as plain lists, in place of base64(zlib(raw bytes))."),
]


def list_folds(
    user: TheUser,
    service: TheService,
    format: Format = ArrayFormat.BASE64,
    limit: Limit = None,
    offset: Offset = 0,
) -> StreamedList:
    """List all folds in the order of their ids, with all fields.

    With `limit` or `offset` the answer has a header `X-Total-Count`.
    """
    selection = Selection(uploader=service.visible_to(user), limit=limit, offset=offset)
    return StreamedList(_pieces(service, selection, format), headers=_total(service, selection))


def list_folds_light(
    user: TheUser, service: TheService, limit: Limit = None, offset: Offset = 0
) -> StreamedList:
    """List how all folds stand, in the order of their ids.

    With `limit` or `offset` the answer has a header `X-Total-Count`.
    """
    selection = Selection(uploader=service.visible_to(user), limit=limit, offset=offset)
    documents = (
        [
            SubmissionFoldLight(
                databoard_sf_id=fold_id, databoard_s=submission_id, state=FoldState(state), new=new
            )
            for fold_id, submission_id, state, new in page
        ]
        for page in light_pages(service.database, selection)
    )
    return StreamedList(documents, headers=_total(service, selection))


def _total(service: Service, selection: Selection) -> dict[str, str]:
    """The header of an answer that may not be all."""
    is_part = selection.limit is not None or selection.offset > 0
    return total_header(service.database.read(count, selection) if is_part else None)


async def post_fold(
    user: TheUser,
    service: TheService,
    fold: Annotated[FoldRequest, body_of(SubmissionFoldPost, as_=read_fold_request)],
) -> Response:
    """Submit a fold. The first one of a submission brings its files and its data set; later ones
    inherit them.

    The fold gets the version of the latest split that was asked for; while that is under way, it
    waits. Once this is answered, the fold will end in exactly one verdict, whatever dies.
    """
    accepted = await service.acceptance.run(Application(fold, user))
    run = accepted.content.run
    logger.info(
        "fold accepted",
        extra={
            "action": "fold_accepted",
            "run_id": run.run_id,
            "submission_fold_id": run.submission_fold_id,
            "submission_id": run.submission_id,
            "dataset": run.dataset,
            "user": user.username,
        },
    )
    return await aside(accepted.nbytes, _accepted, accepted)


def get_fold(
    user: TheUser,
    service: TheService,
    databoard_sf_id: Annotated[
        int, Path(ge=0, le=MAX_ID, description="Id of the fold.", examples=[7001])
    ],
    format: Format = ArrayFormat.BASE64,
) -> Response:
    """One fold, with all fields."""
    return _json(service.database.read(_detail, databoard_sf_id, user, service, format), 200)


def _accepted(accepted: AcceptedFold) -> Response:
    fields = fold_fields(accepted.content, ArrayFormat.BASE64)
    files = _encoded(accepted.files, ArrayFormat.BASE64)
    return _json(SubmissionFoldDetail(**fields, files=files), 201)


def _json(document: BaseModel, status: int) -> Response:
    return Response(document.model_dump_json(), status, media_type="application/json")


def _pieces(
    service: Service, selection: Selection, form: ArrayFormat
) -> Iterator[list[SubmissionFoldDocument]]:
    names = (*PREDICTIONS, *INDICES)

    def documents(connection: Connection, runs: list[Run]) -> list[SubmissionFoldDocument]:
        return [fold_document(content, form) for content in contents(connection, runs, names)]

    for page in pages(service.database, selection):
        for group in service.database.read(slices, page, names, form):
            yield service.database.read(documents, group)


def _detail(
    connection: Connection,
    fold_id: int,
    user: Account,
    service: Service,
    form: ArrayFormat,
) -> SubmissionFoldDetail:
    run = next(iter(load_current_runs(connection, [fold_id]).values()), None)
    if run is None:
        raise NotFound(f"there is no fold with id {fold_id}")
    if service.visible_to(user) not in {None, run.uploader}:
        raise Forbidden(f"the fold {fold_id} belongs to another user")
    (content,) = contents(connection, [run], (*PREDICTIONS, *INDICES))
    return SubmissionFoldDetail(
        **fold_fields(content, form), files=_files(connection, content, user, form)
    )


def _files(
    connection: Connection, content: FoldContent, user: Account, form: ArrayFormat
) -> dict[str, str] | None:
    run = content.run
    if run.files_digest is None or not (user.is_admin or run.uploader == user.username):
        return None
    return _encoded(stored_files(connection, run.files_digest), form)


def _encoded(files: dict[str, bytes], form: ArrayFormat) -> dict[str, str]:
    return {
        name: _text(content) if form is ArrayFormat.JSON else encoded_file(content)
        for name, content in files.items()
    }


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return encoded_file(content)


add_route(
    router,
    ("submissionfold",),
    list_folds,
    methods=["GET"],
    response_class=Response,
    responses={200: {"model": list[SubmissionFoldDocument], "headers": TOTAL}, **errors(422)},
)
add_route(
    router,
    ("submissionfold",),
    post_fold,
    methods=["POST"],
    status_code=201,
    response_class=Response,
    responses={201: {"model": SubmissionFoldDetail}, **errors(400, 403, 404, 409, 422)},
    openapi_extra=described(SubmissionFoldPost),
)
add_route(
    router,
    ("submissionfold/{databoard_sf_id}",),
    get_fold,
    methods=["GET"],
    response_class=Response,
    responses={200: {"model": SubmissionFoldDetail}, **errors(403, 404, 422)},
)
add_route(
    router,
    ("submissionfold-light",),
    list_folds_light,
    methods=["GET"],
    response_class=Response,
    responses={200: {"model": list[SubmissionFoldLight], "headers": TOTAL}, **errors(422)},
)
