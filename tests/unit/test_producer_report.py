"""What a person sees of a cross-validation."""

from __future__ import annotations

from producer.report import Report
from producer.results import Result
from schemas.states import FoldState
from tests.support.scripted_collector import a_record, a_verdict


def _report() -> Report:
    failed = a_record(
        3,
        state=FoldState.ERROR,
        verdict=a_verdict("ValueError: no"),
        valid_scores={},
        test_scores={},
        full_train_predictions=None,
        test_predictions=None,
    )
    records = (a_record(1), a_record(2), failed)
    return Report(5, "iris@0123", tuple(Result(record, lambda _: None) for record in records))


def test_the_frame_has_a_row_a_fold_with_scores_times_memory_and_verdict() -> None:
    frame = _report().to_frame()

    assert list(frame["submission_fold_id"]) == [1, 2, 3]
    assert list(frame["state"]) == ["TESTED", "TESTED", "ERROR"]
    assert list(frame["valid_accuracy"])[:2] == [0.501, 0.502]
    assert list(frame["train_time"])[:2] == [0.5, 0.5]
    assert list(frame["train_memory"])[:2] == [2048, 2048]
    assert frame["verdict"].iloc[2] == "ValueError: no"


def test_the_summary_counts_folds_averages_scores_and_says_why_some_failed() -> None:
    text = repr(_report())

    assert "submission 5 on iris@0123: 2 folds tested, 1 failed" in text
    assert "validation accuracy: 0.5015 ± 0.0005" in text
    assert "test accuracy: 0.7500 ± 0.0000" in text
    assert "fold 3 ERROR: ValueError: no" in text


def test_a_report_without_a_single_success_still_reads() -> None:
    report = _report()
    alone = Report(report.submission_id, report.dataset, report.failed)

    assert "0 folds tested, 1 failed" in str(alone)
    assert alone.valid_scores == {}
