"""A fold's job as the bytes that its process gets: the labels of `train_is`, and no others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from consumer.execution.fold_task import FoldTask
from consumer.execution.frames import HEADER, FrameKind
from consumer.jobs import FoldJob, part_filename
from consumer.parts import Layout, layout_of, map_npy
from schemas.datasets import Custom, workflow_elements


def job_frame(job: FoldJob, folder: Path, threads: int) -> bytes:
    """The JOB frame. KeyError or OSError when a part of the data set is missing.

    The labels are sliced here, in the worker: what a process never had, it cannot show.
    """
    manifest = job.manifest
    custom = isinstance(manifest.split, Custom)
    organiser = {
        part.name: (job.folder / part_filename(part.name, part.format)).read_bytes()
        for part in manifest.parts
        if part.format == "file"
    }
    task = FoldTask(
        seed=int.from_bytes(hashlib.sha256(job.run_id.encode()).digest()[:4], "little"),
        threads=threads,
        folder=str(folder),
        cpu_seconds=job.limits.cpu_seconds,
        memory_bytes=job.limits.memory_bytes,
        processes=job.limits.processes,
        submission=dict(job.files),
        elements=workflow_elements(manifest.workflow_elements),
        custom_file=manifest.split.file if isinstance(manifest.split, Custom) else None,
        organiser=organiser if custom else {},
        x_layouts=_x_layouts(job),
        columns=manifest.columns,
        classes=manifest.classes.to_numpy() if manifest.classes else None,
        n_train=manifest.n_train,
        train_is=job.train_is,
        y=map_npy(job.folder / part_filename("y_train", "npy"))[job.train_is],
    )
    body = task.to_bytes()
    return HEADER.pack(FrameKind.JOB, len(body)) + body


def job_size(job: FoldJob) -> int:
    """About how many bytes `job_frame` works on."""
    y = job.folder / part_filename("y_train", "npy")
    return job.train_is.nbytes + sum(map(len, job.files.values())) + y.stat().st_size


def x_paths(job: FoldJob) -> tuple[Path, Path]:
    """The files of X for training and for testing."""
    part_format = _x_format(job)
    train, test = (job.folder / part_filename(name, part_format) for name in ("X_train", "X_test"))
    return train, test


def _x_layouts(job: FoldJob) -> tuple[Layout, Layout] | None:
    if _x_format(job) == "pickle":
        return None
    train, test = x_paths(job)
    return layout_of(train), layout_of(test)


def _x_format(job: FoldJob) -> Literal["npy", "pickle"]:
    part_format = job.manifest.part("X_train").format
    if part_format == "file":
        raise ValueError("X_train is of format file")
    return part_format
