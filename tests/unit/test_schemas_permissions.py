"""Rights name what the topology has, and no more than their patterns say."""

from __future__ import annotations

import re

import pytest

from schemas.permissions import PERMISSIONS, BrokerUser, matching
from schemas.states import Role, Visibility
from schemas.topology import blob_stream, topology

SHARED = {item.name for item in (*topology().exchanges, *topology().queues)}


def test_a_pattern_matches_its_names_and_what_a_star_stands_for():
    pattern = re.compile(matching("a.b", "c.*"))
    assert [bool(pattern.search(name)) for name in ("a.b", "c.d", "c.")] == [True] * 3
    assert not any(pattern.search(name) for name in ("axb", "a.b.c", "xc.d", "c", ""))
    assert not re.search(matching(), "anything")


@pytest.mark.parametrize("user", BrokerUser)
def test_nobody_configures_what_is_shared(user: BrokerUser):
    assert [name for name in SHARED if re.search(PERMISSIONS[user].configure, name)] == []


@pytest.mark.parametrize("user", BrokerUser)
def test_topic_permissions_are_of_topic_exchanges_that_are_used(user: BrokerUser):
    kinds = {exchange.name: exchange.type for exchange in topology().exchanges}
    rights = PERMISSIONS[user]
    for topic in rights.topics:
        assert kinds[topic.exchange] == "topic"
        assert re.search(rights.write, topic.exchange) or re.search(rights.read, topic.exchange)


@pytest.mark.parametrize(
    ("visibility", "readers"),
    [
        (Visibility.PUBLIC, {BrokerUser.WORKER, BrokerUser.COLLECTOR}),
        (Visibility.RAW, {BrokerUser.PREPARER}),
        (Visibility.SECRET, {BrokerUser.COLLECTOR}),
    ],
)
def test_parts_are_read_by_those_they_are_for(visibility: Visibility, readers: set[BrokerUser]):
    stream = blob_stream(visibility, "a1")
    assert {user for user in BrokerUser if re.search(PERMISSIONS[user].read, stream)} == readers


def test_workers_log_in_by_their_role():
    assert BrokerUser.of_worker(Role.FOLDS) is BrokerUser.WORKER
    assert BrokerUser.of_worker(Role.PREPARE) is BrokerUser.PREPARER
