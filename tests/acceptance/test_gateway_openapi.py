"""The OpenAPI description says what the gateway does, and nothing brings it down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.rabbitmq import Logins
from tests.support.rest import CLASSIFIER, IRIS
from tests.support.stack import RestClient, Stack

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
)
"""Not that all that the description allows is accepted: which ids there are it cannot say."""


@pytest.fixture
def rest_client(database_url: str, tmp_path: Path) -> Any:
    """A gateway on each kind of database. There is no RabbitMQ, which it does not need."""
    stack = Stack(Logins.of_nobody(), database_url, tmp_path)
    client = stack.start_gateway()
    yield client
    stack.close()


@pytest.mark.slow
def test_whatever_is_sent_is_answered_as_described(rest_client: RestClient, tmp_path: Path) -> None:
    # Given a few data sets and a fold
    for name in ("one", "two", "three"):
        files = {"a.csv": IRIS} if name != "three" else {"a.csv": IRIS, "specific.py": "x = 1"}
        body = {"target_column": "species", "workflow_elements": "classifier", "files": files}
        assert rest_client.post("rawdata/", name=name, **body).status_code == 201
    rest_client.post(
        "submissionfold/",
        databoard_sf_id=11,
        databoard_s_id=1,
        raw_data=1,
        files={"classifier.py": CLASSIFIER},
        train_is=[0, 1],
        test_is=[2],
    )

    # When hundreds of requests are made of the description, right and wrong ones, always the same
    # (by one thread: in Python 3.11.2 two that parse at the same time break each other's parser,
    # https://github.com/python/cpython/issues/106905)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{rest_client.url}openapi.json"),
            *("--auth", ":".join(rest_client.auth), "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--workers", "1"),
            *("--seed", "2016"),
            *("--suppress-health-check", "all", "--generation-database", "none", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    # Then no answer is of status 500, and none is another than the description says
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Operations:       12 selected / 12 total" in done.stdout
    assert rest_client.get("rawdata/").status_code == 200


def test_every_field_and_every_error_is_described(rest_client: RestClient) -> None:
    # When the description is read
    document = requests.get(f"{rest_client.url}openapi.json", timeout=30).json()

    # Then each address names its errors, and each field of a body or a document says what it is
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            if path.startswith("/runapp/"):
                assert {"401", "413", "503"} <= set(operation["responses"]), (method, path)
                assert operation["security"] == [{"basic": []}]
            body = operation.get("requestBody", {"content": {}})["content"]
            for content in body.values():
                for name, field in content["schema"]["properties"].items():
                    assert field.get("description"), (path, name)
                    assert field.get("examples"), (path, name)
            for parameter in operation.get("parameters", []):
                assert parameter["description"], (path, parameter)
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert described.get("description") or "$ref" in described, (name, field)
