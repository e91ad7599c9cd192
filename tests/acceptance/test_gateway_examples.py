"""What the page at /docs shows as examples works as it stands, on a service that is new."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import requests

from tests.support.command import Folder
from tests.support.deadline import wait_until


@pytest.fixture
def gateway(running: Folder) -> dict[str, str]:
    """Of a stack without a data set."""
    return dict(running.json("status")["gateway"])


def example_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The body that the page proposes: each field's first example."""
    return {name: field["examples"][0] for name, field in schema["properties"].items()}


def test_examples_work_in_the_order_in_which_they_stand(gateway: dict[str, str]) -> None:
    # Given the description of a new service
    url, auth = gateway["url"], (gateway["username"], gateway["password"])
    document = requests.get(f"{url}openapi.json", timeout=30).json()
    answers = {}

    def fold_ended() -> bool:
        light = requests.get(f"{url}runapp/submissionfold-light/", auth=auth, timeout=30).json()
        return bool(light) and all(fold["state"] == "TESTED" for fold in light)

    # When each call is made with its own example
    for path, operations in document["paths"].items():
        if not path.startswith("/runapp/") or "customsplit" in path:
            continue
        if path.startswith("/runapp/testpredictions/"):
            wait_until(fold_ended, within=60, what="the result of the example's fold")
        for method, operation in operations.items():
            filled = path
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    example = str(parameter["schema"]["examples"][0])
                    filled = filled.replace(f"{{{parameter['name']}}}", example)
            body = operation.get("requestBody")
            schema = body["content"]["application/json"]["schema"] if body else None
            answer = requests.request(
                method,
                f"{url}{filled[1:]}",
                auth=auth,
                json=example_of(schema) if schema else None,
                timeout=60,
            )
            # Then it is answered as one wishes
            assert answer.ok, (method, filled, answer.text)
            answers[f"{method} {path}"] = answer.json()

    assert len(answers["post /runapp/testpredictions/list/"]) == 1

    # And so do the lines at the top of the page, one after the other
    (lines,) = re.findall(r"```sh\n(.*?)```", document["info"]["description"], re.DOTALL)
    lines = lines.replace("datarun:password", ":".join(auth))
    lines = lines.replace("http://127.0.0.1:8000/", url)
    assert "id=1 " in lines
    lines = lines.replace("id=1 ", "id=2 ").replace("curl ", "curl -sS --fail-with-body ")
    done = subprocess.run(
        ["bash", "-ec", lines], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(fold_ended, within=60, what="the result of the fold of the lines at the top")
