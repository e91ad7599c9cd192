"""`datarun folds list | show | cancel`: folds as they stand, and no more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from datarun.cli.console import (
    NOTHING,
    Json,
    ago,
    kilobytes,
    print_json,
    score,
    seconds,
    state_text,
    stdout,
    table,
)
from schemas.states import DatasetState, FoldState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from producer.client import Client
    from schemas.requests import FoldRecord, FoldSummary

app = typer.Typer(help="See how folds stand, and cancel them.", no_args_is_help=True)

ARRAYS = {"classes", "full_train_predictions", "test_predictions"}
"""Fields of a result that are not for reading."""

MOST_NAMED = 20
"""Ids that a person is shown; --json has them all."""


@app.command("list")
def list_all(
    submission: Annotated[
        int | None, typer.Option(help="Only folds of this submission.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only folds of this data set.", show_default=False)
    ] = None,
    state: Annotated[
        FoldState | None,
        typer.Option(help="Only folds in this state.", case_sensitive=False, show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many folds, the last ones.")] = 100,
    json: Json = False,
) -> None:
    """List folds in the order of their ids; those allotted last come last."""
    from datarun.cli.connected import connected
    from schemas.errors import RequestError

    with connected() as client:
        folds, count = client.last_folds(
            limit, submission_id=submission, dataset=dataset, state=state
        )
        running = _running(client, folds)
        if not folds and dataset is not None and not client.datasets(dataset):
            raise RequestError(f"there is no data set {dataset!r}; `datarun data list` lists all")
    if json:
        print_json(
            [{**fold.model_dump(mode="json"), "running": fold.run_id in running} for fold in folds]
        )
        return
    from schemas.datasets import DatasetReference

    if not folds:
        stdout().print("There are no such folds.")
        return
    rows = [
        (
            fold.submission_fold_id,
            fold.submission_id,
            fold.submission_name,
            DatasetReference.parse(fold.dataset).name,
            _state(fold, running),
            "new" if fold.new else "",
            fold.priority,
            ago(fold.published_at),
        )
        for fold in folds
    ]
    stdout().print(
        table(
            ("fold", "submission", "name", "data set", "state", "", "priority", "published"),
            rows,
            right=("fold", "submission"),
        )
    )
    if count > len(folds):
        stdout().print(f"These are the last {len(folds)} of {count}: see --limit.")


@app.command()
def show(
    fold_id: Annotated[int, typer.Argument(metavar="ID", min=0, help="The fold's id.")],
    json: Json = False,
) -> None:
    """Show one fold: its state, its verdict, its scores, what it used and what it printed."""
    from datarun.cli.connected import TIMEOUT_SECONDS, connected
    from schemas.errors import RequestError

    with connected() as client:
        folds = list(client.folds([fold_id]))
        if not folds:
            raise RequestError(f"there is no fold {fold_id}; `datarun folds list` lists all")
        stored = (
            list(client.follow([fold_id], timeout=TIMEOUT_SECONDS, with_predictions=False))
            if folds[0].state.is_terminal
            else []
        )
        waits = _data_set_waited_for(client, folds[0])
    fold = folds[0]
    record = stored[0].record if stored else None
    if json:
        document = fold.model_dump(mode="json")
        if record is not None:
            document |= record.model_dump(mode="json", exclude=ARRAYS)
        print_json(document)
        return
    console = stdout()
    console.print(state_text(fold.state), end=" ")
    called = f" ({fold.submission_name})" if fold.submission_name else ""
    console.print(
        f"fold {fold_id} of submission {fold.submission_id}{called} on {fold.dataset}",
        markup=False,
    )
    if record is None:
        console.print(waits or f"worker: {fold.worker or NOTHING}", markup=False)
        return
    _print_record(record)


@app.command()
def cancel(
    fold_ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", min=0, help="The folds' ids.")
    ] = None,
    submission: Annotated[
        int | None,
        typer.Option(min=0, help="All folds of this submission.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Stop folds that run, and never start those that wait; those that have ended stay so.

    The exit status is 1 when there is no fold of some id.
    """
    from datarun.cli.connected import connected
    from schemas.errors import RequestError

    if bool(fold_ids) == (submission is not None):
        raise typer.BadParameter("give the ids of folds, or --submission")
    with connected() as client:
        found = list(client.folds(fold_ids, submission_id=submission))
        if submission is not None and not found:
            raise RequestError(f"there is no submission {submission}")
        count = client.cancel(f.submission_fold_id for f in found if not f.state.is_terminal)
        # One may have ended of itself meanwhile: that is known only afterwards.
        before = {fold.submission_fold_id for fold in found if fold.state.is_terminal}
        ended = [
            fold.submission_fold_id
            for fold in client.folds(fold.submission_fold_id for fold in found)
            if fold.submission_fold_id in before or fold.state is not FoldState.CANCELLED
        ]
    unknown = sorted(set(fold_ids or ()) - {fold.submission_fold_id for fold in found})
    if json:
        print_json({"cancelled": count, "ended": ended, "unknown": unknown})
    else:
        stdout().print(f"{count} cancelled")
        for ids, what in ((ended, "had ended already"), (unknown, "unknown")):
            if ids:
                stdout().print(f"{len(ids)} {what}: {_named(ids)}")
    if unknown:
        raise typer.Exit(1)


def _named(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return ", ".join(map(str, ids[:MOST_NAMED])) + more


def _running(client: Client, folds: Sequence[FoldSummary]) -> set[str]:
    """Those of the folds' runs that some worker works on, by its last heartbeat."""
    if all(fold.state.is_terminal for fold in folds):
        return set()
    heard = {run.run_id for worker in client.status().workers for run in worker.running}
    # A heartbeat may be a moment older than a verdict.
    return {fold.run_id for fold in folds if not fold.state.is_terminal} & heard


def _state(fold: FoldSummary, running: set[str]) -> Text:
    text = state_text(fold.state)
    return text.append(" (running)") if fold.run_id in running else text


def _data_set_waited_for(client: Client, fold: FoldSummary) -> str | None:
    """Why no worker can begin the fold; None when its data set is ready, or has begun."""
    from schemas.datasets import DatasetReference

    if fold.state is not FoldState.TODO:
        return None
    name = DatasetReference.parse(fold.dataset).name
    states = [record.state for record in client.datasets(name)]
    if not states:
        return f"waits for data set {name!r}, which nobody has published"
    if DatasetState.READY in states:
        return None
    fate = "is not ready yet" if DatasetState.TODO in states else "could not be prepared"
    return f"waits for data set {name!r}, which {fate}"


def _print_record(record: FoldRecord) -> None:
    console = stdout()
    if record.verdict is not None:
        verdict = record.verdict
        console.print(
            f"{verdict.message} ({verdict.kind}, fault of: {verdict.culprit})",
            style="red",
            markup=False,
        )
    for title, scores in (("validation", record.valid_scores), ("test", record.test_scores)):
        for name, value in scores.items():
            console.print(f"{title} {name}: {score(value)}", markup=False)
    used = record.measurements
    console.print(
        f"train {seconds(used.train_time)} ({seconds(used.train_cpu_time)} of CPU), "
        f"validation {seconds(used.validation_time)}, test {seconds(used.test_time)}, "
        f"memory {kilobytes(used.test_memory or used.train_memory)}"
    )
    text = record.log_messages
    if record.verdict is not None:
        # It ends with what the verdict above has said; what was printed may say the same.
        marker = record.verdict.phase.marker
        said = f"{record.verdict.message}\n{marker}"
        text = text.removesuffix(said) + marker if text.endswith(said) else text
    if text:
        console.print(text, style="dim", markup=False)
