"""One run of a fold in a slot: from its data set to its final event."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum, auto

import numpy as np
import numpy.typing as npt

from broker.delivery import Delivery
from broker.feed import Feed
from broker.link import Link
from consumer import metrics
from consumer.cache import DatasetCache, PartsAway, PartsUnavailable
from consumer.delivery.catalogue import Catalogue, Unusable
from consumer.delivery.fold_events import FoldEvents, broken, no_data, rejected
from consumer.delivery.fold_limits import FoldLimits
from consumer.delivery.reading import aside
from consumer.execution.executor import FoldExecutor
from consumer.jobs import FoldJob, FoldOutcome
from schemas.datasets import DatasetReference, Manifest
from schemas.errors import MessageError
from schemas.events import Measurements, RunningFold
from schemas.files import decoded
from schemas.messages import FoldMessage, row_numbers
from schemas.states import Culprit, FoldState
from schemas.topology import DEADLINE_HEADER
from schemas.verdicts import Verdict
from schemas.wire import Envelope

logger = logging.getLogger(__name__)


class Stop(Enum):
    """Why a run is stopped from outside."""

    NOT_WANTED = auto()
    """It was cancelled, or its verdict is stored already."""

    RETURN = auto()
    """The worker shuts down: another one shall run it."""


class Ending(StrEnum):
    """What becomes of the run's delivery."""

    ENDED = "ended"
    """The final event is confirmed: ack."""

    NOT_WANTED = "dropped"
    """Nobody asks for it any more: ack."""

    RETURNED = "returned"
    """Another worker shall run it: reject to the queue."""

    WAITS = "waits_for_dataset"
    """Its data set cannot be had yet: through the waiting queue, then ack."""


class _Failed(Exception):
    """The fold fails before it is started."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class _Waits(Exception):
    """The fold's data set cannot be had yet; the sentence says why."""


@dataclass(frozen=True)
class Workplace:
    """What all slots of a worker share."""

    link: Link
    executor: FoldExecutor
    cache: DatasetCache
    catalogue: Catalogue
    limits: FoldLimits


