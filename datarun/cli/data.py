"""`datarun data publish | list | show`: data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datarun.cli.arguments import as_typed
from datarun.cli.console import (
    VERSION,
    Json,
    ago,
    print_json,
    state_text,
    stderr,
    stdout,
    table,
)
from schemas.states import DatasetState

if TYPE_CHECKING:
    from schemas.requests import DatasetRecord

MOST_NAMES = 12
"""Classes or columns that a person is shown; --json has them all."""

app = typer.Typer(help="Publish data sets, and see what became of them.", no_args_is_help=True)


@app.command()
def publish(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="1 to 40 of letters, digits, `_` and `-`.")
    ],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES...", help="One CSV file, or all files of a custom data set."),
    ],
    workflow: Annotated[
        str,
        typer.Option(
            help="What a submission consists of, such as `feature_extractor, classifier`."
        ),
    ] = "classifier",
    target: Annotated[
        str | None,
        typer.Option(help="The CSV file's column to predict.", show_default=False),
    ] = None,
    held_out_test: Annotated[
        float, typer.Option(help="The share of rows that is kept for testing.")
    ] = 0.2,
    random_state: Annotated[int, typer.Option(help="The seed of the split.")] = 42,
    custom: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Split with this python file, one of the files given, in place of a held-out "
            "share. It defines prepare_data, get_train_data, get_test_data, train_submission "
            "and test_submission.",
            show_default=False,
        ),
    ] = None,
    scoring: Annotated[
        list[str] | None,
        typer.Option(
            help="A scikit-learn scorer; repeat it for several. "
            "Accuracy or RMSE when none is given.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait until the data set is split.")
    ] = 600,
    json: Json = False,
) -> None:
    """Publish a data set, and wait until it is split into a training and a test part."""
    from datarun.cli.connected import connected
    from schemas.datasets import Custom, HoldOut
    from schemas.errors import MessageError

    try:
        split = (
            Custom(custom)
            if custom
            else HoldOut(held_out_test=held_out_test, random_state=random_state)
        )
    except MessageError as error:
        raise typer.BadParameter(as_typed(str(error))) from error
    was_told = False

    def tell(sent: int, total: int) -> None:
        nonlocal was_told
        if sent == total and not was_told:
            was_told = True
            stderr().print(f"{name} is published, and is being split", markup=False)

    with connected() as client:
        dataset = client.publish_data(
            name,
            files=files,
            target_column=target,
            workflow_elements=workflow,
            split=split,
            scoring=scoring or (),
            timeout=timeout,
            on_progress=None if json else tell,
        )
    classes = None if dataset.classes is None else [str(label) for label in dataset.classes]
    if json:
        print_json(
            {
                "name": dataset.name,
                "version": dataset.version,
                "n_train": dataset.n_train,
                "n_test": dataset.n_test,
                "classes": classes,
            }
        )
        return
    stdout().print(
        f"{dataset.name}@{dataset.version} is ready: {dataset.n_train} rows to train on, "
        f"{dataset.n_test} to test on"
        + (f", {len(classes)} classes" if classes is not None else ""),
        markup=False,
    )


@app.command("list")
def list_all(json: Json = False) -> None:
    """List all data sets, with the newest version of each."""
    from datarun.cli.connected import connected

    with connected() as client:
        records = client.datasets()
    if json:
        print_json([_document(record) for record in records])
        return
    rows = [
        (
            record.name,
            record.version,
            state_text(record.state),
            record.workflow_elements,
            record.n_train,
            record.n_test,
            ago(record.stored_at),
        )
        for record in records
    ]
    stdout().print(
        table(
            ("data set", VERSION, "state", "workflow", "train", "test", "since"),
            rows,
            right=("train", "test"),
        )
        if rows
        else "No data set is published yet: see `datarun data publish --help`."
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The data set's name.")], json: Json = False
) -> None:
    """Show one data set: its split, its classes, and why it failed if it did."""
    from datarun.cli.connected import connected
    from schemas.errors import RequestError

    with connected() as client:
        records = client.datasets(name)
    if not records:
        raise RequestError(f"there is no data set {name!r}; `datarun data list` lists all")
    record = records[0]
    # The newest version that is ready comes first; what failed since is not hidden by it.
    failed = next((later for later in records[1:] if later.state is DatasetState.FAILED), None)
    if json:
        print_json(_document(record) | {"failed_since": _document(failed) if failed else None})
        return
    _print(record)
    if failed is not None:
        stdout().print("\npublished again since, and failed:")
        _print(failed)


def _print(record: DatasetRecord) -> None:
    console = stdout()
    console.print(state_text(record.state), end=" ")
    console.print(f"{record.name}@{record.version or '-'}", markup=False)
    if record.verdict is not None:
        console.print(record.verdict.message, style="red", markup=False)
    facts = _document(record)
    for fact in ("workflow_elements", "target_column", "n_train", "n_test", "classes", "columns"):
        if facts[fact] is not None:
            console.print(f"{fact}: {_shown(facts[fact])}", markup=False)
    if record.log_messages:
        console.print(record.log_messages, style="dim", markup=False)


def _shown(fact: object) -> str:
    if not isinstance(fact, list):
        return str(fact)
    more = f", ... ({len(fact)})" if len(fact) > MOST_NAMES else ""
    return ", ".join(map(str, fact[:MOST_NAMES])) + more


def _document(record: DatasetRecord) -> dict[str, Any]:
    document = record.model_dump(mode="json", exclude={"classes", "manifest"})
    manifest = record.manifest
    document["classes"] = None if record.classes is None else record.classes.to_numpy().tolist()
    document["columns"] = list(manifest.columns) if manifest and manifest.columns else None
    return document
