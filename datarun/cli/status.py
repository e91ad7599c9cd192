"""`datarun status`: queues, workers, how many folds stand where, and the REST address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datarun.cli.console import Json, ago, print_json, state_text, stdout, table
from schemas.states import Role
from schemas.topology import CONTROL_STREAM

if TYPE_CHECKING:
    from broker.blocking import QueueDepth
    from schemas.requests import StatusReply


def status(json: Json = False) -> None:
    """Show queues with their depths, workers, what these run, and how many folds stand where.

    And where the gateway of this stack answers; with --json, also a user of it and his password.
    """
    from datarun.cli.connected import connected
    from schemas.settings import load_settings
    from schemas.topology import topology

    with connected() as client:
        reply = client.status()
        pools = dict.fromkeys([*load_settings().pools, *sorted(reply.pools)])
        found = client.queue_depths([queue.name for queue in topology(tuple(pools)).queues])
    depths = {name: depth for name, depth in found.items() if depth is not None}
    if json:
        queues = {
            name: {"messages": depth.messages, "consumers": depth.consumers}
            for name, depth in depths.items()
        }
        print_json({"queues": queues, **reply.model_dump(mode="json"), "gateway": _gateway()})
        return
    _print(depths, reply)
    if (gateway := _gateway()) and (url := gateway.get("url")):
        # The password is for --json alone: screens are looked at by others, too.
        stdout().print(f"REST: {url}, described at {url}docs", markup=False, soft_wrap=True)


def _gateway() -> dict[str, str] | None:
    """The REST address of the stack that runs here, with a user; None where none is known."""
    from schemas.settings import find_home, load_settings, read_connection

    home = find_home()
    if home is None or load_settings().broker is not None:
        return None
    return read_connection(home).get("gateway")


def _print(depths: dict[str, QueueDepth], reply: StatusReply) -> None:
    console = stdout()
    console.print(
        table(
            ("queue", "messages", "consumers"),
            # The control stream keeps what it has told workers: nothing of it waits for anybody.
            [
                (name, depth.messages, depth.consumers)
                for name, depth in depths.items()
                if name != CONTROL_STREAM
            ],
            right=("messages", "consumers"),
        )
    )
    console.print()
    workers = [
        (
            f"{worker.worker}" + (" (stopping)" if worker.stopping else ""),
            worker.role,
            worker.pool,
            f"{len(worker.running)} of {worker.slots}",
            ", ".join(
                f"{fold.submission_fold_id} since {ago(fold.since)}" for fold in worker.running
            ),
        )
        for worker in reply.workers
    ]
    console.print(
        table(("worker", "role", "pool", "slots busy", "running folds"), workers)
        if workers
        else "No worker is alive: folds wait until `datarun worker` is started somewhere."
    )
    served = {worker.pool for worker in reply.workers if worker.role is Role.FOLDS}
    for pool, count in sorted(reply.pools.items()):
        if workers and pool not in served:
            console.print(
                f"pool {pool}: {count} {'fold waits' if count == 1 else 'folds wait'}, "
                f"and there is no worker; "
                f"`datarun worker --pool {pool}` starts one",
                style="yellow",
                markup=False,
            )
    console.print()
    for title, counts in (("folds", reply.folds), ("data sets", reply.datasets)):
        known = {state: count for state, count in counts.items() if count}
        console.print(f"{title}:", end=" ")
        for state, count in known.items():
            console.print(state_text(state), count, end="  ")
        console.print("" if known else "none")
    console.print(
        f"new results: {reply.new}; verdicts not yet published: {reply.outbox}; "
        f"database: {reply.database}"
    )
    if reply.ignored_events:
        console.print(
            f"events ignored: {reply.ignored_events}; reports that came twice or late, of runs "
            "that had their verdict, were cancelled or replaced, or are not known. No verdict "
            "depends on them"
        )
