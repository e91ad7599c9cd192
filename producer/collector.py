"""`Collector`: typed questions to the collector, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from broker.blocking import BlockingLink
from producer.arguments import built
from producer.results import Result
from schemas.arrays import Array
from schemas.errors import RequestError
from schemas.events import PredictionsName
from schemas.frozen import Message
from schemas.messages import AcknowledgeMessage, CancelMessage
from schemas.requests import (
    Acknowledged,
    CrossValidateReply,
    CrossValidateRequest,
    DatasetRecord,
    DatasetsReply,
    DatasetsRequest,
    FoldRecord,
    FoldsReply,
    FoldsRequest,
    FoldSummary,
    PartReply,
    PartRequest,
    ResultsReply,
    ResultsRequest,
    StatusReply,
    StatusRequest,
)
from schemas.topology import KEY_ACKNOWLEDGE, KEY_CANCEL, KEY_REQUEST

IDS_AT_ONCE = 1000
"""Folds or runs named in one request."""

Reply = TypeVar("Reply", bound=Message)
Item = TypeVar("Item")


class Collector:
    """What the collector knows. Each call raises CollectorUnreachable or RequestError."""

    def __init__(self, link: BlockingLink, timeout: float) -> None:
        """`timeout`: seconds that one answer may take."""
        self._link = link
        self._timeout = timeout

    def results_of(
        self, fold_ids: Iterable[int], *, with_predictions: bool = True
    ) -> Iterator[Result]:
        """Those of the folds that have ended, in no particular order."""
        for some in _some_at_once(fold_ids):
            request = built(
                ResultsRequest,
                submission_fold_ids=some,
                with_predictions=with_predictions,
            )
            yield from self._pages(request)

    def new_results(
        self, dataset: str | None, *, with_predictions: bool = True
    ) -> Iterator[Result]:
        """Every ended fold whose result is new."""
        yield from self._pages(
            built(ResultsRequest, dataset=dataset, with_predictions=with_predictions)
        )

    def acknowledge(self, run_ids: Iterable[str]) -> int:
        """These results have arrived; committed when this returns. How many were new."""
        messages = (AcknowledgeMessage(run_ids=some) for some in _some_at_once(run_ids))
        return sum(self._ask(message, Acknowledged, KEY_ACKNOWLEDGE).count for message in messages)

    def cancel(self, fold_ids: Iterable[int]) -> int:
        """Stop these folds, or never start them; committed when this returns. How many."""
        messages = (
            built(CancelMessage, submission_fold_ids=some) for some in _some_at_once(fold_ids)
        )
        return sum(self._ask(message, Acknowledged, KEY_CANCEL).count for message in messages)

    def datasets(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        message_id: str | None = None,
        seconds: float | None = None,
    ) -> tuple[DatasetRecord, ...]:
        """The data sets of that name, of that version, as that message left it, or all."""
        request = built(DatasetsRequest, name=name, version=version, message_id=message_id)
        return self._ask(request, DatasetsReply, seconds=seconds).datasets

    def folds(self, request: FoldsRequest, most: int | None = None) -> Iterator[FoldSummary]:
        """Folds in the order of their ids, over all pages; at most `most`."""
        left = most
        while True:
            if left is not None:
                request = request.model_copy(update={"limit": max(1, min(left, request.limit))})
            reply = self._ask(request, FoldsReply)
            yield from reply.folds
            if left is not None:
                left -= len(reply.folds)
            if not reply.more or not reply.folds or (left is not None and left <= 0):
                return
            request = request.model_copy(update={"after": reply.folds[-1].submission_fold_id})

    def last_folds(self, request: FoldsRequest, most: int) -> tuple[list[FoldSummary], int]:
        """The `most` folds with the greatest ids, in the order of their ids; and how many match."""
        page = request.model_copy(update={"last": most, "limit": min(most, request.limit)})
        reply = self._ask(page, FoldsReply)
        found = list(reply.folds)
        if reply.more and len(found) < most:
            after = found[-1].submission_fold_id
            rest = request.model_copy(update={"after": after})
            found += self.folds(rest, most - len(found))
        return found, reply.count or 0

    def cut_folds(self, dataset: str, cv: int, random_state: int) -> CrossValidateReply:
        """Unused ids and the rows of each fold."""
        request = built(CrossValidateRequest, dataset=dataset, cv=cv, random_state=random_state)
        return self._ask(request, CrossValidateReply)

    def status(self) -> StatusReply:
        """Counts and workers."""
        return self._ask(StatusRequest(), StatusReply)

    def _pages(self, request: ResultsRequest) -> Iterator[Result]:
        while True:
            reply = self._ask(request, ResultsReply)
            for record in reply.results:
                yield Result(self._whole(record), self._acknowledge_one)
            if reply.cursor is None:
                return
            request = request.model_copy(update={"cursor": reply.cursor})

    def _acknowledge_one(self, result: Result) -> None:
        self.acknowledge((result.run_id,))

    def _whole(self, record: FoldRecord) -> FoldRecord:
        """The record with the arrays that travel in parts put together."""
        return record.model_copy(
            update={
                "full_train_predictions": self._joined(
                    record.run_id, "full_train_predictions", record.full_train_predictions
                ),
                "test_predictions": self._joined(
                    record.run_id, "test_predictions", record.test_predictions
                ),
            }
        )

    def _joined(self, run_id: str, name: PredictionsName, array: Array | None) -> Array | None:
        if array is None or array.parts == 0:
            return array
        requests = (
            PartRequest(run_id=run_id, array=name, index=index) for index in range(array.parts)
        )
        return array.joined([self._ask(request, PartReply).data for request in requests])

    def _ask(
        self,
        message: Message,
        expected: type[Reply],
        routing_key: str = KEY_REQUEST,
        *,
        seconds: float | None = None,
    ) -> Reply:
        reply = self._link.request(
            message, deadline=seconds or self._timeout, routing_key=routing_key
        )
        if not isinstance(reply, expected):
            raise RequestError(
                f"the collector answered {message.TYPE} with {reply.TYPE}: "
                "is it of another version of datarun?"
            )
        return reply


def _some_at_once(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    iterator = iter(items)
    while some := tuple(islice(iterator, IDS_AT_ONCE)):
        yield some
