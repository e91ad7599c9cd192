"""The gateway over a store: requests go straight into the application, on each kind of database."""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx2 as httpx
import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import Engine, delete, insert, select
from starlette.testclient import TestClient

from gateway.app import make_app
from gateway.database import Database
from gateway.service import Service
from schemas.frozen import Message
from schemas.settings import Settings
from schemas.topology import WORK
from schemas.wire import Envelope
from storage import outbox
from storage.engine import snapshot, transaction
from storage.gateway_models import User
from storage.models import OutboxRow
from storage.users import UserRole, hashed
from storage.waiting_folds import release_folds
from tests.support import messages
from tests.support.databases import empty
from tests.support.store import Store

IRIS = "petal length,species\n" + "1.4,setosa\n4.7,virginica\n" * 5
CLASSIFIER = "class Classifier:\n    pass\n"
TRAIN_IS, TEST_IS = [0, 1, 2, 3], [4, 5]


def packed(content: bytes | str) -> str:
    """base64(zlib(content)), as post_api sends files."""
    raw = content.encode() if isinstance(content, str) else content
    return base64.b64encode(zlib.compress(raw)).decode()


def packed_rows(rows: npt.ArrayLike) -> str:
    """base64(zlib(int64)), as post_api sends indices."""
    return packed(np.asarray(rows, dtype="<i8").tobytes())


def unpacked(text: str, shape: list[int]) -> npt.NDArray[np.float64]:
    """Predictions as clients of 2016 decode them."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<f8").reshape(shape)


@functools.cache
def _users() -> list[dict[str, Any]]:
    """Hashing is slow on purpose: once is enough."""
    roles = {"olga": UserRole.USER, "otto": UserRole.USER, "anna": UserRole.ADMIN}
    now = datetime.now(UTC)
    return [
        {
            "username": name,
            "password_hash": hashed(f"{name}'s password"),
            "role": role.value,
            "created_at": now,
        }
        for name, role in roles.items()
    ]


class Rest:
    """One gateway; `olga` and `otto` are users, `anna` is an admin."""

    def __init__(self, engine: Engine, **settings: Any) -> None:
        self.engine = engine
        given = Settings(**settings)
        service = Service.of(Database(engine), given)
        self.app = make_app(service, given)
        self.client = TestClient(self.app, raise_server_exceptions=False)
        self.begin()

    def begin(self) -> None:
        """With an empty database."""
        empty(self.engine)
        self.store = Store(self.engine)
        with transaction(self.engine) as connection:
            connection.execute(insert(User), _users())

    def get(self, path: str, user: str = "olga", **arguments: Any) -> httpx.Response:
        """GET below /runapp/."""
        return self.client.get(f"/runapp/{path}", auth=(user, f"{user}'s password"), **arguments)

    def post(self, path: str, user: str = "olga", **body: Any) -> httpx.Response:
        """POST below /runapp/."""
        auth = (user, f"{user}'s password")
        return self.client.post(f"/runapp/{path}", auth=auth, json=body)

    def register(self, name: str = "iris", **fields: Any) -> int:
        """A data set of CSV; its id."""
        given = {
            "name": name,
            "target_column": "species",
            "workflow_elements": "classifier",
            "files": {"data.csv": packed(IRIS)},
            **fields,
        }
        answer = self.post("rawdata/", **given)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def split(self, raw_data_id: int, held_out_test: float = 0.4) -> str:
        """Ask for a split; its task id."""
        answer = self.post(
            "rawdata/split/", raw_data_id=raw_data_id, held_out_test=held_out_test, random_state=42
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    def prepare(self, message_id: str, name: str = "iris", **fields: Any) -> str:
        """What the collector does when a worker has split: the version."""
        manifest = messages.manifest(name, **fields)
        labels = {message_id: messages.labels()}
        self.store.take(messages.data_ready(message_id, manifest), labels=labels)
        release_folds(self.store.engine)
        return manifest.version

    def prepare_nothing(self) -> None:
        """What the collector does with waiting folds when a split has ended otherwise."""
        release_folds(self.store.engine)

    def ready(self, name: str = "iris") -> int:
        """A data set that is split; its id."""
        raw_data_id = self.register(name)
        self.prepare(self.split(raw_data_id), name)
        return raw_data_id

    def fold(self, fold_id: int = 11, user: str = "olga", **fields: Any) -> httpx.Response:
        """Post a fold of submission 1."""
        given = {
            "databoard_sf_id": fold_id,
            "databoard_s_id": 1,
            "train_is": packed_rows(TRAIN_IS),
            "test_is": packed_rows(TEST_IS),
            **fields,
        }
        return self.post("submissionfold/", user, **given)

    def first_fold(self, raw_data_id: int, fold_id: int = 11, **fields: Any) -> dict[str, Any]:
        """Post a fold with files and data set; it is accepted."""
        files = {"classifier.py": packed(CLASSIFIER)}
        answer = self.fold(fold_id, **{"raw_data": raw_data_id, "files": files, **fields})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def finish(self, fold: dict[str, Any]) -> None:
        """Have a worker test it."""
        run_id, fold_id = fold["task_id"], fold["databoard_sf_id"]
        self.store.take(messages.success(run_id, fold_id))

    def fail(self, fold: dict[str, Any]) -> None:
        """Have it fail in a worker."""
        self.store.take(messages.failure(fold["task_id"], fold["databoard_sf_id"]))

    def published(self, kind: type[Message]) -> list[Any]:
        """Messages of this kind in the outbox."""
        return [message for _, message in self.store.published(kind)]

    def outgoing(self) -> list[Envelope]:
        """What the outbox holds."""
        with snapshot(self.store.engine) as connection:
            return [row.envelope for row in outbox.waiting(connection, 1_000, ())]

    def collect(self) -> None:
        """Publish the outbox, and give the collector what comes to its queue, twice."""
        with snapshot(self.store.engine) as connection:
            rows = outbox.waiting(connection, 1_000, ())
        envelopes = [replace(row.envelope, exchange=WORK) for row in rows if row.exchange == WORK]
        if envelopes:
            self.store.take(*envelopes)
            self.store.take(*envelopes)
        with transaction(self.store.engine) as connection:
            connection.execute(delete(OutboxRow).where(OutboxRow.raw_data_id.is_(None)))

    def count(self, model: Any) -> int:
        """Rows of a table."""
        with snapshot(self.store.engine) as connection:
            return len(connection.execute(select(model.__table__)).all())


@pytest.fixture(scope="module")
def shared_rest(shared_engine: Engine) -> Iterator[Rest]:
    """One application for all tests of a file: it remembers whose password is right."""
    made = Rest(shared_engine)
    with made.client:
        yield made


@pytest.fixture
def rest(shared_rest: Rest) -> Rest:
    """A gateway on an empty database of each kind."""
    shared_rest.begin()
    return shared_rest
