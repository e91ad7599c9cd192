"""Whether the services of a stack do their work, which is more than that their processes live."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.request
from collections.abc import Callable

from broker.blocking import BlockingLink
from broker.link import Link
from broker.setup import declare_topology
from schemas.errors import BrokerUnreachable, CollectorUnreachable, TopologyError
from schemas.requests import StatusReply, StatusRequest
from schemas.settings import Settings
from schemas.states import Role
from schemas.topology import COLLECTOR_QUEUE, topology

ANSWER_SECONDS = 5.0
QUICK_SECONDS = 1.0
"""For what would be good to know, and is not waited for."""


DECLARE_SECONDS = 60.0
"""For RabbitMQ to bring up the queues that it has; 3.10 can fail to bring up a stream."""

_LOOK_SECONDS = 0.1


def declare_shared_topology(
    url: str, settings: Settings, *, is_given_up: Callable[[], bool] = lambda: False
) -> None:
    """Declare exchanges, queues and bindings; those that exist are left as they stand.

    is_given_up: looked at now and then; when it says so, this returns, whatever stands. Raises
    TopologyError when RabbitMQ does not bring its queues up, and what `declare_topology` raises.
    """

    async def declare() -> None:
        async with Link(
            url, name="datarun setup", connect_timeout=settings.connect_timeout_seconds
        ) as link:
            await declare_topology(link, topology(settings.pools, settings.queue_type))

    async def watched() -> None:
        declaring = asyncio.create_task(declare())
        until = time.monotonic() + DECLARE_SECONDS + settings.connect_timeout_seconds
        while not declaring.done():
            await asyncio.wait({declaring}, timeout=_LOOK_SECONDS)
            is_late = time.monotonic() > until
            if not declaring.done() and (is_late or is_given_up()):
                declaring.cancel()
                await asyncio.wait({declaring})
                if is_late:
                    raise TopologyError(
                        f"RabbitMQ has not brought up its queues within {DECLARE_SECONDS:.0f} s; "
                        "its log says why. Restarting it may help, and loses no message; "
                        "docs/operations.md says what to do where it does not"
                    )
                return
        await declaring

    asyncio.run(watched())


def workers_heard(link: BlockingLink) -> set[int] | None:
    """Process ids of this host's workers from which the collector has heard; None: no answer.

    A worker sends its first heartbeat once it takes messages, which is when it is at work.
    """
    collectors = link.queue_depth(COLLECTOR_QUEUE, deadline=ANSWER_SECONDS)
    if collectors is None or collectors.consumers == 0:
        return None  # a question that expires would become a dead letter
    try:
        status = link.request(StatusRequest(), deadline=ANSWER_SECONDS)
    except CollectorUnreachable:
        return None
    assert isinstance(status, StatusReply)
    here = socket.gethostname()
    return {worker.pid for worker in status.workers if worker.host == here}


def folds_running(url: str, workers: set[int]) -> int | None:
    """How many folds this host's workers with these process ids run; None: not quickly known."""
    try:
        with BlockingLink(url, "datarun up", QUICK_SECONDS) as link:
            status = link.request(StatusRequest(), deadline=QUICK_SECONDS)
    except (CollectorUnreachable, BrokerUnreachable):
        return None
    assert isinstance(status, StatusReply)
    here = socket.gethostname()
    return sum(
        len(worker.running)
        for worker in status.workers
        if worker.host == here and worker.pid in workers and worker.role is Role.FOLDS
    )


def gateway_answers(url: str) -> bool:
    """Whether the gateway at this URL is at work."""
    # Not through a proxy that the environment names: it is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}health", timeout=QUICK_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def folds_that_run(count: int) -> str:
    """`1 fold is running`, `3 folds are running`."""
    return "1 fold is running" if count == 1 else f"{count} folds are running"
