"""The folds worker: each slot takes one fold at a time from its pool's queue, and settles it."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace

from broker.delivery import Delivery
from broker.feed import Feed
from consumer import metrics
from consumer.delivery.heartbeats import Heartbeats
from consumer.delivery.reading import Intake, publish_surely, republished
from consumer.delivery.slot_run import Ending, SlotRun, Stop, Workplace, deadline_of
from consumer.delivery.slots import Slots
from schemas.events import RunningFold
from schemas.messages import FoldMessage
from schemas.topology import (
    DEADLINE_HEADER,
    SOURCE_HEADER,
    WAITING,
    folds_key,
    folds_queue,
)
from schemas.wire import Envelope

logger = logging.getLogger(__name__)


class FoldWorker:
    """Runs folds until the worker is stopped."""

    def __init__(self, place: Workplace, pool: str, slots: int) -> None:
        self._place = place
        self._key = folds_key(pool)
        self._slots = Slots(place.link, folds_queue(pool), slots, self._take)
        self._intake = Intake(place.link, FoldMessage, self._key)
        self._running: dict[str, SlotRun] = {}
        self._heartbeats: Heartbeats
        metrics.SLOTS.set(slots)
        metrics.BUSY_SLOTS.set_function(lambda: len(self._running))

    def running(self) -> tuple[RunningFold, ...]:
        """The folds in its slots."""
        return tuple(run.as_running for run in self._running.values())

    def not_wanted(self, run_id: str) -> None:
        """The run is cancelled, or its verdict is stored: stop it if it runs here."""
        run = self._running.get(run_id)
        if run is not None:
            run.stop(Stop.NOT_WANTED)

    async def work(self, heartbeats: Heartbeats) -> None:
        """Take folds until `take_no_more`; returns when all that were taken are settled."""
        self._heartbeats = heartbeats
        await self._slots.work()

    def take_no_more(self) -> None:
        """Slots that wait for a fold end; the others end with the fold they have."""
        self._slots.take_no_more()

    def give_back(self) -> None:
        """Kill what runs, and give it back to the queue."""
        for run in list(self._running.values()):
            run.stop(Stop.RETURN)

    async def _take(self, slot: int, feed: Feed, delivery: Delivery) -> Feed:
        """Deal with one delivery; return the feed with which the slot goes on."""
        if delivery.redelivered:
            # Somebody may still be running it.
            await self._heartbeats.heard_everybody()
        message = await self._intake.read(delivery)
        if message is None:
            return feed
        run_id = delivery.envelope.run_id
        has_ended = self._heartbeats.has_ended(run_id)
        if has_ended or self._place.catalogue.is_cancelled(run_id):
            outcome = "duplicate" if has_ended else "cancelled"
            self._log(delivery, message, outcome, f"not run: {outcome}")
            await delivery.ack()
            return feed
        running = self._running.get(run_id)
        if running is not None and not running.delivery.is_live:
            self._log(delivery, message, "adopted", "redelivered while it runs here: it goes on")
            return running.adopt(delivery, feed)
        if running is not None or (runner := self._heartbeats.runner(run_id)) is not None:
            where = self._place.link.name if running is not None else runner
            self._log(delivery, message, "runs_elsewhere", f"this run is running already: {where}")
            await self._wait(delivery, {})
            await delivery.ack()
            return feed
        return await self._run(SlotRun(self._place, slot, message, delivery, feed))

    async def _run(self, run: SlotRun) -> Feed:
        self._running[run.run_id] = run
        self._heartbeats.folds_changed()
        since = time.monotonic()
        try:
            ending = await run.go()
            metrics.DELIVERIES.labels(ending.value).inc()
            match ending:
                case Ending.ENDED:
                    metrics.FOLD_SECONDS.observe(time.monotonic() - since)
                    self._heartbeats.remember_ended(run.run_id)
                    await run.delivery.ack()
                case Ending.NOT_WANTED:
                    await run.delivery.ack()
                case Ending.RETURNED:
                    await run.delivery.reject(requeue=True)
                case Ending.WAITS:
                    deadline = self._deadline(run.delivery.envelope)
                    await self._wait(run.delivery, {DEADLINE_HEADER: deadline})
                    await run.delivery.ack()
        finally:
            del self._running[run.run_id]
            self._heartbeats.folds_changed()
        return run.feed

    async def _wait(self, delivery: Delivery, headers: dict[str, int]) -> None:
        """Send a copy of the message round by the waiting queue; it is back in two seconds."""
        again = republished(delivery.envelope, self._key, **{SOURCE_HEADER: self._key}, **headers)
        # What comes back has the queue's name as routing key, which implies no type.
        again = replace(again, type=FoldMessage.TYPE)
        await publish_surely(self._place.link, WAITING, again)

    def _log(self, delivery: Delivery, message: FoldMessage, outcome: str, text: str) -> None:
        """What became of a delivery that begins no run."""
        metrics.DELIVERIES.labels(outcome).inc()
        logger.info(
            "%s",
            text,
            extra={
                "action": f"fold_{outcome}",
                "run_id": delivery.envelope.run_id,
                "submission_fold_id": message.submission_fold_id,
                "dataset": message.dataset,
                "worker": self._place.link.name,
            },
        )

    def _deadline(self, envelope: Envelope) -> int:
        """Until when the fold may wait for its data set: set once, never put off.

        Whole seconds: AMQP's floats have 32 bits, which tell the time to two minutes.
        """
        latest = math.ceil(time.time() + self._place.limits.dataset_wait_seconds)
        return min(deadline_of(envelope) or latest, latest)
