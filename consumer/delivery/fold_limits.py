"""What a fold may use: the publisher's limits, the worker's defaults, RabbitMQ's own timer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from consumer.jobs import ResolvedLimits
from schemas.messages import Limits
from schemas.settings import Settings
from schemas.topology import QueueType, ServerVersion

DEFAULT_CONSUMER_TIMEOUT_SECONDS = 1800.0
"""RabbitMQ takes a delivery back after 30 minutes, unless its operator says otherwise."""

CONSUMER_TIMEOUT_MARGIN_SECONDS = 120.0
"""For fetching the data set, publishing the result and settling."""

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class FoldLimits:
    """The worker's defaults and the longest wall-clock time that fits the broker's timer."""

    defaults: ResolvedLimits
    threads_per_slot: int
    longest_seconds: float | None
    """None: the broker lets a delivery be held for as long as a fold takes."""

    dataset_wait_seconds: float

    @classmethod
    def of(
        cls, settings: Settings, server: ServerVersion, slots: int, threads_per_slot: int
    ) -> FoldLimits:
        """For a worker with `slots` slots on this machine, at that broker."""
        wall = settings.wall_seconds
        return cls(
            defaults=ResolvedLimits(
                wall_seconds=wall,
                cpu_seconds=settings.cpu_seconds or wall * threads_per_slot,
                memory_bytes=settings.memory_bytes or host_memory() // slots,
                processes=settings.processes,
            ),
            threads_per_slot=threads_per_slot,
            longest_seconds=longest_hold(settings, server),
            dataset_wait_seconds=settings.dataset_wait_seconds,
        )

    def resolve(self, asked: Limits) -> ResolvedLimits:
        """`asked`, with the defaults for what it leaves open."""
        wall = asked.wall_seconds or self.defaults.wall_seconds
        cpu = asked.cpu_seconds
        if cpu is None:
            cpu = self.defaults.cpu_seconds
            if asked.wall_seconds is not None:
                cpu = wall * self.threads_per_slot
        return ResolvedLimits(
            wall_seconds=wall,
            cpu_seconds=cpu,
            memory_bytes=asked.memory_bytes or self.defaults.memory_bytes,
            processes=asked.processes or self.defaults.processes,
        )

    def refusal(self, limits: ResolvedLimits) -> str | None:
        """Why a fold with these limits cannot be run here; None when it can."""
        if self.longest_seconds is None or limits.wall_seconds <= self.longest_seconds:
            return None
        return (
            f"limits: {limits.wall_seconds:.0f} s of wall-clock time do not fit into RabbitMQ's "
            f"consumer_timeout, which takes a fold away after "
            f"{DEFAULT_CONSUMER_TIMEOUT_SECONDS:.0f} s. Ask for at most "
            f"{self.longest_seconds:.0f} s; or raise consumer_timeout in rabbitmq.conf and set "
            "DATARUN_CONSUMER_TIMEOUT_RAISED=true for the workers"
        )


def longest_hold(settings: Settings, server: ServerVersion) -> float | None:
    """For how many seconds of work a delivery can be held; None without a bound that matters.

    From 4.0 the queues carry their own timer (or have none); 3.x has the server's alone.
    https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
    """
    kind: QueueType = settings.queue_type
    if (
        settings.consumer_timeout_raised
        or not server.has_consumer_timeout(kind)
        or server.consumer_timeout_per_queue(kind)
    ):
        return None
    return DEFAULT_CONSUMER_TIMEOUT_SECONDS - CONSUMER_TIMEOUT_MARGIN_SECONDS


def host_memory() -> int:
    """Bytes of memory that this machine, or the container around us, has."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in _CGROUP_LIMITS:
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):
            # Not this version of cgroups, or "max".
            continue
    return total
