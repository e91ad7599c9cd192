"""What all endpoints share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from gateway.acceptance import AcceptedFold, Application, accept_folds
from gateway.authentication import BasicAuthentication
from gateway.database import Database
from gateway.parameters import query_names, refuse_unknown
from gateway.refusals import ErrorDocument
from gateway.together import Together
from schemas.settings import Settings
from storage.users import Account

PREFIX = "/runapp/"

MEANINGS = {
    400: "What is asked for contradicts what is there.",
    401: "No user's name, or a wrong password.",
    403: "It belongs to another user.",
    404: "There is nothing of that id.",
    406: "Files of which it cannot be said what they are.",
    409: "Something else is there under that id.",
    413: "The body is larger than this gateway takes.",
    422: "The body or a parameter is not what is described.",
    503: "The database is away, or too much is asked at a time; nothing was changed, and trying "
    "again helps.",
}


@dataclass(frozen=True)
class Service:
    """Where endpoints find what they need."""

    database: Database
    is_private: bool
    """Whether users see their own submissions' folds only."""

    acceptance: Together[Application, AcceptedFold]
    """Accepts folds, those that come at the same moment together."""

    @classmethod
    def of(cls, database: Database, settings: Settings) -> Service:
        """As the settings say."""
        pool = settings.pools[0]
        return cls(
            database,
            settings.private_submissions,
            Together(lambda items: database.write(accept_folds, items, pool)),
        )

    def visible_to(self, account: Account) -> str | None:
        """The uploader whose folds alone a user may see; None: everybody's."""
        return account.username if self.is_private and not account.is_admin else None


async def service_of(request: Request) -> Service:
    """The service that a request is for. (Were it no coroutine, it would take a thread's turn.)"""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(service_of)]
_authenticated = Depends(BasicAuthentication())
TheUser = Annotated[Account, _authenticated]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These errors, and those that every endpoint may answer with, for `responses`."""
    return {
        status: {"description": MEANINGS[status], "model": ErrorDocument}
        for status in sorted({401, 413, 422, 503, *statuses})
    }


def add_route(
    router: APIRouter, paths: Iterable[str], endpoint: Callable[..., Any], **described: Any
) -> None:
    """Add an endpoint under all its spellings, with and without the trailing slash.

    The first is the one that the OpenAPI description names. Query parameters that the endpoint does
    not have are refused, once it is known who asks.
    """
    is_first = True
    checks = [_authenticated, Depends(refuse_unknown(query_names(endpoint)))]
    for path in paths:
        for spelling in (f"{PREFIX}{path}/", f"{PREFIX}{path}"):
            router.add_api_route(
                spelling,
                endpoint,
                include_in_schema=is_first,
                dependencies=checks,
                **described,
            )
            is_first = False
