"""Which service of a stack answers Prometheus on which port: three ports in a row."""

from __future__ import annotations

from broker.metrics import check_metrics_port
from datarun.up.services import COLLECTOR, FOLDS_WORKER, PREPARE_WORKER, Service
from schemas.settings import Settings

_IN_A_ROW = (COLLECTOR, FOLDS_WORKER, PREPARE_WORKER)


def metrics_port(settings: Settings, service: Service) -> int | None:
    """The port of a service; None when metrics are off, or the service has none."""
    if settings.metrics_port is None or service not in _IN_A_ROW:
        return None
    return settings.metrics_port + _IN_A_ROW.index(service)


def check_metrics_ports(settings: Settings) -> None:
    """Raises ConfigurationError when a service could not have its port now."""
    for service in _IN_A_ROW:
        port = metrics_port(settings, service)
        if port is not None:
            check_metrics_port(settings.metrics_host, port)
