"""The gateway's peak memory under bodies that are made to fill it, eight at a time.

    .venv/bin/python benchmarks/gateway_memory.py [--clients 8]

Each row is a gateway process of its own on SQLite, without RabbitMQ, and so many clients that send
one body each at the same moment:

- `bomb, no column`: 512 MiB of zeros in 700 kB of base64(zlib(...)), for a data set without a
  target column, which is refused
- `bomb`: the same with one, which is registered
- `200 MiB of text`: a data set of 200 MiB that nothing compresses
- `indices`: a fold whose train_is and test_is inflate to 128 MiB each
- `many ids`: five million ids in testpredictions/list/

The peak is the process's VmHWM (proc(5)), less what it is before the first of them.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.loopback_ports import free_ports
from storage.engine import open_engine, transaction, upgrade
from storage.users import UserRole, add_user

LOGIN = ("benchmark", "a password")


def bomb(size: int) -> str:
    """base64(zlib(zeros)), made without holding them."""
    squeezer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    packed = b"".join(squeezer.compress(piece) for _ in range(size >> 20)) + squeezer.flush()
    return base64.b64encode(packed).decode()


def data_set(number: int, content: str, column: str) -> bytes:
    """A body of rawdata/."""
    return json.dumps(
        {
            "name": f"data-{number}",
            "target_column": column,
            "workflow_elements": "classifier",
            "files": {"a.csv": content},
        }
    ).encode()


def fold(number: int, indices: str) -> bytes:
    """A body of submissionfold/."""
    ids = {"databoard_sf_id": number, "databoard_s_id": number, "raw_data": 1}
    files = {"classifier.py": "x = 1"}
    return json.dumps({**ids, "files": files, "train_is": indices, "test_is": indices}).encode()


def bodies() -> dict[str, tuple[str, Callable[[int], bytes]]]:
    """Name -> where it goes, and the body of each client."""
    zeros, indices = bomb(512 << 20), bomb(128 << 20)
    text = secrets.token_hex(100 << 20)
    ids = b'{"list_submission_fold": [' + b",".join([b"1"] * 5_000_000) + b"]}"
    return {
        "bomb, no column": ("rawdata/", lambda number: data_set(number, zeros, "")),
        "bomb": ("rawdata/", lambda number: data_set(number, zeros, "species")),
        "200 MiB of text": ("rawdata/", lambda number: data_set(number, text, "species")),
        "indices": ("submissionfold/", lambda number: fold(number, indices)),
        "many ids": ("testpredictions/list/", lambda _: ids),
    }


def high_water(pid: int) -> int:
    """Most memory it has had, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) >> 10


def measure(folder: Path, clients: int, path: str, body: Callable[[int], bytes]) -> list[str]:
    """Peak in MiB, seconds, and answers."""
    database = f"sqlite:///{folder / 'datarun.sqlite'}"
    engine = open_engine(database)
    upgrade(engine)
    with transaction(engine) as connection:
        add_user(connection, *LOGIN, UserRole.USER)
    engine.dispose()
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "DATARUN_DATABASE": database,
        "DATARUN_HOME": str(folder),
        "DATARUN_GATEWAY_PORT": str(port),
    }
    command = [sys.executable, "-m", "datarun", "gateway"]
    gateway = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        answers_yet = False
        while not answers_yet:
            try:
                answers_yet = requests.get(f"{url}/runapp/rawdata/", auth=LOGIN, timeout=60).ok
            except requests.ConnectionError:
                time.sleep(0.1)
        before = high_water(gateway.pid)

        def send(number: int) -> int:
            answer = requests.post(
                f"{url}/runapp/{path}", data=body(number), auth=LOGIN, timeout=600
            )
            return answer.status_code

        start = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            statuses = Counter(pool.map(send, range(clients)))
        seconds = time.perf_counter() - start
        peak = high_water(gateway.pid) - before
    finally:
        gateway.terminate()
        gateway.wait()
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return [f"{peak}", f"{seconds:.1f}", answers]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=8)
    clients = parser.parse_args().clients
    table = Table(title=f"{clients} bodies at a time")
    for heading in ("body", "MiB more", "seconds", "answers"):
        table.add_column(heading, justify="left" if heading in {"body", "answers"} else "right")
    for name, (path, body) in bodies().items():
        with tempfile.TemporaryDirectory() as folder:
            table.add_row(name, *measure(Path(folder), clients, path, body))
    Console().print(table)


if __name__ == "__main__":
    main()
