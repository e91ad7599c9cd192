"""Many clients posting folds at once over REST: answer times, and that none is lost or doubled.

    .venv/bin/python benchmarks/gateway.py [--clients 200] [--folds 5]

Every client has a submission of its own and posts its folds one after the other, each on a new
connection, as `post_api` does: the first with the submission's file, the others without. The stack
is `datarun up` with two slots, which trains and tests the folds meanwhile on the same cores. An
answer's time is that from before the connection is opened until its last byte.

Not lost, not doubled: every fold is answered with 201, is seen in exactly one message on the
exchange that workers are fed from, and ends TESTED; and no event of a second attempt came.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.stack import RunningStack, running_stack
from broker.blocking import BlockingLink
from broker.subscription import Interrupted, Subscription
from datarun import Client, post_api
from datarun.demo.datasets import write_iris
from schemas.settings import read_connection
from schemas.topology import WORK

SLOTS = 2
TIMEOUT = 600
N_TRAIN = 75

CODE = """
from sklearn.dummy import DummyClassifier

class Classifier(DummyClassifier):
    pass
"""


@dataclass(frozen=True)
class Gateway:
    """Where it is, and who asks."""

    url: str
    username: str
    password: str

    @property
    def login(self) -> tuple[str, str, str]:
        """The first arguments of `post_api`'s functions."""
        return (self.url, self.username, self.password)


@dataclass(frozen=True)
class Answer:
    """What a POST came to."""

    status: int
    seconds: float


async def post(gateway: Gateway, call: str, body: dict[str, Any]) -> Answer:
    """One POST on a connection of its own. No library, whose cost would be measured as well."""
    address = urlsplit(gateway.url)
    content = json.dumps(body).encode()
    login = base64.b64encode(f"{gateway.username}:{gateway.password}".encode()).decode()
    head = (
        f"POST /runapp/{call} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        f"Authorization: Basic {login}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.encode() + content)
    answer = await reader.read()
    seconds = time.perf_counter() - start
    writer.close()
    return Answer(int(answer.split(b" ", 2)[1]), seconds)


async def client(gateway: Gateway, number: int, folds: int, raw_data_id: int) -> list[Answer]:
    """Post the folds of one submission, one after the other."""
    rows = np.arange(N_TRAIN)
    answers = []
    for fold in range(folds):
        test_is = rows[fold::folds] if folds > 1 else rows[:15]
        body: dict[str, Any] = {
            "databoard_s_id": number,
            "databoard_sf_id": number * folds + fold,
            "train_is": np.setdiff1d(rows, test_is).tolist(),
            "test_is": test_is.tolist(),
            "priority": "L",
        }
        if fold == 0:
            body |= {"raw_data": raw_data_id, "files": {"classifier.py": CODE}}
        answers.append(await post(gateway, "submissionfold/", body))
    return answers


async def all_clients(gateway: Gateway, clients: int, folds: int, raw_data_id: int) -> list[Answer]:
    """All at once."""
    lists = await asyncio.gather(
        *(client(gateway, number, folds, raw_data_id) for number in range(clients))
    )
    return [answer for answers in lists for answer in answers]


def split_iris(gateway: Gateway, folder: Path) -> int:
    """The id of a data set that folds can run on."""
    registered = post_api.post_data(
        *gateway.login, "iris", "species", "classifier", write_iris(folder)
    )
    registered.raise_for_status()
    raw_data_id = int(registered.json()["id"])
    post_api.post_split(*gateway.login, 0.5, raw_data_id).raise_for_status()
    until(
        lambda: post_api.get_raw_data(*gateway.login).json()[0]["state"] == "READY",
        "the data set is not split",
    )
    return raw_data_id


@contextmanager
def published_folds(stack: RunningStack) -> Iterator[Subscription]:
    """Every fold message that is published while this lasts."""
    with (
        BlockingLink(stack.admin_url, "benchmark", 30) as link,
        link.subscribe(WORK, ["folds.#"], deadline=30) as published,
    ):
        yield published


def messages_by_fold(published: Subscription) -> Counter[int]:
    """How many messages there were for each fold; call when no more will come."""
    count: Counter[int] = Counter()
    while (envelope := published.next(1)) is not None:
        if isinstance(envelope, Interrupted):
            raise SystemExit("the subscription was interrupted: messages cannot be counted")
        count[json.loads(envelope.body)["submission_fold_id"]] += 1
    return count


def until(holds: Callable[[], bool], otherwise: str) -> None:
    """Wait until it holds; end the program after TIMEOUT seconds."""
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"{otherwise} within {TIMEOUT} s")
        time.sleep(0.5)


def measure(stack: RunningStack, folder: Path, clients: int, folds: int) -> Table:
    """A table of one run; ends the program when a fold was lost or doubled."""
    gateway = Gateway(**read_connection(stack.home)["gateway"])
    raw_data_id = split_iris(gateway, folder)
    ids = set(range(clients * folds))
    with Client(stack.broker_url) as asking, published_folds(stack) as published:
        start = time.perf_counter()
        answers = asyncio.run(all_clients(gateway, clients, folds, raw_data_id))
        posted = time.perf_counter() - start
        until(lambda: asking.status().folds.get("TESTED", 0) >= len(ids), "not all are tested")
        tested = time.perf_counter() - start
        ignored = asking.status().ignored_events
        messages = messages_by_fold(published)
    states = {
        fold["databoard_sf_id"]: fold["state"]
        for fold in post_api.get_submission_fold_light(*gateway.login).json()
    }
    refused = [answer.status for answer in answers if answer.status != 201]
    if refused or messages != Counter(ids) or states != dict.fromkeys(ids, "TESTED") or ignored:
        raise SystemExit(
            f"answers other than 201: {Counter(refused)}; "
            f"folds without a message: {len(ids - set(messages))}; "
            f"with several: {[fold for fold, count in messages.items() if count > 1]}; "
            f"states: {Counter(states.values())}; events of second attempts: {ignored}"
        )
    times = np.array([answer.seconds for answer in answers])
    table = Table(title=f"{clients} clients, {folds} folds each; none lost, none doubled")
    cells = {
        "folds": f"{len(ids)}",
        "p50 s": f"{np.percentile(times, 50):.3f}",
        "p99 s": f"{np.percentile(times, 99):.3f}",
        "slowest s": f"{times.max():.3f}",
        "answers/s": f"{len(ids) / posted:.0f}",
        "all tested after s": f"{tested:.1f}",
    }
    for heading in cells:
        table.add_column(heading, justify="right")
    table.add_row(*cells.values())
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--folds", type=int, default=5, help="of each client")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder), SLOTS) as stack:
        table = measure(stack, Path(folder), arguments.clients, arguments.folds)
    Console().print(table)


if __name__ == "__main__":
    main()
