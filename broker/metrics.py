"""What services count of themselves: with prometheus-client, where it is installed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from schemas.errors import ConfigurationError
from schemas.settings import Settings


class _Uncounted:
    """Takes the place of a metric where prometheus-client is not installed: counts nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def labels(self, *_: Any, **__: Any) -> _Uncounted:
        """Itself."""
        return self

    def inc(self, amount: float = 1) -> None:
        """Nothing."""

    dec = set = observe = inc

    def set_function(self, _: Any) -> None:
        """Nothing."""


try:
    from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
except ModuleNotFoundError:
    Counter = Gauge = Histogram = _Uncounted  # type: ignore[assignment, misc]
else:
    # A second series for each counter, which few read.
    disable_created_metrics()  # type: ignore[no-untyped-call]

__all__ = [
    "CONNECTIONS",
    "RECONNECTS",
    "SECONDS",
    "Counter",
    "Gauge",
    "Histogram",
    "check_metrics_port",
    "serving_metrics",
]

SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1200, 3600)
"""Bounds of histograms: folds take milliseconds or an hour."""

RECONNECTS = Counter(
    "datarun_broker_reconnects", "Connections to RabbitMQ that were lost and came back."
)
CONNECTIONS = Gauge("datarun_broker_connections", "Connections to RabbitMQ that stand.")


def check_metrics_port(host: str, port: int) -> None:
    """Raises ConfigurationError when nothing could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            # Binding alone succeeds next to another socket that has bound and not yet listens.
            listener.listen()
    except OSError as error:
        raise _refused(host, port, error) from error


def _refused(host: str, port: int, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"metrics cannot be served on {host}:{port}: {error.strerror}; choose another port "
        "with DATARUN_METRICS_PORT or address with DATARUN_METRICS_HOST"
    )


@contextmanager
def serving_metrics(settings: Settings) -> Iterator[None]:
    """Answer scrapes over HTTP, in a thread, if the settings name a port.

    Raises ConfigurationError when that port cannot be had, or prometheus-client is not installed.
    """
    host, port = settings.metrics_host, settings.metrics_port
    if port is None:
        yield
        return
    try:
        from prometheus_client import start_http_server
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "DATARUN_METRICS_PORT is set, and prometheus-client is not installed: "
            "`pip install prometheus-client`, or unset it"
        ) from error
    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        raise _refused(host, port, error) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
