"""The same folds by joblib and by datarun: what isolation, delivery and storage cost.

    .venv/bin/python benchmarks/folds.py [--repeat 3] [--only trivial,forests]

joblib runs them in process memory with two warm loky workers. datarun runs them from messages, with
one warm worker of two slots, and stores every verdict in SQLite; the clock runs from the first
publish until the last stored verdict is known to the client. Both use one thread a fold. Runs
alternate, so that the machine's drift falls on both; medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from joblib import Parallel, delayed, parallel_config
from rich.console import Console
from rich.table import Table
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import ShuffleSplit, train_test_split

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.stack import RunningStack, running_stack
from datarun import Client, HoldOut

SLOTS = 2
TIMEOUT = 600
HELD_OUT = 0.5
VALIDATION = 0.2


@dataclass(frozen=True)
class Case:
    """Some folds of one submission on one data set."""

    name: str
    folds: int
    frame: Callable[[], pd.DataFrame]
    estimator: Callable[[], ClassifierMixin]
    code: str
    """The submission that uses the same estimator."""


def _submission(imports: str, estimator: str) -> str:
    return (
        f"{imports}\n\nclass Classifier:\n"
        f"    def fit(self, X, y):\n        self.estimator = {estimator}.fit(X, y)\n\n"
        "    def predict_proba(self, X):\n        return self.estimator.predict_proba(X)\n"
    )


def _frame(X: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(X, columns=[f"x{number}" for number in range(X.shape[1])]).assign(label=y)


def _forests(name: str, *, folds: int, trees: int) -> Case:
    return Case(
        name,
        folds,
        lambda: _frame(*load_digits(return_X_y=True)),
        lambda: RandomForestClassifier(n_estimators=trees, random_state=0),
        _submission(
            "from sklearn.ensemble import RandomForestClassifier",
            f"RandomForestClassifier(n_estimators={trees}, random_state=0)",
        ),
    )


CASES = (
    Case(
        "trivial",
        200,
        lambda: _frame(*load_iris(return_X_y=True)),
        DummyClassifier,
        _submission("from sklearn.dummy import DummyClassifier", "DummyClassifier()"),
    ),
    _forests("forests", folds=60, trees=50),
    _forests("large-forests", folds=16, trees=400),
    Case(
        "boosting",
        12,
        lambda: _frame(
            *make_classification(200_000, 20, n_informative=10, flip_y=0.05, random_state=0)
        ),
        lambda: HistGradientBoostingClassifier(random_state=0),
        _submission(
            "from sklearn.ensemble import HistGradientBoostingClassifier",
            "HistGradientBoostingClassifier(random_state=0)",
        ),
    ),
)


def fit_and_predict(
    estimator: ClassifierMixin,
    X: np.ndarray,
    y: np.ndarray,
    X_test: np.ndarray,
    train_is: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What a fold does."""
    estimator.fit(X[train_is], y[train_is])
    return estimator.predict_proba(X), estimator.predict_proba(X_test)


def by_joblib(case: Case, data: tuple[np.ndarray, ...], folds: list[Any]) -> float:
    """Wall seconds; the loky workers are warm."""
    X, y, X_test = data
    start = time.perf_counter()
    with parallel_config(backend="loky", n_jobs=SLOTS, inner_max_num_threads=1):
        Parallel()(
            delayed(fit_and_predict)(case.estimator(), X, y, X_test, train_is)
            for train_is, _ in folds
        )
    return time.perf_counter() - start


def by_datarun(client: Client, case: Case, folds: list[Any], first_id: int) -> float:
    """Wall seconds until every verdict is stored and known."""
    messages = [
        {
            "submission_fold_id": first_id + number,
            "submission_id": first_id,
            "dataset": case.name,
            "files": {"classifier.py": case.code},
            "train_is": train_is,
            "test_is": test_is,
        }
        for number, (train_is, test_is) in enumerate(folds)
    ]
    ids = [first_id + number for number in range(len(folds))]
    start = time.perf_counter()
    client.publish_folds(messages)
    results = list(client.follow(ids, timeout=TIMEOUT, with_predictions=False))
    seconds = time.perf_counter() - start
    failed = [result for result in results if result.state != "TESTED"]
    if failed:
        raise SystemExit(f"{case.name}: {failed[0].log_messages}")
    return seconds


