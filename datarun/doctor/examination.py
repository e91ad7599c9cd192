"""Runs a whole strict fold that looks around, without RabbitMQ or a database."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from consumer.execution.executor import FoldExecutor
from consumer.jobs import FoldJob, FoldOutcome, ResolvedLimits
from consumer.parts import write_npy
from consumer.sandbox.cgroups import SlotGroup
from datarun.doctor.examiner import EXAMINER
from datarun.doctor.protections import Facts
from schemas.arrays import Array
from schemas.datasets import HoldOut, Manifest, Part
from schemas.errors import DatarunError
from schemas.states import Isolation, Visibility

_MARK = "EXAMINED "
_ROWS = 8
_LIMITS = ResolvedLimits(wall_seconds=60, cpu_seconds=60, memory_bytes=512 << 20, processes=64)


class ExaminationError(DatarunError):
    """The fold that was to look around did not end as it should."""


def examined() -> Facts:
    """What a strict fold sees on this host. Raises ExaminationError with the verdict."""
    with tempfile.TemporaryDirectory(prefix="datarun-doctor-") as folder:
        outcome = asyncio.run(_run(Path(folder)))
    if outcome.verdict is not None:
        raise ExaminationError(f"a strict fold fails on this host: {outcome.verdict.message}")
    facts: dict[str, Any] = json.loads(outcome.output.stdout.partition(_MARK)[2])
    return facts | {"control_groups": _control_groups()}


def _control_groups() -> tuple[str, ...]:
    """What this process may limit by groups of its own, as a slot's worker does."""
    group = SlotGroup.make()
    group.remove()
    return group.resources


async def _run(folder: Path) -> FoldOutcome:
    parts = folder / "parts"
    parts.mkdir()
    x = np.zeros((_ROWS, 2))
    y = np.arange(_ROWS) % 2
    for name, array in (("X_train", x), ("X_test", x), ("y_train", y)):
        write_npy(parts / f"{name}.npy", array)
    executor = FoldExecutor(
        slots=1, isolation=Isolation.STRICT, threads_per_slot=1, scratch=folder / "scratch"
    )
    try:
        await executor.start()
        return await executor.run(0, _job(parts), lambda *_: None)
    finally:
        await executor.close()


def local_manifest(rows: int, columns: int, classes: int) -> Manifest:
    """Of a data set whose parts are here already, `rows` for training and as many for testing."""
    return Manifest(
        name="local",
        target_column="y",
        workflow_elements="classifier",
        split=HoldOut(0.5),
        n_train=rows,
        n_test=rows,
        columns=tuple(f"x{number}" for number in range(columns)),
        classes=Array.of(np.arange(classes)),
        parts=tuple(
            Part(
                name=name,
                format="npy",
                visibility=Visibility.PUBLIC,
                size=1,
                sha256="0" * 64,
                blob=name,
            )
            for name in ("X_train", "X_test", "y_train")
        ),
    )


def _job(parts: Path) -> FoldJob:
    manifest = local_manifest(_ROWS, columns=2, classes=2)
    files = {"classifier.py": EXAMINER.encode()}
    return FoldJob("doctor", files, manifest, parts, np.arange(_ROWS), _LIMITS)
