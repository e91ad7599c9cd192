"""docs/submissions.md: every Python block is run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.datasets import load_diabetes

from datarun import HoldOut
from datarun.demo.datasets import write_iris
from schemas.states import FoldState
from tests.support.command import ROOT
from tests.support.stack import Stack, shared_stack

__all__ = ["shared_stack"]

PAGE = ROOT / "docs" / "submissions.md"
NAMED_BLOCK = re.compile(r"^<!-- file: (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITHIN = 90


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A folder with the page's files."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = NAMED_BLOCK.findall(text)
    assert len(blocks) == text.count("```python"), "a block without a name is run by nobody"
    for name, code in blocks:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("folder", "workflow"),
    [
        ("classifier", "classifier"),
        ("feature_extractor", "feature_extractor, classifier"),
        ("calibrator", "classifier, calibrator"),
    ],
)
def test_documented_classifier_learns_iris(
    shared_stack: Stack, examples: Path, folder: str, workflow: str
) -> None:
    # Given iris, for submissions of a workflow
    with shared_stack.client() as client:
        iris = client.publish_data(
            f"iris_{folder}",
            files=[write_iris(examples)],
            target_column="species",
            workflow_elements=workflow,
            split=HoldOut(0.2),
            timeout=WITHIN,
        )

        # When the page's submission is cross-validated
        report = client.cross_validate(examples / folder, iris, cv=2, timeout=WITHIN)

    # Then it learns
    assert [result.verdict for result in report.results] == [None, None]
    assert report.results[0].test_predictions.shape == (30, 3)
    assert report.test_scores["accuracy"].mean > 0.8


def test_documented_regressor_predicts_numbers(shared_stack: Stack, examples: Path) -> None:
    # Given a data set of numbers
    csv = examples / "diabetes.csv"
    load_diabetes(as_frame=True).frame.to_csv(csv, index=False)
    with shared_stack.client() as client:
        diabetes = client.publish_data(
            "diabetes",
            files=[csv],
            target_column="target",
            workflow_elements="regressor",
            split=HoldOut(0.2),
            timeout=WITHIN,
        )

        # When the page's submission is cross-validated
        report = client.cross_validate(examples / "regressor", diabetes, cv=2, timeout=WITHIN)

    # Then it is better than the mean
    assert [result.verdict for result in report.results] == [None, None]
    assert report.test_scores["rmse"].mean < 70


def test_documented_time_series_are_published_and_learnt(
    shared_stack: Stack, examples: Path
) -> None:
    # Given the page's data set of time series, published by its own program
    place = examples / "series"
    subprocess.run(
        [sys.executable, "publish.py"],
        cwd=place,
        env=shared_stack.environment(),
        stdin=subprocess.DEVNULL,
        timeout=WITHIN,
        check=True,
    )

    # When the page's submission is cross-validated
    with shared_stack.client() as client:
        report = client.cross_validate(place / "submission", "recordings", cv=2, timeout=WITHIN)

    # Then it learns
    assert {result.state for result in report.results} == {FoldState.TESTED}
    assert report.test_scores["accuracy"].mean > 0.8
