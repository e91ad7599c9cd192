"""`datarun demo`: the main job, end to end, on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datarun.cli.console import Json, print_json, stderr, stdout
from datarun.cli.options import Slots

if TYPE_CHECKING:
    from collections.abc import Callable

    from datarun.cli.submission_table import Row
    from producer.client import Client
    from producer.report import Submission

CV = 10
TIMEOUT_SECONDS = 300.0


def demo(
    home: Annotated[
        Path | None,
        typer.Option(
            help="Use this folder and leave it there; a temporary one unless given.",
            show_default=False,
        ),
    ] = None,
    slots: Slots = None,
    json: Json = False,
) -> None:
    """Run the main job on this machine, print a table of results, and leave nothing running.

    It starts a stack of its own, and publishes iris and digits.
    It trains and tests four submissions in 10-fold cross-validation; one fails on purpose.
    """
    from datarun.cli.isolation import with_isolation
    from datarun.cli.stack import tell_on_stderr
    from datarun.demo.stack import broker_of, temporary_stack
    from datarun.up.notices import Notice, NoticeKind
    from producer.client import Client
    from schemas.settings import load_settings

    signal.signal(signal.SIGTERM, exit_by_signal)
    signal.signal(signal.SIGHUP, exit_by_signal)
    began = time.monotonic()
    settings, level = with_isolation(load_settings(slots=slots), or_weaker=True)
    say = _silent if json else _say
    say(level)

    tell = tell_on_stderr()

    def listen(notice: Notice) -> None:
        # Nobody else needs to reach this stack.
        if not json and notice.kind is not NoticeKind.READY:
            tell(notice)

    try:
        with (
            temporary_stack(settings, home, listen) as place,
            Client(broker_of(place)) as client,
        ):
            rows = _run(client, say, quiet=json)
    finally:  # after Ctrl-C, too
        say(f"nothing is left running; that took {time.monotonic() - began:.0f} s")
    if json:
        from datarun.cli.submission_table import document

        print_json([document(row) for row in rows])
        return
    _print_next_steps()


def _run(client: Client, say: Callable[[str], None], *, quiet: bool) -> list[Row]:
    """Publish, submit, follow, acknowledge."""
    from datarun.cli.progress import Following
    from datarun.cli.submission_table import print_rows, row
    from datarun.demo.contents import DATASETS, SUBMISSIONS
    from schemas.datasets import HoldOut

    submissions: dict[str, Submission] = {}
    with (
        tempfile.TemporaryDirectory(prefix="datarun-demo-data-") as folder,
        Following(client, TIMEOUT_SECONDS, quiet=quiet) as following,
    ):
        for demo_set in DATASETS:
            dataset = client.publish_data(
                demo_set.name,
                files=demo_set.write(Path(folder)),
                target_column=demo_set.target_column,
                workflow_elements=demo_set.workflow_elements,
                split=HoldOut(0.2, random_state=42),
                timeout=TIMEOUT_SECONDS,
            )
            say(
                f"data set {dataset.name}: {dataset.n_train} rows to train on, "
                f"{dataset.n_test} to test on"
            )
            # Its folds run while the next data set is split.
            for item in SUBMISSIONS:
                if item.dataset == demo_set.name:
                    submissions[item.name] = client.submit(item.folder, dataset, cv=CV)
                    following.add(item.name, submissions[item.name])
        results = following.results()
    rows = [row(item.name, submissions[item.name], results[item.name]) for item in SUBMISSIONS]
    if not quiet:
        say("")
        print_rows(rows)
        say("")
    count = client.acknowledge([result for found in results.values() for result in found])
    left = sum(1 for _ in client.new_results(with_predictions=False))
    say(f"{count} results acknowledged; " + (f"{left} new" if left else "nothing is new any more"))
    return rows


def _print_next_steps() -> None:
    command = "datarun" if shutil.which("datarun") else os.path.relpath(sys.argv[0])
    steps = {
        f"{command} up --detach": "starts the same stack in this folder, to stay",
        f"{command} status": "shows what it does",
        "docs/quickstart.md": "your own data set and your own submission, in five minutes",
    }
    width = max(map(len, steps))
    stdout().print("\nTry next:")
    for step, meaning in steps.items():
        stdout().print(f"  {step:<{width}}  {meaning}", markup=False)


def _say(text: str) -> None:
    stderr().print(text, markup=False)


def _silent(text: str) -> None:
    """With --json: nothing but the table."""


def exit_by_signal(number: int, frame: object) -> None:  # noqa: ARG001
    """As Ctrl-C does, so that whatever was begun is wound up."""
    raise SystemExit(128 + number)
