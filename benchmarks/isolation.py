"""What isolation costs a trivial fold at each level, without RabbitMQ or a database.

    .venv/bin/python benchmarks/isolation.py [--folds 200] [--pause 0.02]

First one fold after the other in one slot, with a pause before each, so that its process has been
forked ahead: milliseconds from the job to the outcome, and CPU milliseconds of everything below the
worker. Then the same at once, without a pause: the fork is waited for. Then two slots without a
pause: folds a second, of trivial ones and of forests of 200 trees, which take more than 100 ms.
Levels take turns, so that the machine's drift falls on all. Run it as root and as an ordinary user:
what the sandbox does differs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_iris

sys.path.insert(0, str(Path(__file__).parents[1]))

from consumer.execution.executor import FoldExecutor
from consumer.jobs import FoldJob, ResolvedLimits
from consumer.parts import write_npy
from consumer.sandbox.levels import strict_obstacle
from datarun.doctor.examination import local_manifest
from schemas.states import Isolation

ROUNDS = 4
LIMITS = ResolvedLimits(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, processes=64)
DUMMY = b"from sklearn.dummy import DummyClassifier as Classifier\n"
FOREST = b"""
from sklearn.ensemble import RandomForestClassifier

class Classifier(RandomForestClassifier):
    def __init__(self):
        super().__init__(n_estimators=200, random_state=0)
"""
TRIVIAL_FOR_EACH_FOREST = 10


@dataclass
class Measured:
    """Of one level, over all rounds."""

    wall: list[float] = field(default_factory=list)
    """Milliseconds of each fold whose process was forked ahead."""

    at_once: list[float] = field(default_factory=list)
    """Milliseconds of each fold that had to wait for the fork."""

    cpu: list[float] = field(default_factory=list)
    """CPU milliseconds a fold, a number for each round."""

    throughput: list[float] = field(default_factory=list)
    """Folds a second in two slots, a number for each round."""

    forests: list[float] = field(default_factory=list)
    """The same of forests."""


def job(parts: Path, number: int, code: bytes = DUMMY) -> FoldJob:
    """Iris; by default by a classifier that does nothing."""
    manifest = local_manifest(75, columns=4, classes=3)
    rows = np.arange(60)
    return FoldJob(f"run-{number}", {"classifier.py": code}, manifest, parts, rows, LIMITS)


def cpu_below() -> dict[int, float]:
    """CPU seconds of each process below this one, with those of its dead children."""
    used = {}
    for process in psutil.Process().children(recursive=True):
        try:
            used[process.pid] = sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return used


async def one_by_one(executor: FoldExecutor, parts: Path, folds: int, pause: float) -> list[float]:
    """Milliseconds of each fold."""
    wall = []
    for number in range(folds):
        await asyncio.sleep(pause)
        began = time.perf_counter()
        outcome = await executor.run(0, job(parts, number), lambda *_: None)
        wall.append((time.perf_counter() - began) * 1000)
        if outcome.verdict is not None:
            raise RuntimeError(outcome.verdict.message)
    return wall


async def measure(folds: int, pause: float) -> dict[Isolation, Measured]:
    """Every level that this host allows, in turn."""
    levels = [Isolation.NONE, Isolation.PROCESS]
    if (obstacle := strict_obstacle()) is None:
        levels.append(Isolation.STRICT)
    else:
        print(f"strict is left out: {obstacle}", file=sys.stderr)
    results = {level: Measured() for level in levels}
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder) / "parts"
        parts.mkdir()
        x, y = load_iris(return_X_y=True)
        for name, array in (("X_train", x[::2]), ("X_test", x[1::2]), ("y_train", y[::2])):
            write_npy(parts / f"{name}.npy", array)
        for _ in range(ROUNDS):
            for level in levels:
                await one_round(level, results[level], parts, folds // ROUNDS, pause)
    return results


async def one_round(
    level: Isolation, result: Measured, parts: Path, folds: int, pause: float
) -> None:
    """Adds what one executor of this level does."""
    with tempfile.TemporaryDirectory() as scratch:
        executor = FoldExecutor(
            slots=2, isolation=level, threads_per_slot=1, scratch=Path(scratch) / "scratch"
        )
        try:
            await executor.start()
            await one_by_one(executor, parts, 3, pause)
            before = cpu_below()
            result.wall += await one_by_one(executor, parts, folds, pause)
            after = cpu_below()
            spent = sum(after[pid] - before[pid] for pid in after if pid in before)
            result.cpu.append(spent * 1000 / folds)
            result.at_once += await one_by_one(executor, parts, folds, 0.0)

            async def slot(number: int, count: int, code: bytes) -> None:
                for fold in range(count):
                    await executor.run(number, job(parts, fold, code), lambda *_: None)

            async def folds_a_second(count: int, code: bytes) -> float:
                began = time.perf_counter()
                await asyncio.gather(slot(0, count, code), slot(1, count, code))
                return 2 * count / (time.perf_counter() - began)

            result.throughput.append(await folds_a_second(folds, DUMMY))
            few = max(1, folds // TRIVIAL_FOR_EACH_FOREST)
            result.forests.append(await folds_a_second(few, FOREST))
        finally:
            await executor.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.02)
    arguments = parser.parse_args()
    results = asyncio.run(measure(arguments.folds, arguments.pause))
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    table = Table(title=f"a trivial fold, as {who}; {arguments.folds} folds a level")
    headers = (
        "level",
        "ahead: wall ms",
        "p95",
        "at once: wall ms",
        "p95",
        "CPU ms",
        "folds/s in 2",
        "forests/s",
    )
    for header in headers:
        table.add_column(header, justify="left" if header == "level" else "right")
    for level, result in results.items():
        table.add_row(
            level,
            f"{statistics.median(result.wall):.1f}",
            f"{statistics.quantiles(result.wall, n=20)[-1]:.1f}",
            f"{statistics.median(result.at_once):.1f}",
            f"{statistics.quantiles(result.at_once, n=20)[-1]:.1f}",
            f"{statistics.median(result.cpu):.1f}",
            f"{statistics.median(result.throughput):.0f}",
            f"{statistics.median(result.forests):.1f}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
