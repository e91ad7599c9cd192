"""`datarun results new | ack`: verdicts that nobody has taken note of yet."""

from __future__ import annotations

from typing import Annotated

import typer

from datarun.cli.console import (
    Json,
    print_json,
    score,
    state_text,
    stdout,
    table,
)
from datarun.cli.folds import ARRAYS
from datarun.cli.score_columns import print_scorers, score_headers, scorers_of
from schemas.states import FailureKind
from schemas.verdicts import Verdict

app = typer.Typer(help="See the results that are new, and acknowledge them.", no_args_is_help=True)


@app.command()
def new(
    dataset: Annotated[
        str | None, typer.Option(help="Only results on this data set.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """List the results that nobody has acknowledged; it changes nothing."""
    from datarun.cli.connected import connected
    from schemas.datasets import DatasetReference

    with connected() as client:
        records = [result.record for result in client.new_results(dataset, with_predictions=False)]
    if json:
        print_json([record.model_dump(mode="json", exclude=ARRAYS) for record in records])
        return
    if not records:
        stdout().print("Nothing is new.")
        return
    rows = [
        (
            record.submission_fold_id,
            record.submission_id,
            record.submission_name,
            DatasetReference.parse(record.dataset).name,
            state_text(record.state),
            score(next(iter(record.valid_scores.values()), None)),
            score(next(iter(record.test_scores.values()), None)),
            _failure(record.verdict),
        )
        for record in records
    ]
    scorers = [scorers_of([record]) for record in records]
    scores = score_headers(scorers, "valid")
    headers = ("fold", "submission", "name", "data set", "state", *scores, "failure")
    stdout().print(table(headers, rows, right=("fold", "submission", *scores)))
    print_scorers(stdout(), scorers)


@app.command()
def ack(
    fold_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID]...", help="The ids of folds that have ended."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", metavar="", help="Acknowledge everything that is new.")
    ] = False,
    json: Json = False,
) -> None:
    """Acknowledge results: they are no longer new."""
    from datarun.cli.connected import TIMEOUT_SECONDS, connected
    from schemas.errors import RequestError

    if bool(fold_ids) == everything:
        raise typer.BadParameter("give the ids of folds, or --all")
    with connected() as client:
        if fold_ids:
            unended = [
                fold_id
                for fold_id in fold_ids
                if not any(fold.state.is_terminal for fold in client.folds([fold_id]))
            ]
            if unended:
                raise RequestError(f"there is no result of fold {', '.join(map(str, unended))}")
            results = client.follow(fold_ids, timeout=TIMEOUT_SECONDS, with_predictions=False)
        else:
            results = client.new_results(with_predictions=False)
        count = client.acknowledge(results)
    if json:
        print_json({"acknowledged": count})
    else:
        stdout().print(f"{count} acknowledged")


def _failure(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    # A fold that was cancelled or refused may never have begun: it ended in no phase.
    if verdict.kind in {FailureKind.CANCELLED, FailureKind.REJECTED}:
        return str(verdict.kind)
    return f"{verdict.phase}: {verdict.kind}"
