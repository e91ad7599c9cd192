"""The ports of a stack's metrics: three in a row, each free before anything is started."""

from __future__ import annotations

import socket

import pytest

from datarun.up.metrics_ports import check_metrics_ports, metrics_port
from datarun.up.services import COLLECTOR, FOLDS_WORKER, GATEWAY, PREPARE_WORKER
from schemas.errors import ConfigurationError
from schemas.settings import Settings

SERVICES = (COLLECTOR, FOLDS_WORKER, PREPARE_WORKER, GATEWAY)


def test_collector_folds_worker_and_prepare_worker_have_ports_in_a_row() -> None:
    settings = Settings(metrics_port=9464)
    assert [metrics_port(settings, service) for service in SERVICES] == [9464, 9465, 9466, None]
    assert [metrics_port(Settings(), service) for service in SERVICES] == [None] * 4


def test_port_of_a_worker_that_is_taken_is_named_before_anything_is_started() -> None:
    # Given a port on which somebody listens
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken: int = other.getsockname()[1]

        # When it would be the folds worker's, then it is named with the setting
        with pytest.raises(ConfigurationError, match="DATARUN_METRICS_PORT"):
            check_metrics_ports(Settings(metrics_port=taken - 1))
    check_metrics_ports(Settings())