class SlotRun:
    """A run in a slot, with the delivery that will be settled at its end.

    feed: where the delivery came from; the slot goes on with it when the run has ended.
    """

    def __init__(
        self, place: Workplace, slot: int, message: FoldMessage, delivery: Delivery, feed: Feed
    ) -> None:
        self._place = place
        self._slot = slot
        self._message = message
        self.run_id = delivery.envelope.run_id
        self.delivery = delivery
        self.feed = feed
        self._events = FoldEvents(place.link, self.run_id, message.submission_fold_id)
        self._dataset: str | None = None
        self._state = FoldState.TODO
        self._since = datetime.now(UTC)
        self._execution: asyncio.Task[FoldOutcome] | None = None
        self._stop: Stop | None = None

    @property
    def as_running(self) -> RunningFold:
        """For the heartbeat."""
        return RunningFold(
            run_id=self.run_id,
            submission_fold_id=self._message.submission_fold_id,
            state=self._state,
            since=self._since,
        )

    def adopt(self, delivery: Delivery, feed: Feed) -> Feed:
        """Settle this delivery in the place of the run's own one, which died with its channel.

        The new delivery uses up its feed's prefetch, so the run keeps that feed; whoever received
        it goes on with the run's former feed, which is returned.
        """
        former, self.feed, self.delivery = self.feed, feed, delivery
        return former

    def stop(self, why: Stop) -> None:
        """Kill the fold's processes, unless its outcome is known already."""
        self._stop = self._stop or why
        if self._execution is not None:
            self._execution.cancel()

    async def go(self) -> Ending:
        """Run the fold and publish what became of it."""
        self._execution = asyncio.create_task(self._execute(), name=f"fold-{self.run_id}")
        try:
            outcome = await self._execution
        except asyncio.CancelledError:
            slot = asyncio.current_task()
            if self._stop is None or (slot is not None and slot.cancelling()):
                raise
            return await self._stopped(self._stop)
        except _Waits as waiting:
            first = deadline_of(self.delivery.envelope) is None
            self._log(logging.INFO if first else logging.DEBUG, "fold_waits", str(waiting))
            return Ending.WAITS
        except _Failed as failed:
            await self._events.failed_before_start(failed.verdict, self._dataset)
            self._ended(failed.verdict)
        except Exception as error:
            logger.exception("the worker failed to run a fold", extra=self._ids("fold_broken"))
            await self._events.failed_before_start(broken(error), self._dataset)
            self._ended(broken(error))
        else:
            await self._events.ended(outcome, self._dataset or self._message.dataset)
            metrics.phases_ended(outcome.measurements)
            self._ended(outcome.verdict)
        finally:
            self._events.drop()
        return Ending.ENDED

    async def _stopped(self, why: Stop) -> Ending:
        if why is Stop.NOT_WANTED:
            self._log(logging.INFO, "fold_dropped", "cancelled, or its verdict is stored already")
            return Ending.NOT_WANTED
        await self._events.returned("the worker is shutting down")
        self._log(logging.INFO, "fold_returned", "")
        return Ending.RETURNED

    async def _execute(self) -> FoldOutcome:
        place, message = self._place, self._message
        manifest = self._manifest()
        self._dataset = manifest.reference
        limits = place.limits.resolve(message.limits)
        if (reason := place.limits.refusal(limits)) is not None:
            raise _Failed(rejected(reason))
        try:
            train_is = await aside(message.train_is.nbytes, _training_rows, message, manifest)
            files = await aside(
                sum(file.size for file in message.files.values()), decoded, message.files
            )
        except MessageError as error:
            raise _Failed(rejected(str(error))) from error
        try:
            async with place.cache.using(manifest) as folder:
                job = FoldJob(self.run_id, files, manifest, folder, train_is, limits)
                self._events.started(manifest.reference)
                self._started()
                return await place.executor.run(self._slot, job, self._on_phase)
        except PartsAway as error:
            # As with RabbitMQ away: no deadline ends that, the store's operator does.
            raise _Waits(str(error)) from error
        except PartsUnavailable as error:
            # Here and now; on another worker, or later, it may be different.
            raise self._wait_or_fail(str(error), Culprit.INFRASTRUCTURE) from error

    def _manifest(self) -> Manifest:
        reference = DatasetReference.parse(self._message.dataset)
        found = self._place.catalogue.find(reference)
        match found:
            case Manifest():
                return found
            case Unusable(verdict=Verdict() as verdict):
                raise _Failed(
                    no_data(f"data set {reference} has failed: {verdict.message}", verdict.culprit)
                )
            case Unusable():
                raise _Failed(
                    no_data(f"data set {reference} was replaced by a newer version and deleted")
                )
        raise self._wait_or_fail(
            f"data set {reference} is not known: nobody has published it, or it is not ready yet",
            Culprit.PUBLISHER,
        )

    def _wait_or_fail(self, reason: str, culprit: Culprit) -> _Waits | _Failed:
        deadline = deadline_of(self.delivery.envelope)
        if deadline is not None and time.time() > deadline:
            waited = self._place.limits.dataset_wait_seconds
            return _Failed(no_data(f"{reason}; waited {waited:.0f} s for it", culprit))
        return _Waits(reason)

    def _on_phase(self, state: FoldState, measurements: Measurements) -> None:
        self._state = state
        self._events.progress(state, measurements)
        self._log(logging.DEBUG, f"fold_{state.lower()}", "")

    def _started(self) -> None:
        published = self.delivery.envelope.timestamp
        if published is not None:
            # By the publisher's clock, and in whole seconds.
            waited = (datetime.now(UTC) - published).total_seconds()
            metrics.QUEUE_SECONDS.observe(max(0.0, waited))
        self._log(logging.INFO, "fold_started", "")

    def _ended(self, verdict: Verdict | None) -> None:
        metrics.fold_ended(verdict)
        if verdict is None:
            self._log(logging.INFO, "fold_tested", "")
        else:
            self._log(
                logging.INFO,
                "fold_failed",
                verdict.message,
                phase=verdict.phase.value,
                kind=verdict.kind.value,
                culprit=verdict.culprit.value,
            )

    def _log(self, level: int, action: str, text: str, **more: str) -> None:
        if logger.isEnabledFor(level):
            extra = self._ids(action) | more
            logger.log(level, "%s", text or action.replace("_", " "), extra=extra)

    def _ids(self, action: str) -> dict[str, object]:
        return {
            "action": action,
            "run_id": self.run_id,
            "submission_fold_id": self._message.submission_fold_id,
            "dataset": self._dataset or self._message.dataset,
            "worker": self._place.link.name,
            "attempt": self._events.attempt_id,
        }


def deadline_of(envelope: Envelope) -> int | None:
    """Unix time after which a fold that has waited for its data set fails."""
    deadline = envelope.headers.get(DEADLINE_HEADER)
    return deadline if isinstance(deadline, int) else None


def _training_rows(message: FoldMessage, manifest: Manifest) -> npt.NDArray[np.int64]:
    """`train_is`, once it and `test_is` are known to be rows of the data set."""
    train_is, test_is = row_numbers(message.train_is), row_numbers(message.test_is)
    for name, rows in (("train_is", train_is), ("test_is", test_is)):
        if (largest := int(rows.max())) >= manifest.n_train:
            raise MessageError(
                f"{name}: index {largest} is out of range: "
                f"{manifest.name} has {manifest.n_train} training rows"
            )
    return train_is
