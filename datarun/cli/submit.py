"""`datarun submit`: train and test a folder's submission in cross-validation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datarun.cli.console import Json, print_json, stderr, stdout
from schemas.states import Priority

if TYPE_CHECKING:
    from datarun.cli.submission_table import Row
    from producer.client import Client
    from producer.report import Submission


def submit(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="The folder with the submission's files, or its only file."
        ),
    ],
    dataset: Annotated[
        str, typer.Option(help="The data set's name, or name@version for an older version.")
    ],
    cv: Annotated[int, typer.Option(min=2, max=1000, help="The number of folds.")] = 10,
    priority: Annotated[
        Priority,
        typer.Option(help="H overtakes every fold that waits with L.", case_sensitive=False),
    ] = Priority.L,
    pool: Annotated[
        str, typer.Option(help="The pool of workers that takes the folds.")
    ] = "default",
    random_state: Annotated[int, typer.Option(help="The seed that cuts the folds.")] = 42,
    wall_seconds: Annotated[
        float | None,
        typer.Option(
            help="Wall-clock limit of a fold, in seconds. The workers decide unless given: "
            "1200, or their setting DATARUN_WALL_SECONDS.",
            show_default=False,
        ),
    ] = None,
    memory_bytes: Annotated[
        int | None,
        typer.Option(
            help="Memory limit of a fold. The workers decide unless given: their host's memory "
            "divided by their slots, or their setting DATARUN_MEMORY_BYTES.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            metavar="",
            help="Wait for all verdicts, and show the table. "
            "The exit status is 1 when any fold did not end TESTED.",
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most, with --wait.")] = 3600,
    json: Json = False,
) -> None:
    """Publish a submission's folds; they are run as soon as a worker has a free slot."""
    from datarun.cli.connected import connected
    from datarun.cli.submission_table import document, print_rows

    with connected() as client:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", UserWarning)
            submission = client.submit(
                folder,
                dataset,
                cv=cv,
                priority=priority,
                random_state=random_state,
                pool=pool,
                limits={"wall_seconds": wall_seconds, "memory_bytes": memory_bytes},
            )
        warned_of = [str(warning.message) for warning in warned]
        if not json:
            for sentence in warned_of:
                stderr().print(f"Warning: {sentence}", style="yellow", markup=False)
            # Of a command that waits, the table is the result.
            (stderr() if wait else stdout()).print(
                f"submission {submission.submission_id} on {submission.dataset}: "
                f"{len(submission.fold_ids)} folds published",
                markup=False,
            )
        line = None
        if wait:
            line = _waited_for(client, folder.resolve().name, submission, timeout, quiet=json)
    if json:
        published = {
            "submission_id": submission.submission_id,
            "dataset": submission.dataset,
            "submission_fold_ids": list(submission.fold_ids),
            "warnings": warned_of,
        }
        print_json(published | document(line) if line else published)
    elif line:
        print_rows([line])
    else:
        stderr().print(f"see `datarun folds list --submission {submission.submission_id}`")
    if line and line.tested < line.folds:
        raise typer.Exit(1)


def _waited_for(
    client: Client, name: str, submission: Submission, timeout: float, *, quiet: bool
) -> Row:
    from datarun.cli.progress import Following
    from datarun.cli.submission_table import row

    chosen = f"--submission {submission.submission_id}`"
    goes_on = (
        f"submission {submission.submission_id} goes on; `datarun folds list {chosen} shows it, "
        f"`datarun folds cancel {chosen} stops it"
    )
    try:
        with Following(client, timeout, quiet=quiet) as following:
            following.add(name, submission)
            results = following.results()[name]
    except TimeoutError as error:
        error.add_note(goes_on)
        raise
    except KeyboardInterrupt:
        stderr().print(goes_on, markup=False)
        raise
    return row(name, submission, results)
