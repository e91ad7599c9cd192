"""`datarun attack`: hostile submissions against a stack of its own."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datarun.cli.console import Json, print_json, seconds, stderr, stdout, table
from datarun.cli.demo import exit_by_signal
from datarun.cli.options import IsolationLevel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datarun.attack.attack import Attack
    from datarun.attack.runner import Report
    from datarun.attack.stack import StackGround
    from datarun.up.notices import Notice


def attack(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FAMILY|NAME",
            help="Run this attack, or those of this family, alone; repeat it for several.",
            show_default=False,
        ),
    ] = None,
    isolation: IsolationLevel = None,
    list_them: Annotated[
        bool,
        typer.Option("--list", metavar="", help="Print what there is to run, and run nothing."),
    ] = False,
    json: Json = False,
) -> None:
    """Run hostile submissions on this machine, and see whether anything comes of them.

    It starts a stack of its own, as `demo` does, and leaves nothing running.
    After each attack it looks at its verdict, at all that may be left of it, and at whether an
    honest fold still predicts and measures what it did before.
    The exit status is 1 when any attack comes to anything.
    """
    from datarun.attack.catalogue import selected

    attacks = selected(only or ())
    if list_them:
        _print_list(attacks, json=json)
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, exit_by_signal)
    began = time.monotonic()
    reports, level = _run(attacks, isolation, quiet=json)
    failed = [report for report in reports if not report.passed]
    if json:
        print_json(
            {
                "isolation": level,
                "seconds": round(time.monotonic() - began, 1),
                "failed": len(failed),
                "attacks": [_document(report) for report in reports],
            }
        )
    else:
        _print_reports(reports)
        stderr().print(f"nothing is left running; that took {time.monotonic() - began:.0f} s")
    if failed:
        raise typer.Exit(1)


def _run(attacks: Sequence[Attack], isolation: Any, *, quiet: bool) -> tuple[list[Report], str]:
    from datarun.attack.stack import attacked_stack
    from datarun.cli.isolation import with_isolation
    from datarun.cli.stack import tell_on_stderr
    from datarun.up.notices import NoticeKind
    from schemas.settings import load_settings

    settings, level = with_isolation(load_settings(isolation=isolation))
    assert settings.isolation is not None
    tell = tell_on_stderr()

    def listen(notice: Notice) -> None:
        if not quiet and notice.kind is not NoticeKind.READY:
            tell(notice)

    def say(text: str) -> None:
        if not quiet:
            stderr().print(text, markup=False)

    say(level)
    with attacked_stack(settings, settings.isolation, listen) as ground:
        return _attack_all(ground, attacks, quiet=quiet), settings.isolation


def _attack_all(ground: StackGround, attacks: Sequence[Attack], *, quiet: bool) -> list[Report]:
    """One after the other: a bar in a terminal, a line for each elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from datarun.attack.runner import Runner

    runner = Runner(ground)
    reports = []
    console = stderr()
    with Progress(
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("[red]{task.fields[note]}"),
        console=console,
        disable=quiet or not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=len(attacks), note="")
        for one in attacks:
            progress.update(task, description=one.name)
            report = runner.run(one)
            reports.append(report)
            failed = sum(not report.passed for report in reports)
            progress.update(task, advance=1, note=f"{failed} failed" if failed else "")
            if not quiet and (not console.is_terminal or not report.passed):
                line = f"{one.family}/{one.name}: {_word(report)}"
                console.print("; ".join([line, *report.problems]), markup=False)
    return reports


def _word(report: Report) -> str:
    if report.skipped:
        return f"skipped, {report.skipped}"
    return "passed" if report.passed else "FAILED"


def _print_reports(reports: Sequence[Report]) -> None:
    from rich.text import Text

    styles = {"passed": "green", "FAILED": "bold red"}
    console = stdout()
    rows = [
        (
            report.attack.family,
            report.attack.name,
            Text(_word(report), style=styles.get(_word(report), "yellow")),
            report.verdict or None,
            seconds(report.seconds),
        )
        for report in reports
    ]
    console.print(table(("family", "attack", "", "how it ended", "time"), rows, right=("time",)))
    for report in reports:
        for problem in report.problems:
            console.print(Text.assemble((report.attack.name, "bold"), ": ", (problem, "red")))
    ran = [report for report in reports if not report.skipped]
    failed = sum(not report.passed for report in ran)
    skipped = len(reports) - len(ran)
    console.print(
        f"{len(ran) - failed} of {len(ran)} attacks came to nothing"
        + (f"; {failed} did not" if failed else "")
        + (f"; {skipped} skipped" if skipped else "")
    )


def _print_list(attacks: Sequence[Attack], *, json: bool) -> None:
    if json:
        print_json([_attack_document(one) for one in attacks])
        return
    rows = [(one.family, one.name, one.what, one.ends) for one in attacks]
    stdout().print(table(("family", "attack", "what it does", "how it has to end"), rows))


def _attack_document(one: Attack) -> dict[str, Any]:
    return {
        "name": one.name,
        "family": one.family,
        "what": one.what,
        "expected": str(one.ends),
    }


def _document(report: Report) -> dict[str, Any]:
    return {
        **_attack_document(report.attack),
        "passed": report.passed and not report.skipped,
        "skipped": report.skipped or None,
        "problems": list(report.problems),
        "verdict": report.verdict or None,
        "seconds": round(report.seconds, 3),
    }
