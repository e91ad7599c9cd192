"""`Client`: publish data sets and folds, follow them, acknowledge their results."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from broker.blocking import BlockingLink, QueueDepth
from producer.arguments import built, fold_ids
from producer.collector import Collector
from producer.data_publication import DataPublication, Progress
from producer.files import FilesArgument, folder_name, submission_files
from producer.fold_messages import Dataset, FoldMessages
from producer.following import Follower
from producer.report import Report, Submission
from producer.results import Result
from schemas.datasets import Split
from schemas.errors import DatarunError, PublishError
from schemas.messages import FoldMessage, Limits
from schemas.requests import DatasetRecord, FoldsRequest, FoldSummary, StatusReply
from schemas.settings import broker_url
from schemas.states import FoldState, Priority
from schemas.topology import WORK, folds_key
from schemas.wire import Envelope, pack

APP_ID = "datarun-client"
HOUR = 3600.0


class Client:
    """A synchronous client, for any number of threads; closed with `close` or `with`.

    Errors are DatarunError (see `datarun.errors`), and TimeoutError where something was waited
    for. What is published survives the client: it is stored by the broker when the call returns.
    """

    def __init__(
        self, url: str | None = None, *, timeout: float = 30, name: str | None = None
    ) -> None:
        """Connect to RabbitMQ.

        url: `amqp://user:password@host/vhost` (`amqps://` for TLS); None: DATARUN_BROKER or the
        settings file, else the nearest `.datarun/connection.toml` from here upwards.
        timeout: seconds that connecting, a confirm, or one answer of the collector may take.
        name: what the management console shows.

        Raises ConfigurationError and BrokerUnreachable.
        """
        self._url = broker_url(url)
        self._timeout = timeout
        name = name or f"datarun client on {socket.gethostname()}, pid {os.getpid()}"
        self._link = BlockingLink(self._url, name, timeout)
        self._collector = Collector(self._link, timeout)
        self._folds = FoldMessages(self._link, self._collector, timeout)
        self._follower = Follower(self._link, self._collector, timeout)

    def publish_data(
        self,
        name: str,
        *,
        files: FilesArgument,
        target_column: str | None = None,
        workflow_elements: str,
        split: Split,
        scoring: Iterable[str] = (),
        uploader: str | None = None,
        timeout: float = HOUR,
        on_progress: Progress | None = None,
    ) -> Dataset:
        """Upload a data set and wait until it is split into a version that folds can use.

        files: paths, a folder, or name -> content; for `HoldOut`, one CSV file.
        workflow_elements: what a submission consists of: `"feature_extractor, classifier"`.
        split: `HoldOut(0.5, random_state=42)` or `Custom("specific.py")`, one of the files.
        scoring: scikit-learn scorer names; accuracy or RMSE when empty.
        on_progress: called with bytes uploaded and bytes to upload; the last time, also where files
        are small, when all is sent and the data set is about to be split.

        Raises DataError with the verdict when it cannot be split, TimeoutError after `timeout`
        seconds, MessageError and FileError for what is refused before anything is sent.
        """
        publication = DataPublication(self._link, self._collector, self._url, APP_ID, self._timeout)
        dataset = publication.run(
            name=name,
            files=files,
            target_column=target_column,
            workflow_elements=workflow_elements,
            split=split,
            scoring=tuple(scoring),
            uploader=uploader,
            timeout=timeout,
            on_progress=on_progress,
        )
        self._folds.remember(dataset)
        return dataset

    def publish_fold(
        self,
        *,
        submission_fold_id: SupportsIndex,
        submission_id: SupportsIndex,
        dataset: str | Dataset,
        files: FilesArgument,
        train_is: npt.ArrayLike,
        test_is: npt.ArrayLike,
        priority: str | Priority = Priority.L,
        pool: str = "default",
        limits: Limits | Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        submission_name: str | None = None,
        force: bool = False,
        uploader: str | None = None,
    ) -> str:
        """Publish one fold; return its run id once the broker has confirmed.

        dataset: a `Dataset`, a name (its newest version) or `name@version`.
        files: paths, a folder, or name -> content; at most 8 MiB together.
        train_is, test_is: row numbers of the training data, of shape (n_rows,).
        submission_name: what people call the submission; tables show it beside the id.
        force: run again a fold that was already run; the new run replaces the former one. Without
        it, a fold that has a run already keeps it: the new run is rejected, and `follow` gives the
        verdict of the former.

        Raises MessageError (a ValueError) that names what is wrong, TopologyError for a pool that
        does not exist, PublishError and BrokerUnreachable.
        """
        fold = {
            "submission_fold_id": submission_fold_id,
            "submission_id": submission_id,
            "dataset": dataset,
            "files": files,
            "train_is": train_is,
            "test_is": test_is,
            "priority": priority,
            "pool": pool,
            "limits": limits,
            "params": params,
            "submission_name": submission_name,
            "force": force,
            "uploader": uploader,
        }
        envelope = self._packed(fold)
        self._link.publish(WORK, envelope, deadline=self._timeout)
        return envelope.run_id

    def publish_folds(self, folds: Iterable[FoldMessage | Mapping[str, Any]]) -> list[str]:
        """Publish many folds, with many confirms under way; return their run ids in order.

        folds: FoldMessages, or mappings with the arguments of `publish_fold`.

        Raises as `publish_fold`; the error says how many folds before it are published.
        """
        run_ids: list[str] = []
        refused: list[DatarunError] = []

        def envelopes() -> Iterator[tuple[str, Envelope]]:
            for fold in folds:
                try:
                    yield WORK, self._packed(fold)
                except DatarunError as error:
                    # What is under way is confirmed first.
                    refused.append(error)
                    return

        try:
            for envelope in self._link.publish_many(envelopes(), deadline=self._timeout):
                run_ids.append(envelope.run_id)
        except PublishError as error:
            raise PublishError(f"{error} ({len(run_ids)} folds before it are published)") from error
        if refused:
            refused[0].add_note(f"{len(run_ids)} folds before this one are published")
            raise refused[0]
        return run_ids

    def follow(
        self, ids: Iterable[SupportsIndex], *, timeout: float = HOUR, with_predictions: bool = True
    ) -> Iterator[Result]:
        """Yield each fold's stored verdict as it comes, those that are there already first.

        ids: submission_fold_ids. Ends when all have their verdict; after `timeout` seconds,
        TimeoutError names those that have none.
        """
        return self._follower.follow(fold_ids(ids), timeout, with_predictions=with_predictions)

    def new_results(
        self,
        dataset: str | Dataset | None = None,
        *,
        follow: bool = False,
        timeout: float = float("inf"),
        with_predictions: bool = True,
    ) -> Iterator[Result]:
        """Yield every result that nobody has acknowledged, also of folds published by others.

        dataset: only of the data set of that name. Ends when all are seen; with `follow`, goes on
        with what becomes new, for `timeout` seconds.
        """
        name = dataset.name if isinstance(dataset, Dataset) else dataset
        if follow:
            return self._follower.follow_new_results(
                name, timeout, with_predictions=with_predictions
            )
        return self._follower.new_results(name, with_predictions=with_predictions)

    def cross_validate(
        self,
        files: FilesArgument,
        dataset: str | Dataset,
        *,
        cv: int = 10,
        priority: str | Priority = Priority.L,
        random_state: int = 42,
        pool: str = "default",
        limits: Limits | Mapping[str, Any] | None = None,
        name: str | None = None,
        timeout: float = HOUR,
        on_result: Callable[[Result], None] | None = None,
    ) -> Report:
        """Train and test a submission on `cv` folds and wait for all verdicts.

        As `submit`; `on_result` is called with each verdict as it comes. Raises what `submit` and
        `follow` raise.
        """
        submission = self.submit(
            files,
            dataset,
            cv=cv,
            priority=priority,
            random_state=random_state,
            pool=pool,
            limits=limits,
            name=name,
        )
        results = []
        for result in self.follow(submission.fold_ids, timeout=timeout):
            results.append(result)
            if on_result is not None:
                on_result(result)
        results.sort(key=lambda result: result.submission_fold_id)
        return Report(submission.submission_id, submission.dataset, tuple(results))

    def submit(
        self,
        files: FilesArgument,
        dataset: str | Dataset,
        *,
        cv: int = 10,
        priority: str | Priority = Priority.L,
        random_state: int = 42,
        pool: str = "default",
        limits: Limits | Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> Submission:
        """Publish the `cv` folds of a submission's cross-validation, without waiting for them.

        The collector allots unused ids and cuts the folds: shuffled with `random_state`, and
        stratified when the data set has classes. `name` is what tables call the submission; that of
        the folder, or of the only file, unless given. Warns (UserWarning) of a file such as
        `calibrator.py` when the workflow has no such element. Raises RequestError when the data
        set is not ready, MessageError when a file of its workflow is missing, and what
        `publish_fold` raises.
        """
        encoded = submission_files(files)
        called = name or folder_name(files)
        cut = self._collector.cut_folds(str(dataset), cv, random_state)
        self._folds.check_files(cut.dataset, encoded)
        self._folds.warn_of_unused(cut.dataset, encoded, stacklevel=2)
        rows = np.arange(cut.n_train)
        self.publish_folds(
            {
                "submission_fold_id": fold.submission_fold_id,
                "submission_id": cut.submission_id,
                "dataset": cut.dataset,
                "files": encoded,
                "train_is": np.delete(rows, fold.test_is.to_numpy()),
                "test_is": fold.test_is.to_numpy(),
                "priority": priority,
                "pool": pool,
                "limits": limits,
                "submission_name": called,
            }
            for fold in cut.folds
        )
        allotted = tuple(fold.submission_fold_id for fold in cut.folds)
        return Submission(cut.submission_id, cut.dataset, allotted)

    def acknowledge(self, results: Iterable[Result]) -> int:
        """Acknowledge many results at once; committed when this returns. How many were new."""
        acknowledged = list(results)
        count = self._collector.acknowledge(result.run_id for result in acknowledged)
        for result in acknowledged:
            result.new = False
        return count

    def cancel(self, ids: Iterable[SupportsIndex]) -> int:
        """Stop these folds, or never start them; return how many had not ended yet."""
        return self._collector.cancel(fold_ids(ids))

    def datasets(self, name: str | None = None) -> tuple[DatasetRecord, ...]:
        """What is known of the data set of that name, or of all."""
        return self._collector.datasets(name)

    def folds(
        self,
        ids: Iterable[SupportsIndex] | None = None,
        *,
        submission_id: int | None = None,
        dataset: str | None = None,
        state: FoldState | None = None,
        limit: int | None = None,
    ) -> Iterator[FoldSummary]:
        """Folds as they stand, in the order of their ids, without results; at most `limit`."""
        request = built(
            FoldsRequest,
            submission_fold_ids=None if ids is None else tuple(fold_ids(ids)),
            submission_id=submission_id,
            dataset=dataset,
            state=state,
            limit=1000,
        )
        return self._collector.folds(request, limit)

    def last_folds(
        self,
        most: int,
        *,
        submission_id: int | None = None,
        dataset: str | None = None,
        state: FoldState | None = None,
    ) -> tuple[list[FoldSummary], int]:
        """The `most` folds with the greatest ids, in the order of their ids; how many there are."""
        request = built(
            FoldsRequest, submission_id=submission_id, dataset=dataset, state=state, limit=1000
        )
        return self._collector.last_folds(request, most)

    def status(self) -> StatusReply:
        """Folds and data sets by state, and the workers that are alive."""
        return self._collector.status()

    def queue_depths(self, queues: Iterable[str]) -> dict[str, QueueDepth | None]:
        """Messages and consumers of each queue; None where there is no such queue."""
        return {queue: self._link.queue_depth(queue, deadline=self._timeout) for queue in queues}

    def close(self) -> None:
        """Close the connection. Can be called twice."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _packed(self, fold: FoldMessage | Mapping[str, Any]) -> Envelope:
        message = self._folds.build(fold)
        return pack(message, folds_key(message.pool), app_id=APP_ID)
