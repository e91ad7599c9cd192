"""The prepare worker: takes one data set at a time, has it split, and stores its parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from broker.delivery import Delivery
from broker.feed import Feed
from broker.link import Link
from consumer import metrics
from consumer.delivery.heartbeats import Heartbeats
from consumer.delivery.reading import Intake, RecentIds, publish_surely, republished
from consumer.delivery.slots import Slots
from consumer.delivery.transfers import HeldTooLong, Transfers
from consumer.jobs import PreparedData, PrepareFailed
from consumer.scratch import remove_tree
from schemas.arrays import Array
from schemas.datasets import Manifest, checked_workflow
from schemas.errors import BrokerError, MessageError
from schemas.events import DataFailed, DataReady, RunningFold
from schemas.messages import DataMessage
from schemas.states import Culprit, DatasetState, FailureKind, Phase
from schemas.topology import (
    ATTEMPT_HEADER,
    DATA_QUEUE,
    EVENTS,
    KEY_DATA,
    WORK,
)
from schemas.verdicts import Output, Verdict
from schemas.wire import Envelope, pack

logger = logging.getLogger(__name__)

NOTHING_PRINTED = Output()

Prepare = Callable[[DataMessage, Path, Path], Awaitable[PreparedData]]
"""Splits a data set: the message, the folder of its files, an empty folder for the parts."""


class PrepareWorker:
    """Prepares data sets until the worker is stopped."""

    def __init__(
        self,
        link: Link,
        transfers: Transfers,
        prepare: Prepare,
        scratch: Path,
        max_attempts: int,
        split_seconds: float,
        longest_hold: float | None = None,
    ) -> None:
        """scratch: a folder that this worker may fill; each data set leaves it as it was.

        split_seconds: how long `prepare` may take.
        longest_hold: seconds after which RabbitMQ would take a delivery away; None: never.
        """
        self._link = link
        self._transfers = transfers
        self._prepare = prepare
        self._scratch = scratch
        self._max_attempts = max_attempts
        self._split_seconds = split_seconds
        self._longest_hold = longest_hold
        self._intake = Intake(link, DataMessage, KEY_DATA)
        self._slots = Slots(link, DATA_QUEUE, 1, self._take)
        self._ended = RecentIds(1_000)
        self._working: asyncio.Task[Envelope] | None = None
        metrics.SLOTS.set(1)
        metrics.BUSY_SLOTS.set_function(lambda: 1 if self._is_working else 0)

    def running(self) -> tuple[RunningFold, ...]:
        """None: data sets are no folds."""
        return ()

    def not_wanted(self, run_id: str) -> None:
        """Runs of folds are of no concern here."""

    async def work(self, heartbeats: Heartbeats) -> None:  # noqa: ARG002 - as FoldWorker's
        """Take data sets until `take_no_more`; returns when the one in work is settled."""
        await self._slots.work()

    def take_no_more(self) -> None:
        """End with the data set in work, or now."""
        self._slots.take_no_more()

    def give_back(self) -> None:
        """Break off, and give the data set back to the queue."""
        self._transfers.break_off()
        if self._working is not None:
            self._working.cancel()

    async def _take(self, _slot: int, feed: Feed, delivery: Delivery) -> Feed:
        message = await self._intake.read(delivery)
        if message is None:
            return feed
        run_id = delivery.envelope.run_id
        if delivery.redelivered and run_id not in self._ended:
            await self._begin_again(delivery, message)
            return feed
        if run_id not in self._ended:
            self._transfers.hold(self._longest_hold, self._split_seconds)
            logger.info("splitting a data set", extra=self._ids("data_started", run_id, message))
            self._working = asyncio.create_task(self._work_on(run_id, message))
            try:
                event = await self._working
            except HeldTooLong:
                await self._publish_again(delivery, _attempt(delivery))
                return feed
            except asyncio.CancelledError:
                slot = asyncio.current_task()
                if not self._transfers.broken_off or (slot is not None and slot.cancelling()):
                    raise
                # A new message, since a redelivered one would count as an attempt.
                await self._publish_again(delivery, _attempt(delivery))
                return feed
            await publish_surely(self._link, EVENTS, event)
            self._ended.add(run_id)
        await delivery.ack()
        return feed

    async def _begin_again(self, delivery: Delivery, message: DataMessage) -> None:
        """Whoever had this data set before did not end it: count that, or give it up.

        A broker that was killed redelivers everything, so this may count too much; but a data set
        under which every worker dies must not be tried for ever.
        """
        attempt = _attempt(delivery) + 1
        if attempt <= self._max_attempts:
            await self._publish_again(delivery, attempt)
            return
        text = (
            f"worker_lost: {attempt - 1} prepare workers died or lost their connection while they "
            "split this data set; it is not tried again"
        )
        verdict = _verdict(FailureKind.WORKER_LOST, Culprit.INFRASTRUCTURE, text)
        event = self._failed(delivery.envelope.run_id, message, verdict)
        await publish_surely(self._link, EVENTS, event)
        await delivery.ack()

    async def _publish_again(self, delivery: Delivery, attempt: int) -> None:
        again = republished(delivery.envelope, KEY_DATA, **{ATTEMPT_HEADER: attempt})
        await publish_surely(self._link, WORK, again)
        await delivery.ack()

    async def _work_on(self, run_id: str, message: DataMessage) -> Envelope:
        """The event that says how it went."""
        since = time.monotonic()
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._scratch, prefix="data-"))
        try:
            raw, out = folder / "raw", folder / "out"
            raw.mkdir()
            out.mkdir()
            await self._transfers.fetch_files(message, raw)
            prepared = await self._prepare(message, raw, out)
            return await self._store(run_id, message, prepared)
        except PrepareFailed as failed:
            return self._failed(run_id, message, failed.verdict, failed.output)
        except HeldTooLong:
            raise
        except MessageError as error:
            verdict = _verdict(FailureKind.REJECTED, Culprit.PUBLISHER, str(error))
            return self._failed(run_id, message, verdict)
        except (BrokerError, OSError) as error:
            verdict = _verdict(FailureKind.DATA, Culprit.INFRASTRUCTURE, str(error))
            return self._failed(run_id, message, verdict)
        except Exception as error:
            logger.exception(
                "the worker failed to prepare a data set",
                extra=self._ids("prepare_broken", run_id, message),
            )
            text = f"the worker failed to prepare the data set: {type(error).__name__}: {error}"
            verdict = _verdict(FailureKind.CRASHED, Culprit.INFRASTRUCTURE, text)
            return self._failed(run_id, message, verdict)
        finally:
            metrics.PREPARE_SECONDS.observe(time.monotonic() - since)
            # What cannot be removed goes with the worker's own folder.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(remove_tree, folder)

    async def _store(self, run_id: str, message: DataMessage, prepared: PreparedData) -> Envelope:
        parts = [await self._transfers.store(run_id, part) for part in prepared.parts]
        manifest = Manifest(
            name=message.name,
            target_column=message.target_column,
            workflow_elements=checked_workflow(message.workflow_elements, message.split),
            split=message.split,
            n_train=prepared.n_train,
            n_test=prepared.n_test,
            columns=prepared.columns,
            classes=None if prepared.classes is None else Array.of(prepared.classes),
            scoring=message.scoring,
            parts=tuple(parts),
        )
        ready = DataReady(
            message_id=run_id,
            worker=self._link.name,
            at=datetime.now(UTC),
            manifest=manifest,
            output=prepared.output,
        )
        metrics.DATASETS.labels(DatasetState.READY.value, "", "").inc()
        ids = self._ids("data_ready", run_id, message) | {"dataset": manifest.reference}
        logger.info("data set ready", extra=ids)
        return pack(ready, f"data.{message.name}", app_id=self._link.name)

    @property
    def _is_working(self) -> bool:
        return self._working is not None and not self._working.done()

    def _ids(self, action: str, run_id: str, message: DataMessage) -> dict[str, object]:
        return {
            "action": action,
            "run_id": run_id,
            "dataset": message.name,
            "worker": self._link.name,
        }

    def _failed(
        self, run_id: str, message: DataMessage, verdict: Verdict, output: Output = NOTHING_PRINTED
    ) -> Envelope:
        labels = metrics.verdict_labels(verdict)
        metrics.DATASETS.labels(DatasetState.FAILED.value, *labels).inc()
        kind, culprit = labels
        ids = self._ids("data_failed", run_id, message) | {"kind": kind, "culprit": culprit}
        logger.info("data set failed: %s", verdict.message, extra=ids)
        failed = DataFailed(
            message_id=run_id,
            name=message.name,
            worker=self._link.name,
            at=datetime.now(UTC),
            verdict=verdict,
            output=output,
        )
        return pack(failed, f"data.{message.name}", app_id=self._link.name)


def _attempt(delivery: Delivery) -> int:
    given = delivery.envelope.headers.get(ATTEMPT_HEADER)
    return given if isinstance(given, int) and given > 0 else 1


def _verdict(kind: FailureKind, culprit: Culprit, message: str) -> Verdict:
    return Verdict(phase=Phase.DATA, kind=kind, culprit=culprit, message=message)
