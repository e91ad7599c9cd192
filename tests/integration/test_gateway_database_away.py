"""While the database is away, the gateway says so."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from gateway.app import make_app
from gateway.database import Database
from gateway.service import Service
from schemas.settings import Settings
from storage.engine import open_engine


@pytest.mark.parametrize("path", ["/health", "/runapp/rawdata/"])
def test_database_that_is_away_is_503_with_a_sentence(path: str) -> None:
    # Given a database that nobody answers for
    settings = Settings()
    engine = open_engine("postgresql+psycopg://datarun:secret@127.0.0.1:1/datarun")
    app = make_app(Service.of(Database(engine), settings), settings)

    # When somebody asks
    answer = TestClient(app).get(path, auth=("olga", "olga's password"))

    # Then he is told to come again, and not where the database is
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "try again" in answer.json()["detail"]
    assert "127.0.0.1" not in answer.text
