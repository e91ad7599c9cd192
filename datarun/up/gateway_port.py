"""The port of a stack's gateway: the one that was asked for, else the same as the last time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from broker.loopback_ports import free_ports
from datarun.up.gateway_login import GatewayLogin
from gateway.listener import check_free
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from datarun.up.home import Home
    from schemas.settings import Settings


@dataclass(frozen=True)
class GatewayPort:
    """Where the gateway will listen."""

    number: int
    taken: int | None = None
    """The port that the gateway had before, and has again once the program that has it is gone."""

    @property
    def warning(self) -> str | None:
        """What a person wants to know whose programs have the former address."""
        if self.taken is None:
            return None
        return (
            f"port {self.taken}, which the gateway had before, is taken by another program; this "
            f"time it has {self.number} (choose one with --gateway-port)"
        )

    def remember(self, home: Home) -> None:
        """Now that the gateway answers there, the next `up` takes it again."""
        known = GatewayLogin.read(home)
        if self.taken is None and known is not None and known.port != self.number:
            replace(known, port=self.number).write(home)


def choose_port(home: Home, settings: Settings) -> GatewayPort:
    """Raises ConfigurationError when the one that was asked for cannot be had."""
    if settings.gateway_port is not None:
        check_free(settings.gateway_host, settings.gateway_port)
        return GatewayPort(settings.gateway_port)
    known = GatewayLogin.read(home)
    former = known.port if known is not None else None
    if former is not None:
        try:
            check_free(settings.gateway_host, former)
            return GatewayPort(former)
        except ConfigurationError:
            pass
    (free,) = free_ports(1)
    return GatewayPort(free, taken=former)
