"""Events that the collector stores in a second, on SQLite and on PostgreSQL.

    .venv/bin/python benchmarks/collector.py [--folds 2000] [--only sqlite,postgresql]
    .venv/bin/python benchmarks/collector.py --without-broker [--profile]

Each fold is what a trivial one of iris is: its message and four events (started, trained,
validated, tested) with predictions for 75 training and 75 test rows of three classes, scored. All
messages wait in RabbitMQ before the collector starts; the clock runs from its readiness until every
verdict is stored and every result published. CPU is that of the collector's process. Both databases
run with the durability that they have by default (PostgreSQL: fsync; SQLite: WAL, NORMAL).
`--without-broker` applies the same messages in batches of 200 in this process, for a profile.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import io
import os
import pstats
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.blobs import write_blob
from broker.blocking import BlockingLink
from broker.loopback_ports import LOOPBACK, free_ports
from broker.private_node import PrivateNode
from schemas.datasets import HoldOut, Manifest, Part
from schemas.events import (
    DataReady,
    FoldStarted,
    FoldTested,
    FoldTrained,
    FoldValidated,
    Measurements,
)
from schemas.messages import DataMessage, FoldMessage
from schemas.states import Visibility
from schemas.topology import EVENTS, WORK
from schemas.wire import Envelope, pack
from storage.apply import Rules, apply_batch
from storage.engine import open_engine, upgrade
from storage.fold_events import FoldRules
from storage.incoming import read
from storage.labels import FetchedLabels, LabelsCache

ROOT = Path(__file__).parents[1]
MESSAGES_A_FOLD = 5
ROWS = 75
BATCH = 200
CODE = (
    "from sklearn.dummy import DummyClassifier\n\n\nclass Classifier:\n"
    "    def fit(self, X, y):\n        self.estimator = DummyClassifier().fit(X, y)\n\n"
    "    def predict_proba(self, X):\n        return self.estimator.predict_proba(X)\n"
)
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Measured:
    """One run of the benchmark."""

    database: str
    folds: int
    seconds: float
    cpu_seconds: float
    megabytes: float


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folds", type=int, default=2000)
    parser.add_argument("--only", default="sqlite,postgresql")
    parser.add_argument("--without-broker", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    table = Table(title=f"{options.folds} folds, {MESSAGES_A_FOLD} messages each")
    for column in ("database", "messages/s", "folds/s", "CPU ms/fold", "MB resident"):
        table.add_column(column, justify="right" if column != "database" else "left")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datarun-bench-")))
        folder.chmod(0o755)
        for name in options.only.split(","):
            url = stack.enter_context(_database(name, folder))
            if options.without_broker:
                measured = _without_broker(name, url, options.folds, profile=options.profile)
            else:
                measured = _with_broker(name, url, options.folds, folder)
            table.add_row(
                measured.database,
                f"{measured.folds * MESSAGES_A_FOLD / measured.seconds:,.0f}",
                f"{measured.folds / measured.seconds:,.0f}",
                f"{measured.cpu_seconds / measured.folds * 1000:.2f}",
                f"{measured.megabytes:.0f}",
            )
    Console().print(table)


def _with_broker(name: str, database: str, folds: int, folder: Path) -> Measured:
    node = PrivateNode(folder / f"node-{name}")
    address = node.start()
    environment = {
        **os.environ,
        "DATARUN_BROKER": address.amqp_url,
        "DATARUN_DATABASE": database,
        "DATARUN_HOME": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "datarun"]
    engine = open_engine(database)
    try:
        subprocess.run(
            [*command, "broker", "setup"],
            check=True,
            env=environment,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        manifest, labels = _iris()
        for part, data in (("y_train", labels.y_train), ("y_test", labels.y_test)):
            blob = manifest.part(part)
            write_blob(address.amqp_url, blob.visibility, blob.blob, data)
        with BlockingLink(address.amqp_url, "benchmark") as link:
            for _ in link.publish_many(_messages(folds, manifest), deadline=60):
                continue
        log = folder / f"{name}.log"
        with (
            log.open("wb") as sink,
            subprocess.Popen(
                [*command, "collector"], env=environment, cwd=folder, stderr=sink, stdout=sink
            ) as collector,
        ):
            process = psutil.Process(collector.pid)
            _wait(lambda: "collector_ready" in log.read_text(), collector)
            begin, cpu = time.perf_counter(), _cpu(process)
            _wait(lambda: _ended(engine) == folds, collector)
            measured = Measured(
                name,
                folds,
                time.perf_counter() - begin,
                _cpu(process) - cpu,
                process.memory_info().rss / 1e6,
            )
            collector.terminate()
        return measured
    finally:
        engine.dispose()
        node.stop(clean=False)


def _without_broker(name: str, database: str, folds: int, *, profile: bool) -> Measured:
    engine = open_engine(database)
    upgrade(engine)
    manifest, labels = _iris()
    envelopes = [
        replace(envelope, exchange=exchange) for exchange, envelope in _messages(folds, manifest)
    ]
    rules = Rules(FoldRules(3, lambda _: True, LabelsCache()), {"data": labels}, frozenset())
    profiler = cProfile.Profile()
    process = psutil.Process()
    begin, cpu = time.perf_counter(), _cpu(process)
    if profile:
        profiler.enable()
    for start in range(0, len(envelopes), BATCH):
        batch = [read(envelope) for envelope in envelopes[start : start + BATCH]]
        apply_batch(engine, batch, rules)
    profiler.disable()
    seconds, used = time.perf_counter() - begin, _cpu(process) - cpu
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(35)
    engine.dispose()
    return Measured(name, folds, seconds, used, process.memory_info().rss / 1e6)


def _messages(folds: int, manifest: Manifest) -> Iterator[tuple[str, Envelope]]:
    data = DataMessage(
        name="iris",
        target_column="species",
        workflow_elements="classifier",
        files={"iris.csv": "x"},
        split=HoldOut(0.5),
    )
    yield WORK, pack(data, "data", message_id="data")
    ready = DataReady(message_id="data", worker="prepare", at=NOW, manifest=manifest)
    yield EVENTS, pack(ready, "data.iris")
    random = np.random.default_rng(0)
    # Eight folds at a time, so that the messages of one are not next to one another.
    for first in range(0, folds, 8):
        some = [list(_fold(number, manifest, random)) for number in range(first, first + 8)]
        for together in zip(*some[: folds - first], strict=True):
            yield from together


def _fold(
    number: int, manifest: Manifest, random: np.random.Generator
) -> Iterator[tuple[str, Envelope]]:
    rows = random.permutation(ROWS)
    run_id = f"run-{number:032d}"
    fold = FoldMessage(
        submission_fold_id=number,
        submission_id=number // 10,
        dataset=manifest.reference,
        files={"classifier.py": CODE},
        train_is=np.sort(rows[:67]),
        test_is=np.sort(rows[67:]),
    )
    yield WORK, pack(fold, "folds.default", message_id=run_id)
    about: dict[str, Any] = {
        "run_id": run_id,
        "attempt_id": f"attempt-{number:032d}",
        "submission_fold_id": number,
        "worker": "folds-bench-1234-abcd",
        "at": NOW,
    }
    measured = Measurements(train_time=0.001, validation_time=0.001, train_memory=3000)
    probabilities = random.dirichlet(np.ones(3), size=2 * ROWS)
    for event in (
        FoldStarted(**about, dataset=manifest.reference),
        FoldTrained(**about, measurements=measured),
        FoldValidated(**about, measurements=measured),
        FoldTested(
            **about,
            dataset=manifest.reference,
            full_train_predictions=probabilities[:ROWS],
            test_predictions=probabilities[ROWS:],
            measurements=measured,
        ),
    ):
        yield EVENTS, pack(event, f"fold.{number}")


def _iris() -> tuple[Manifest, FetchedLabels]:
    classes = np.array(["setosa", "versicolor", "virginica"])
    random = np.random.default_rng(1)
    labels = FetchedLabels(
        _npy(classes[random.integers(0, 3, ROWS)]), _npy(classes[[0, 1, 2] * 25])
    )
    parts = (
        ("y_train", Visibility.PUBLIC, labels.y_train),
        ("y_test", Visibility.SECRET, labels.y_test),
    )
    manifest = Manifest(
        name="iris",
        target_column="species",
        workflow_elements="classifier",
        split=HoldOut(0.5),
        n_train=ROWS,
        n_test=ROWS,
        classes=classes,
        parts=tuple(
            Part(
                name=name,
                format="npy",
                visibility=visibility,
                size=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                blob=name,
            )
            for name, visibility, data in parts
        ),
    )
    return manifest, labels


def _npy(values: np.ndarray[Any, Any]) -> bytes:
    target = io.BytesIO()
    np.save(target, values)
    return target.getvalue()


def _ended(engine: Engine) -> int:
    """Verdicts that are stored; none while results wait to be published."""
    with engine.connect() as connection:
        waiting = connection.scalar(text("SELECT count(*) FROM outbox"))
        ended = connection.scalar(text("SELECT count(*) FROM runs WHERE stored_at IS NOT NULL"))
    return 0 if waiting else int(ended or 0)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _wait(look: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not look():
        if process.poll() is not None:
            raise SystemExit("the collector ended; its log is above")
        time.sleep(0.05)


@contextmanager
def _database(name: str, folder: Path) -> Iterator[str]:
    if name == "sqlite":
        yield f"sqlite:///{folder / 'datarun.sqlite'}"
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        raise SystemExit("no PostgreSQL server is installed: use --only sqlite")
    home = folder / "postgres"
    home.mkdir()
    owner: dict[str, Any] = {}
    if os.getuid() == 0:
        # PostgreSQL refuses to run as root.
        os.chown(home, 65534, 65534)
        owner = {"user": 65534, "group": 65534, "extra_groups": []}
    server = programs[-1].parent
    data = home / "data"
    subprocess.run(
        [server / "initdb", "-D", data, "-U", "datarun", "--auth", "trust", "--no-sync"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=home,
        **owner,
    )
    port = free_ports(1)[0]
    with subprocess.Popen(
        [
            *(server / "postgres", "-D", data, "-p", str(port)),
            *("-c", f"listen_addresses={LOOPBACK}", "-c", "unix_socket_directories="),
        ],
        stderr=subprocess.DEVNULL,
        cwd=home,
        **owner,
    ) as process:
        url = f"postgresql+psycopg://datarun@{LOOPBACK}:{port}/postgres"
        engine = open_engine(url)
        try:
            _wait(lambda: _answers(engine), process)
            yield url
        finally:
            engine.dispose()
            process.send_signal(signal.SIGINT)


def _answers(engine: Engine) -> bool:
    try:
        with engine.connect():
            return True
    except OperationalError:
        return False


if __name__ == "__main__":
    main()
