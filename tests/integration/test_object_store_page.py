"""docs/object-store.md: its setting, its folders, and rights that are enough and no more."""

from __future__ import annotations

import fnmatch
import io
import json
import re
import subprocess
from typing import Any

import pytest

from broker.object_store import ObjectStore
from schemas.blobs import checked_store_url, new_stored_blob
from schemas.errors import BlobError
from schemas.settings import load_settings
from schemas.states import Visibility
from tests.support.pages import BASH, run_by
from tests.support.s3 import BUCKET, S3Server, s3, s3_server

__all__ = ["s3", "s3_server"]

SETTING, LAYOUT, POLICY = run_by(__file__, "docs/object-store.md")
ACTIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjects": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
}
"""What an operation needs, by "Required permissions for Amazon S3 API operations" of its guide."""


def test_the_setting_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # When the line is typed, with either URL
    typed = subprocess.run(
        [*BASH, f"{SETTING.code}\nenv"], capture_output=True, text=True, timeout=20, check=True
    )
    (url,) = re.findall(r"^DATARUN_BLOBS=(.*)$", typed.stdout, re.MULTILINE)
    monkeypatch.setenv("DATARUN_BLOBS", url)

    # Then services take it
    assert load_settings().blobs == url == "s3://bucket/prefix"
    (folder,) = re.findall(r"file://[^\s,]+", SETTING.code)
    assert checked_store_url(folder) == folder


def test_parts_are_where_the_page_says(s3: S3Server) -> None:
    # Given the folders of the page
    places = dict(re.findall(r"^<store>/(\w+)/(\S+)", LAYOUT.code, re.MULTILINE))
    assert set(places) == set(Visibility)

    # When a part of each kind is written, then it is there
    store = ObjectStore(s3.url)
    for visibility in Visibility:
        store.write(visibility, blob := new_stored_blob(), io.BytesIO(b"part"))
        assert f"{visibility}/{blob}" in s3.files()
        assert fnmatch.fnmatch(blob, places[visibility].replace("<id>", "*"))


def allows(statement: dict[str, Any], operation: str, given: dict[str, Any]) -> bool:
    """Whether a statement of a policy lets S3 do an operation on this bucket, below this prefix."""
    as_there = json.dumps(statement).replace("bucket", BUCKET).replace("prefix/", "challenge/")
    statement = json.loads(as_there.replace(f"s3:List{BUCKET}", "s3:ListBucket"))
    key = "/".join(filter(None, [given["Bucket"], given.get("Key")]))
    wanted = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", "*")
    return (
        statement["Effect"] == "Allow"
        and statement["Action"] == ACTIONS.get(operation)
        and fnmatch.fnmatch(f"arn:aws:s3:::{key}", statement["Resource"])
        and fnmatch.fnmatch(given.get("Prefix", ""), wanted)
    )


def test_a_folds_worker_asks_s3_for_nothing_that_its_rights_do_not_give(s3: S3Server) -> None:
    # Given a part, and a reader whose every question to S3 is written down
    writer = ObjectStore(s3.url)
    blob = new_stored_blob()
    size, sha256 = writer.write(Visibility.PUBLIC, blob, io.BytesIO(b"part"))
    reader = ObjectStore(s3.url)
    files = reader._files
    files.connect()
    asked: list[tuple[str, dict[str, Any]]] = []
    files.s3.meta.events.register(
        "provide-client-params.s3",
        lambda params, model, **_: asked.append((model.name, dict(params))),
    )

    # When it reads the part, and one that does not exist
    reader.read(Visibility.PUBLIC, blob, io.BytesIO(), size=size, sha256=sha256)
    with pytest.raises(BlobError, match="does not exist"):
        reader.read(Visibility.PUBLIC, new_stored_blob(), io.BytesIO(), size=1, sha256="0" * 64)

    # Then the policy of the page allows each, and all that it allows is public
    statements = json.loads(POLICY.code)["Statement"]
    assert "GetObject" in {operation for operation, _ in asked}
    for operation, given in asked:
        assert any(allows(each, operation, given) for each in statements), (operation, given)
    for visibility in (Visibility.SECRET, Visibility.RAW):
        hidden = {"Bucket": BUCKET, "Key": f"challenge/{visibility}/{blob}"}
        assert not any(allows(each, "GetObject", hidden) for each in statements)