def cpu_of(stack: RunningStack) -> dict[str, float]:
    """CPU seconds until now, by process; this one is the client."""
    return {**stack.cpu(), "client": time.process_time()}


def measure(
    client: Client, stack: RunningStack, cases: Iterable[Case], repeat: int, folder: Path
) -> tuple[list[list[str]], dict[str, dict[str, float]]]:
    """A row for each case; and by case, CPU milliseconds a fold of each process."""
    rows = []
    cpu: dict[str, dict[str, float]] = {}
    first_id = 1_000
    for case in cases:
        frame = case.frame()
        csv = folder / f"{case.name}.csv"
        frame.to_csv(csv, index=False)
        client.publish_data(
            case.name,
            files=[csv],
            target_column="label",
            workflow_elements="classifier",
            split=HoldOut(HELD_OUT, random_state=42),
            timeout=TIMEOUT,
        )
        train, test = train_test_split(pd.read_csv(csv), test_size=HELD_OUT, random_state=42)
        X, y = train.drop(columns="label").to_numpy(), train["label"].to_numpy()
        data = (X, y, test.drop(columns="label").to_numpy())
        folds = list(ShuffleSplit(case.folds, test_size=VALIDATION, random_state=0).split(X))
        peers: list[float] = []
        ours: list[float] = []
        spent: list[dict[str, float]] = []
        for number in range(repeat + 1):
            peer = by_joblib(case, data, folds)
            before = cpu_of(stack)
            our = by_datarun(client, case, folds, first_id)
            after = cpu_of(stack)
            first_id += 10_000
            if number:  # the first round warms caches and workers of both
                peers.append(peer)
                ours.append(our)
                spent.append({name: after[name] - before.get(name, 0) for name in after})
        cpu[case.name] = {
            name: statistics.median(one.get(name, 0) for one in spent) * 1000 / case.folds
            for name in spent[0]
        }
        ratios = [our / peer for our, peer in zip(ours, peers, strict=True)]
        median = statistics.median(ours)
        rows.append(
            [
                f"{case.folds} {case.name}",
                f"{len(X):,} x {X.shape[1]}",
                f"{statistics.median(peers):.2f}",
                f"{median:.2f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} - {max(ratios):.2f}",
                f"{case.folds / median:.0f}",
            ]
        )
    return rows, cpu


def resident(pids: Iterable[int]) -> float:
    """Resident memory of these processes, in MB; pages they share count for each."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default=",".join(case.name for case in CASES))
    arguments = parser.parse_args()
    chosen = [case for case in CASES if case.name in arguments.only.split(",")]
    console = Console()
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder), SLOTS) as stack:
        idle = stack.memory()
        with Client(stack.broker_url) as client:
            rows, cpu = measure(client, stack, chosen, arguments.repeat, Path(folder))
        loaded = stack.memory()
    table = Table(title=f"isolation: {stack.isolation}; median of {arguments.repeat}")
    for heading in ("folds", "training rows", "joblib s", "datarun s", "ratio", "range", "folds/s"):
        table.add_column(heading, justify="left" if heading == "folds" else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    spent = Table(title="CPU, ms a fold")
    for heading in ("process", *cpu):
        spent.add_column(heading, justify="left" if heading == "process" else "right")
    for name in next(iter(cpu.values())):
        spent.add_row(name, *(f"{one.get(name, 0):.1f}" for one in cpu.values()))
    console.print(spent)
    memory = Table(title="proportional set size (PSS), MB")
    for heading in ("process", "idle", "after the runs"):
        memory.add_column(heading, justify="left" if heading == "process" else "right")
    for name, megabytes in idle.items():
        memory.add_row(name, f"{megabytes:.0f}", f"{loaded.get(name, float('nan')):.0f}")
    console.print(memory)


if __name__ == "__main__":
    main()
