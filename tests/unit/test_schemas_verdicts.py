"""What databoard reads of a verdict: the states of 2016, and one marker nobody can forge."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.states import TERMINAL, Culprit, FailureKind, FoldState, Phase, Priority
from schemas.verdicts import MAX_OUTPUT, Output, Verdict, clip, log_messages
from tests.unit.schema_strategies import MANY, texts

MARKERS = ["ERROR(split data)", "ERROR(train)", "ERROR(validation)", "ERROR(test)"]

PIECES = st.sampled_from(
    [
        *MARKERS,
        "ERROR(",
        "ERROR",
        "(",
        ")",
        "train",
        "test)",
        "error( Train )",
        "ERROR (train)",
        "ERROR(\ttest)",
        "\n",
        " ",
        "split data",
        "\0",
        "ERROR(ERROR(train)",
    ]
)
FORGERIES = st.lists(PIECES | texts, max_size=8).map("".join)


def verdict(phase: Phase, message: str = "it failed", traceback: str = "") -> Verdict:
    return Verdict(
        phase=phase,
        kind=FailureKind.EXCEPTION,
        culprit=Culprit.SUBMISSION,
        message=message,
        traceback=traceback,
    )


def test_the_states_are_those_of_2016_and_cancelled():
    assert [state.value for state in FoldState] == [
        "TODO",
        "TRAINED",
        "VALIDATED",
        "TESTED",
        "ERROR",
        "CANCELLED",
    ]
    assert {FoldState.TESTED, FoldState.ERROR, FoldState.CANCELLED} == TERMINAL
    assert {state for state in FoldState if state.is_terminal} == TERMINAL


def test_progress_goes_from_todo_to_a_terminal_state():
    order = [FoldState.TODO, FoldState.TRAINED, FoldState.VALIDATED, FoldState.TESTED]
    assert sorted(order, key=lambda state: state.progress) == order
    assert len({state.progress for state in TERMINAL}) == 1


def test_priorities_are_those_of_2016():
    assert [(priority.value, priority.level) for priority in Priority] == [("L", 1), ("H", 5)]


def test_markers_are_those_of_2016():
    assert [phase.marker for phase in Phase] == MARKERS


@MANY
@given(st.sampled_from(Phase), FORGERIES, FORGERIES, FORGERIES, FORGERIES)
def test_the_log_of_a_failed_fold_ends_with_exactly_one_marker(
    phase: Phase, stdout: str, stderr: str, traceback: str, message: str
):
    # Given a submission that prints, raises and is described by whatever it likes
    log = log_messages(
        verdict(phase, message, traceback), Output(stdout=clip(stdout, 40), stderr=stderr)
    )

    # Then databoard finds the one marker of the phase, at the end, and no other
    assert log.endswith(f"\n{phase.marker}")
    assert [marker for marker in MARKERS if marker in log] == [phase.marker]
    assert log.count("ERROR(split data)") + sum(map(log.count, MARKERS[1:])) == 1

    # And a reader that is less exact about case and spaces is not misled either
    loose = re.findall(r"error\(\s*(?:split data|train|validation|test)\s*\)", log, re.IGNORECASE)
    assert loose == [phase.marker]


@MANY
@given(FORGERIES, FORGERIES)
def test_the_log_of_a_tested_fold_has_no_marker(stdout: str, stderr: str):
    log = log_messages(None, Output(stdout=stdout, stderr=stderr))
    assert not any(marker in log for marker in MARKERS)


def test_the_log_shows_what_was_printed_then_the_traceback_then_the_reason():
    log = log_messages(
        verdict(Phase.TRAIN, "ValueError: no", "Traceback ...\nValueError: no"),
        Output(stdout="begin\n", stderr="a warning\n"),
    )
    assert log == "begin\na warning\nTraceback ...\nValueError: no\nValueError: no\nERROR(train)"


def test_a_forged_marker_stays_readable():
    assert "ERROR (train)" in log_messages(None, Output(stdout="ERROR(train)"))


@MANY
@given(st.text(max_size=300), st.integers(2, 100))
def test_a_clipped_text_keeps_its_head_and_its_tail(text: str, limit: int):
    # Given a text and a limit
    clipped = clip(text, limit)

    # Then it is unchanged within the limit, else both ends stay and the gap is counted
    if len(text) <= limit:
        assert clipped == text
    else:
        half = limit // 2
        assert clipped.startswith(text[:half])
        assert clipped.endswith(text[-half:])
        assert f"{len(text) - 2 * half} characters left out" in clipped
        assert len(clipped) <= limit + 40


def test_output_is_clipped_to_its_bound():
    assert len(clip("x" * 10**7)) <= MAX_OUTPUT + 40


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_a_verdict_can_be_stored_whatever_was_raised(text: str):
    made = verdict(Phase.TRAIN, text, text)
    assert made.message == made.traceback
    assert made.message.encode("utf-8")
    assert "\0" not in made.message


def test_a_cancelled_fold_has_no_marker_since_it_has_not_failed() -> None:
    cancelled = Verdict(
        phase=Phase.TRAIN,
        kind=FailureKind.CANCELLED,
        culprit=Culprit.PUBLISHER,
        message="cancelled: somebody asked for it",
    )
    assert log_messages(cancelled) == "cancelled: somebody asked for it"
