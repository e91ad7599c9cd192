"""`datarun health`: whether the service beside it is at work, for health checks."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from datarun.cli.console import Json, print_json, stderr, stdout

if TYPE_CHECKING:
    from schemas.settings import Settings

ANSWER_SECONDS = 5.0
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class ServiceName(StrEnum):
    """What can be asked after."""

    WORKER = "worker"
    """Hears its own heartbeats, which come back through RabbitMQ."""

    COLLECTOR = "collector"
    """Is connected to RabbitMQ and to its database, also as a standby."""

    GATEWAY = "gateway"
    """Answers over HTTP, and has its database."""


def health(
    service: Annotated[ServiceName, typer.Argument(help="The service that runs here.")],
    json: Json = False,
) -> None:
    """Say whether the service that runs beside this command, with the same settings, is at work.

    The exit status is 0 when it is, and 1 when it is not. A worker and a collector need
    DATARUN_PULSE: a file that they touch while they are at work.
    """
    from schemas.settings import load_settings

    settings = load_settings()
    if service is ServiceName.GATEWAY:
        is_well, sentence = _answers(settings)
    else:
        is_well, sentence = _beats(settings, service)
    if json:
        print_json({"service": service, "healthy": is_well, "because": sentence})
    else:
        (stdout() if is_well else stderr()).print(sentence, markup=False)
    raise typer.Exit(0 if is_well else 1)


def _beats(settings: Settings, service: str) -> tuple[bool, str]:
    from broker.pulse import seconds_since
    from schemas.errors import ConfigurationError

    if settings.pulse is None:
        raise ConfigurationError(
            f"no pulse is configured: start the {service} and this command with "
            "DATARUN_PULSE=/path/to/a/file"
        )
    age = seconds_since(settings.pulse)
    if age is None:
        return False, f"the {service} is not at work: there is no {settings.pulse}"
    is_well = age <= settings.worker_lost_after_seconds
    return is_well, f"the {service} was {'' if is_well else 'last '}at work {age:.0f} s ago"


def _answers(settings: Settings) -> tuple[bool, str]:
    import urllib.request

    from gateway.listener import DEFAULT_PORT

    host = _EVERY_ADDRESS.get(settings.gateway_host, settings.gateway_host)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{settings.gateway_port or DEFAULT_PORT}/health"
    # Not through a proxy that the environment names: it is beside us.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            return answer.status == 200, f"{url} answers {answer.status}"
    except OSError as error:
        return False, f"{url} does not answer as it should: {error}"
