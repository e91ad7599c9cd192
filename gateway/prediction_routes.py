"""`testpredictions/`: results, and which of them have arrived."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from sqlalchemy import ColumnElement, Connection, update

from gateway.bodies import (
    AcknowledgePost,
    PredictionsListPost,
    PredictionsNewPost,
    described,
)
from gateway.documents import AcknowledgedDocument, PredictionsDocument
from gateway.fold_documents import PREDICTIONS, ArrayFormat, contents, predictions_document, slices
from gateway.fold_routes import Format
from gateway.fold_selection import Selection, pages
from gateway.request_body import body_of
from gateway.service import Service, TheService, TheUser, add_route, errors
from gateway.splitting import find_raw_data
from gateway.streamed_list import StreamedList
from schemas.states import TERMINAL
from storage.models import RunRow, Standing
from storage.runs import Run
from storage.upsert import chunks

router = APIRouter(tags=["predictions"])


class Acknowledging(StrEnum):
    """When what is returned stops being new."""

    AUTO = "auto"
    """Once the last byte of the answer was sent."""

    MANUAL = "manual"
    """When `testpredictions/acknowledge/` says so."""


Acknowledge = Annotated[
    Acknowledging,
    Query(
        description="`auto`: what is returned is no longer new once the last byte of the answer "
        "was sent. `manual`: it stays new until `testpredictions/acknowledge/` names it."
    ),
]


def list_predictions(
    user: TheUser,
    service: TheService,
    post: Annotated[PredictionsListPost, body_of(PredictionsListPost)],
    format: Format = ArrayFormat.BASE64,
    acknowledge: Acknowledge = Acknowledging.AUTO,
) -> StreamedList:
    """The results of these folds, as far as they have ended: tested, failed or cancelled."""
    selection = Selection(
        fold_ids=tuple(post.list_submission_fold), ended=True, uploader=service.visible_to(user)
    )
    return _results(service, selection, format, acknowledge)


def new_predictions(
    user: TheUser,
    service: TheService,
    post: Annotated[PredictionsNewPost, body_of(PredictionsNewPost, optional=True)],
    format: Format = ArrayFormat.BASE64,
    acknowledge: Acknowledge = Acknowledging.AUTO,
) -> StreamedList:
    """Every result that is new: of folds that were tested, have failed, or were cancelled."""
    dataset = None
    if post.raw_data_id is not None:
        dataset = service.database.read(find_raw_data, post.raw_data_id).name
    selection = Selection(ended=True, new=True, dataset=dataset, uploader=service.visible_to(user))
    return _results(service, selection, format, acknowledge)


def acknowledge_results(
    user: TheUser,
    service: TheService,
    post: Annotated[AcknowledgePost, body_of(AcknowledgePost)],
) -> JSONResponse:
    """These results have arrived: they are no longer new. Folds that have not ended stay new."""
    count = service.database.write(
        _clear, post.task_ids, post.list_submission_fold, service.visible_to(user)
    )
    return JSONResponse({"acknowledged": count})


def _results(
    service: Service, selection: Selection, form: ArrayFormat, acknowledge: Acknowledging
) -> StreamedList:
    sent: list[str] = []

    def documents(connection: Connection, runs: list[Run]) -> list[PredictionsDocument]:
        return [
            predictions_document(content, form)
            for content in contents(connection, runs, PREDICTIONS)
        ]

    def pieces() -> Iterator[list[PredictionsDocument]]:
        for page in pages(service.database, selection):
            for group in service.database.read(slices, page, PREDICTIONS, form):
                yield service.database.read(documents, group)
                sent.extend(run.run_id for run in group if run.new)

    def delivered() -> None:
        service.database.write(_clear, sent, (), None)

    is_manual = acknowledge is Acknowledging.MANUAL
    return StreamedList(pieces(), delivered=None if is_manual else delivered)


def _clear(
    connection: Connection,
    run_ids: list[str],
    fold_ids: list[int] | tuple[int, ...],
    uploader: str | None,
) -> int:
    """How many were new. By run: a fold that was run again meanwhile stays new."""
    count = 0
    named: list[ColumnElement[bool]] = [RunRow.run_id.in_(some) for some in chunks(run_ids)]
    named += [
        RunRow.submission_fold_id.in_(some) & (RunRow.standing == Standing.CURRENT)
        for some in chunks(fold_ids)
    ]
    for condition in named:
        statement = (
            update(RunRow)
            .where(condition, RunRow.new, RunRow.state.in_(TERMINAL))
            .values(new=False)
        )
        if uploader is not None:
            statement = statement.where(RunRow.uploader == uploader)
        count += connection.execute(statement).rowcount
    return count


add_route(
    router,
    ("testpredictions/list",),
    list_predictions,
    methods=["POST"],
    response_class=Response,
    responses={200: {"model": list[PredictionsDocument]}, **errors(422)},
    openapi_extra=described(PredictionsListPost),
)
add_route(
    router,
    ("testpredictions/new",),
    new_predictions,
    methods=["POST"],
    response_class=Response,
    responses={200: {"model": list[PredictionsDocument]}, **errors(404, 422)},
    openapi_extra=described(PredictionsNewPost, optional=True),
)
add_route(
    router,
    ("testpredictions/acknowledge",),
    acknowledge_results,
    methods=["POST"],
    responses={200: {"model": AcknowledgedDocument}, **errors(422)},
    openapi_extra=described(AcknowledgePost),
)
