"""Pictures of the documentation that are drawn with letters name what is there."""

from __future__ import annotations

import re

import pytest

import datarun
from schemas.permissions import BrokerUser
from schemas.states import Visibility
from schemas.topology import CONTROL_STREAM, blob_stream, topology
from tests.support.pages import Block, run_by

PICTURES = [*run_by(__file__, "README.md"), *run_by(__file__, "docs/concepts.md")]


@pytest.mark.parametrize("picture", PICTURES, ids=str)
def test_every_name_in_a_picture_is_one(picture: Block) -> None:
    declared = topology(pools=("default",))
    names = {each.name for each in (*declared.exchanges, *declared.queues)}
    names |= {name.replace("default", "<pool>") for name in names} | {CONTROL_STREAM}
    names |= {blob_stream(visibility, "") + "*" for visibility in Visibility} | {"datarun.blob.*"}
    for name in re.findall(r"datarun\.[\w.<>*-]+", picture.code):
        named = name.rstrip(".")
        assert named in names or hasattr(datarun, name.partition(".")[2]), name


@pytest.mark.parametrize("picture", PICTURES, ids=str)
def test_every_service_is_in_a_picture(picture: Block) -> None:
    assert BrokerUser.COLLECTOR in picture.code
    for service in ("prepare worker", "folds worker", "gateway"):
        assert service in picture.code
