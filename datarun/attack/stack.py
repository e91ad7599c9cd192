"""Attacks on a whole stack: published, run by its worker, their results stored."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from datarun.attack.ground import Ended
from datarun.attack.honest import NEIGHBOUR
from datarun.attack.planted import NAME, TARGET, attackers_rows, write_csv
from datarun.attack.traces import Traces, traces_of
from datarun.demo.stack import broker_of, temporary_stack
from datarun.up.home import Connection, Home
from datarun.up.notices import Listener
from producer.client import Client
from producer.fold_messages import Dataset
from schemas.datasets import HoldOut
from schemas.messages import Limits
from schemas.settings import Settings
from schemas.states import FoldState, Isolation
from schemas.topology import DEAD_LETTERS_QUEUE, folds_queue

SLOTS = 2
"""One for attacks, one for the neighbour."""

_WORKER = "folds worker"
_PATIENCE = 60.0
"""Seconds after its wall limit within which a fold's verdict has to be stored."""

_NEIGHBOURS_FOLD = 1


class StackGround:
    """As `Ground` has it; the worker is a stack's own."""

    def __init__(self, home: Home, client: Client, dataset: Dataset, isolation: Isolation) -> None:
        self.isolation = isolation
        self._home = home
        self._client = client
        self._dataset = dataset
        self._ids = itertools.count(_NEIGHBOURS_FOLD)
        self._publish(NEIGHBOUR, Limits(wall_seconds=3600), every_row=True)
        deadline = time.monotonic() + _PATIENCE
        # Before anything else comes, or it would have to wait for the slot.
        while not self._neighbour_is(FoldState.TODO, with_worker=True):
            if time.monotonic() > deadline:
                raise TimeoutError("the neighbour's fold was not started")
            time.sleep(0.1)

    def run(self, files: Mapping[str, str], limits: Limits, *, all_labels: bool = False) -> Ended:
        fold = self._publish(files, limits, every_row=all_labels)
        timeout = (limits.wall_seconds or 0) + _PATIENCE
        (result,) = self._client.follow([fold], timeout=timeout)
        stored = [
            one
            for one in self._client.new_results(with_predictions=False)
            if one.submission_fold_id == fold
        ]
        self._client.acknowledge(stored)
        return Ended(
            results=len(stored),
            state=result.state,
            verdict=result.verdict,
            output=result.log_messages,
            predictions=(result.full_train_predictions, result.test_predictions),
            cpu=result.train_cpu_time,
            memory=result.train_memory,
        )

    def traces(self) -> Traces:
        connection = Connection.read(self._home)
        depths = self._client.queue_depths((folds_queue("default"), DEAD_LETTERS_QUEUE))
        return traces_of(
            connection.pids.get(_WORKER, 0),
            [self._home.folder / "scratch"],
            {
                **dict.fromkeys(_queues(connection), 0),
                **{name: depth.messages for name, depth in depths.items() if depth is not None},
            },
        )

    def neighbour_lives(self) -> bool:
        return self._neighbour_is(FoldState.TODO)

    def _neighbour_is(self, state: FoldState, *, with_worker: bool = False) -> bool:
        (fold,) = self._client.folds([_NEIGHBOURS_FOLD])
        return fold.state is state and (fold.worker is not None or not with_worker)

    def _publish(self, files: Mapping[str, str], limits: Limits, *, every_row: bool) -> int:
        fold = next(self._ids)
        rows = np.arange(self._dataset.n_train)
        self._client.publish_fold(
            submission_fold_id=fold,
            submission_id=fold,
            dataset=self._dataset,
            files={name: text.encode() for name, text in files.items()},
            train_is=rows if every_row else attackers_rows(self._dataset.n_train),
            test_is=rows[4::5],
            limits=limits,
        )
        return fold


@contextmanager
def attacked_stack(
    settings: Settings, isolation: Isolation, listen: Listener
) -> Iterator[StackGround]:
    """A temporary stack with the planted data set, and a neighbour at work; gone afterwards."""
    own = settings.model_copy(update={"slots": SLOTS})
    with temporary_stack(own, None, listen) as home, Client(broker_of(home)) as client:
        with tempfile.TemporaryDirectory(prefix="datarun-attack-") as folder:
            dataset = client.publish_data(
                NAME,
                files=write_csv(Path(folder)),
                target_column=TARGET,
                workflow_elements="regressor",
                split=HoldOut(1 / 3, random_state=0),
                timeout=_PATIENCE,
            )
        try:
            yield StackGround(home, client, dataset, isolation)
        finally:
            client.cancel([_NEIGHBOURS_FOLD])


def _queues(connection: Connection) -> list[str]:
    """Names of all queues of the private node."""
    if connection.management is None:
        return []
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    passwords.add_password(
        None,
        connection.management,
        connection.user or "",
        connection.password or "",
        is_authenticated=True,
    )
    # No proxy: the node is on this machine.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
    )
    with opener.open(f"{connection.management.rstrip('/')}/api/queues", timeout=20) as answer:
        return [row["name"] for row in json.load(answer)]
