"""How fast a part of a data set goes to RabbitMQ and comes back.

    .venv/bin/python benchmarks/datasets.py [--megabytes 500] [--repeat 3]

A private node of its own; a part of random bytes, SHA-256 computed on both sides, written to a file
by the reader. `two readers` are processes that read the same part at the same time: the rate is
that of both together.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.blobs import delete_blob, read_blob, write_blob
from broker.link import Link
from broker.private_node import PrivateNode
from broker.setup import declare_topology
from schemas.states import Visibility
from schemas.topology import topology

PUBLIC = Visibility.PUBLIC


def main() -> None:
    """Measure, and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    before = frozenset(psutil.pids())
    with tempfile.TemporaryDirectory(prefix="datarun-benchmark-") as folder:
        source = Path(folder) / "part"
        with source.open("wb") as stream:
            for _ in range(arguments.megabytes):
                stream.write(os.urandom(1_000_000))
        with PrivateNode(Path(folder) / "node") as node:
            asyncio.run(declare(node.amqp_url))
            rates = measured(node.amqp_url, source, arguments.repeat)
            print_rates(rates, arguments.megabytes, node_megabytes(before))


def measured(url: str, source: Path, repeat: int) -> dict[str, list[float]]:
    """MB/s of each way, `repeat` times, one after the other."""
    rates: dict[str, list[float]] = {"published": [], "fetched": [], "two readers": []}
    megabytes = source.stat().st_size / 1e6
    targets = [source.with_suffix(f".read{number}") for number in range(2)]
    for _ in range(repeat):
        blob = uuid.uuid4().hex
        began = time.perf_counter()
        with source.open("rb") as stream:
            size, sha256 = write_blob(url, PUBLIC, blob, stream)
        rates["published"].append(megabytes / (time.perf_counter() - began))
        for name, some in (("fetched", targets[:1]), ("two readers", targets)):
            readers = [
                multiprocessing.Process(target=read, args=(url, blob, target, size, sha256))
                for target in some
            ]
            began = time.perf_counter()
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join()
            rates[name].append(len(readers) * megabytes / (time.perf_counter() - began))
            assert all(reader.exitcode == 0 for reader in readers)
        delete_blob(url, PUBLIC, blob)
    return rates


def read(url: str, blob: str, target: Path, size: int, sha256: str) -> None:
    """Fetch a part into a file, as a worker does."""
    with target.open("wb") as stream:
        read_blob(url, PUBLIC, blob, stream, size=size, sha256=sha256)


async def declare(url: str) -> None:
    """What `datarun broker setup` declares."""
    async with Link(url, name="benchmark") as link:
        await declare_topology(link, topology())


def node_megabytes(before: frozenset[int]) -> float:
    """Resident memory of the node that was started after `before` was taken."""
    return sum(
        process.memory_info().rss / 1e6
        for process in psutil.process_iter()
        if process.pid not in before and process.name().startswith("beam")
    )


def print_rates(rates: dict[str, list[float]], megabytes: int, node: float) -> None:
    """The table."""
    table = Table(title=f"{megabytes} MB; the node has {node:.0f} MB resident afterwards")
    table.add_column("")
    for name in ("median MB/s", "slowest", "fastest"):
        table.add_column(name, justify="right")
    for name, values in rates.items():
        numbers = (statistics.median(values), min(values), max(values))
        table.add_row(name, *(f"{number:.0f}" for number in numbers))
    Console().print(table)


if __name__ == "__main__":
    main()
