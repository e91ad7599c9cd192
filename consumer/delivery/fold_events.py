"""What a worker says of one fold: its events, in order, the final one confirmed."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import numpy.typing as npt

from broker.link import Link
from consumer.delivery.reading import aside, publish_surely
from consumer.jobs import FoldOutcome
from schemas.arrays import Array
from schemas.events import (
    FoldEvent,
    FoldFailed,
    FoldPart,
    FoldReturned,
    FoldStarted,
    FoldTested,
    FoldTrained,
    FoldValidated,
    Measurements,
    PredictionsName,
)
from schemas.states import Culprit, FailureKind, FoldState, Phase
from schemas.topology import EVENTS
from schemas.verdicts import Output, Verdict
from schemas.wire import PART_CHARACTERS, Envelope, pack

PROGRESS_SECONDS = 0.1
"""How long TRAINED and VALIDATED may wait for the next event: what goes together costs all that it
passes less."""

INLINE_CHARACTERS = 2 << 20
"""Longest array, as base64 text, that travels inside its event; a final event has up to two."""


class FoldEvents:
    """The events of one attempt at one run.

    The intermediate ones are published in the background, in order and on one channel, while the
    fold goes on; a final one returns only when it and all before it are confirmed. That a fold has
    started is said at once: attempts that kill their worker are counted by it.
    """

    def __init__(self, link: Link, run_id: str, submission_fold_id: int) -> None:
        self._link = link
        self._run_id = run_id
        self._fold_id = submission_fold_id
        self.attempt_id = uuid.uuid4().hex
        self._key = f"fold.{submission_fold_id}"
        self._held: list[Envelope] = []
        self._release: asyncio.TimerHandle | None = None
        self._unconfirmed: list[asyncio.Task[None]] = []

    def started(self, dataset: str) -> None:
        """The fold's process begins. dataset: `name@version`."""
        self._send(self._pack(FoldStarted(**self._common(), dataset=dataset)))

    def progress(self, state: FoldState, measurements: Measurements) -> None:
        """A phase has ended: TRAINED or VALIDATED."""
        model = FoldTrained if state is FoldState.TRAINED else FoldValidated
        self._held.append(self._pack(model(**self._common(), measurements=measurements)))
        if self._release is None:
            loop = asyncio.get_running_loop()
            self._release = loop.call_later(PROGRESS_SECONDS, self._send_held)

    async def ended(self, outcome: FoldOutcome, dataset: str) -> None:
        """The fold's result, large predictions in parts before it; final."""
        arrays = (outcome.full_train_predictions, outcome.test_predictions)
        size = sum(array.nbytes for array in arrays if array is not None)
        full_train = await self._array("full_train_predictions", outcome.full_train_predictions)
        if outcome.verdict is not None:
            event: FoldEvent = FoldFailed(
                **self._common(),
                dataset=dataset,
                verdict=outcome.verdict,
                full_train_predictions=full_train,
                measurements=outcome.measurements,
                output=outcome.output,
            )
        else:
            event = FoldTested(
                **self._common(),
                dataset=dataset,
                full_train_predictions=full_train,
                test_predictions=await self._array("test_predictions", outcome.test_predictions),
                measurements=outcome.measurements,
                output=outcome.output,
            )
        await self._send_last(event, size)

    async def failed_before_start(self, verdict: Verdict, dataset: str | None) -> None:
        """The fold fails without having been started; final."""
        await self._send_last(
            FoldFailed(**self._common(), dataset=dataset, verdict=verdict, output=Output())
        )

    async def returned(self, reason: str) -> None:
        """The fold goes back to its queue unfinished; the attempt does not count."""
        await self._send_last(FoldReturned(**self._common(), reason=reason))

    def drop(self) -> None:
        """Nobody waits any more for what is not confirmed yet."""
        if self._release is not None:
            self._release.cancel()
        for task in self._unconfirmed:
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                # Looked at, or asyncio would report it as never retrieved.
                task.exception()

    def _common(self) -> dict[str, Any]:
        return {
            "run_id": self._run_id,
            "attempt_id": self.attempt_id,
            "submission_fold_id": self._fold_id,
            "worker": self._link.name,
            "at": datetime.now(UTC),
        }

    async def _array(self, name: PredictionsName, values: npt.NDArray[Any] | None) -> Array | None:
        if values is None:
            return None
        array = await aside(values.nbytes, Array.of, values)
        assert array.data is not None
        if len(array.data) <= INLINE_CHARACTERS:
            return array
        self._send_held()
        array, texts = array.split(PART_CHARACTERS)
        for index, text in enumerate(texts):
            part = FoldPart(**self._common(), array=name, index=index, count=len(texts), data=text)
            # One at a time: a large array must not stand in memory once more for each part.
            envelope = await aside(len(text), self._pack, part)
            await publish_surely(self._link, EVENTS, envelope)
        return array

    def _pack(self, event: FoldEvent) -> Envelope:
        return pack(event, self._key, app_id=self._link.name)

    def _send_held(self) -> None:
        if self._release is not None:
            self._release.cancel()
            self._release = None
        held, self._held = self._held, []
        for envelope in held:
            self._send(envelope)

    def _send(self, envelope: Envelope) -> None:
        # A task runs up to its first wait in the order of creation, and that is the sending.
        task = asyncio.create_task(publish_surely(self._link, EVENTS, envelope))
        self._unconfirmed.append(task)

    async def _send_last(self, event: FoldEvent, size: int = 0) -> None:
        # Writing JSON takes a tenth of the time that deflating took.
        envelope = await aside(size // 10, self._pack, event)
        self._send_held()
        self._send(envelope)
        await asyncio.gather(*self._unconfirmed)


def rejected(message: str) -> Verdict:
    """The publisher's message cannot be accepted as it stands."""
    return _unstarted(FailureKind.REJECTED, Culprit.PUBLISHER, message)


def no_data(message: str, culprit: Culprit = Culprit.PUBLISHER) -> Verdict:
    """The data set is missing, failed, or cannot be had."""
    return _unstarted(FailureKind.DATA, culprit, message)


def broken(error: BaseException) -> Verdict:
    """The worker itself failed."""
    return _unstarted(
        FailureKind.CRASHED,
        Culprit.INFRASTRUCTURE,
        f"the worker failed to run the fold: {type(error).__name__}: {error}",
    )


def _unstarted(kind: FailureKind, culprit: Culprit, message: str) -> Verdict:
    return Verdict(phase=Phase.DATA, kind=kind, culprit=culprit, message=message)
