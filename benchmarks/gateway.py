"""Many clients that post folds over REST at the same time: how long an answer takes, and whether
every fold runs once.

    .venv/bin/python benchmarks/gateway.py [--clients 200] [--folds 5]
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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.stack import running_stack
from datarun.demo.datasets import write_iris
from schemas.settings import read_connection
from schemas.states import TERMINAL

DUMMY = """
from sklearn.dummy import DummyClassifier

class Classifier:
    def fit(self, X, y):
        self.dummy = DummyClassifier().fit(X, y)

    def predict_proba(self, X):
        return self.dummy.predict_proba(X)
"""
WITHIN_SECONDS = 600.0


@dataclass(frozen=True)
class Gateway:
    """Where requests go."""

    host: str
    port: int
    login: str

    @classmethod
    def of(cls, connection: Mapping[str, str]) -> Gateway:
        """What connection.toml says of it."""
        parts = urlsplit(connection["url"])
        login = f"{connection['username']}:{connection['password']}"
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(parts.hostname, parts.port, base64.b64encode(login.encode()).decode())


class Connection:
    """One kept-alive connection. By hand: a client library would be what is measured."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(
            self._gateway.host, self._gateway.port
        )

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and document."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} /runapp/{path} HTTP/1.1\r\nHost: gateway\r\n"
            f"Authorization: Basic {self._gateway.login}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        self._writer.write(head.encode() + content)
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        answer = b""
        if "content-length" in headers:
            answer = await self._reader.readexactly(int(headers["content-length"]))
        else:
            while size := int(await self._reader.readline(), 16):
                answer += (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readline()
        return int(status.split()[1]), json.loads(answer)

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()


async def measure(gateway: Gateway, folder: Path, clients: int, folds: int) -> dict[str, Any]:
    """Post `clients` x `folds` folds, and wait for all verdicts."""
    first = Connection(gateway)
    await first.open()
    data = {
        "name": "iris",
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"iris.csv": write_iris(folder).read_text(encoding="utf-8")},
    }
    _, raw_data = await first.ask("POST", "rawdata/", data)
    await first.ask("POST", "rawdata/split/", {"raw_data_id": raw_data["id"], "held_out_test": 0.5})
    first.close()
    seconds: list[float] = []
    statuses: Counter[int] = Counter()

    async def client(number: int) -> None:
        line = Connection(gateway)
        await line.open()
        for fold in range(folds):
            body = {
                "databoard_sf_id": number * folds + fold + 1,
                "databoard_s_id": number + 1,
                "raw_data": raw_data["id"],
                "files": {"classifier.py": DUMMY},
                "train_is": np.arange(60).tolist(),
                "test_is": np.arange(60, 75).tolist(),
            }
            began = time.perf_counter()
            status, _ = await line.ask("POST", "submissionfold/", body)
            seconds.append(time.perf_counter() - began)
            statuses[status] += 1
        line.close()

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    posted = time.perf_counter() - began
    states = await _wait_for_verdicts(gateway, clients * folds)
    ended = time.perf_counter() - began
    p50, p99 = np.percentile(seconds, [50, 99])
    return {
        "clients": clients,
        "folds": clients * folds,
        "statuses": dict(statuses),
        "answers_per_second": round(len(seconds) / posted),
        "p50_ms": round(p50 * 1e3),
        "p99_ms": round(p99 * 1e3),
        "max_ms": round(max(seconds) * 1e3),
        "all_verdicts_after_s": round(ended, 1),
        "states": states,
    }


async def _wait_for_verdicts(gateway: Gateway, count: int) -> dict[str, int]:
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        line = Connection(gateway)
        await line.open()
        _, listed = await line.ask("GET", "submissionfold-light/")
        line.close()
        states = Counter(fold["state"] for fold in listed)
        if sum(states[state] for state in TERMINAL) == count:
            return dict(states)
        if time.monotonic() > deadline:
            raise SystemExit(f"after {WITHIN_SECONDS} s: {dict(states)}")
        await asyncio.sleep(0.2)


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--folds", type=int, default=5, help="posted by each client, in turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="datarun-benchmark-") as name:
        folder = Path(name)
        with running_stack(folder, slots=2) as stack:
            gateway = Gateway.of(read_connection(stack.home)["gateway"])
            report = asyncio.run(measure(gateway, folder, options.clients, options.folds))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
