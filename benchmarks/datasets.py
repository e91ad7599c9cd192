"""How fast a part of a data set goes to where it is kept, and comes back.

    .venv/bin/python benchmarks/datasets.py [--megabytes 500] [--repeat 3]

Streams of a private node; a folder; an S3 server (rclone's) on this machine. A part of random
bytes, SHA-256 computed on both sides, written to a file by the reader. `two readers` are processes
that read the same part at the same time: the rate is that of both together.
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
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.blob_store import BlobStore
from broker.link import Link
from broker.object_store import ObjectStore
from broker.private_node import PrivateNode
from broker.setup import declare_topology
from schemas.states import Visibility
from schemas.topology import topology
from tests.support.s3 import S3Server

PUBLIC = Visibility.PUBLIC
Place = tuple[str, str | None]
"""URL of RabbitMQ, and of the object store if that has the parts."""


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
        root = Path(folder) / "folder"
        root.mkdir()
        s3 = S3Server(Path(folder) / "s3")
        os.environ.update(s3.environment)
        s3.start()
        try:
            with PrivateNode(Path(folder) / "node") as node:
                asyncio.run(declare(node.amqp_url))
                rates = {
                    "streams": measured((node.amqp_url, None), source, arguments.repeat),
                    "file://": measured(("", f"file://{root}"), source, arguments.repeat),
                    "s3://": measured(("", s3.url), source, arguments.repeat),
                }
                print_rates(rates, arguments.megabytes, node_megabytes(before))
        finally:
            s3.kill()


def opened(place: Place) -> BlobStore:
    """As a service has it."""
    url, store = place
    return BlobStore(url, ObjectStore(store) if store else None)


def measured(place: Place, source: Path, repeat: int) -> dict[str, list[float]]:
    """MB/s of each way, `repeat` times, one after the other."""
    rates: dict[str, list[float]] = {"published": [], "fetched": [], "two readers": []}
    megabytes = source.stat().st_size / 1e6
    targets = [source.with_suffix(f".read{number}") for number in range(2)]
    blobs = opened(place)
    spawn = multiprocessing.get_context("spawn")
    for _ in range(repeat):
        blob = blobs.new()
        began = time.perf_counter()
        with source.open("rb") as stream:
            size, sha256 = blobs.write(PUBLIC, blob, stream)
        rates["published"].append(megabytes / (time.perf_counter() - began))
        for name, some in (("fetched", targets[:1]), ("two readers", targets)):
            ready, go = spawn.Barrier(len(some) + 1), spawn.Barrier(len(some) + 1)
            readers = [
                spawn.Process(target=read, args=(place, blob, target, size, sha256, ready, go))
                for target in some
            ]
            for reader in readers:
                reader.start()
            # A worker has its modules, too, when a data set comes.
            ready.wait()
            began = time.perf_counter()
            go.wait()
            for reader in readers:
                reader.join()
            rates[name].append(len(readers) * megabytes / (time.perf_counter() - began))
            assert all(reader.exitcode == 0 for reader in readers)
        blobs.delete(PUBLIC, blob)
    return rates


def read(
    place: Place, blob: str, target: Path, size: int, sha256: str, ready: Barrier, go: Barrier
) -> None:
    """Fetch a part into a file, as a worker does."""
    blobs = opened(place)
    ready.wait()
    go.wait()
    with target.open("wb") as stream:
        blobs.read(PUBLIC, blob, stream, size=size, sha256=sha256)


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


def print_rates(rates: dict[str, dict[str, list[float]]], megabytes: int, node: float) -> None:
    """The table."""
    table = Table(title=f"{megabytes} MB; the node has {node:.0f} MB resident afterwards")
    for name in ("kept in", "", "median MB/s", "slowest", "fastest"):
        table.add_column(name, justify="left" if name in ("", "kept in") else "right")
    for place, ways in rates.items():
        for way, values in ways.items():
            numbers = (statistics.median(values), min(values), max(values))
            table.add_row(place, way, *(f"{number:.0f}" for number in numbers))
    Console().print(table)


if __name__ == "__main__":
    main()
