"""The application: its endpoints, how errors leave it, and its description."""

from __future__ import annotations

import logging
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from sqlalchemy import Connection, text
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import fold_routes, prediction_routes, raw_data_routes
from gateway.authentication import Authenticator
from gateway.body_limit import BodyLimit
from gateway.large_bodies import LargeBodies
from gateway.refusals import ErrorDocument, Refusal
from gateway.service import MEANINGS, Service, TheService
from schemas.errors import DatabaseAway, MessageError
from schemas.settings import Settings

logger = logging.getLogger(__name__)

HEALTH = "/health"

DESCRIPTION = r"""
The REST interface of 2016 over the message-driven core.

Every call below `/runapp/` wants HTTP basic authentication, takes and gives JSON, and is also found
without the trailing slash; `/runapp/raw_data/` is another spelling of `/runapp/rawdata/`. An error
is JSON with a sentence in `detail`.

`datarun up` prints the address, which `runapp` follows here, and the first time the password; later
`datarun status --json` has both. Register a data set, split it, send the folds of each submission,
and collect their results:

```sh
login=datarun:password url=http://127.0.0.1:8000/runapp

curl -u "$login" "$url/rawdata/" -d '{"name": "plants", "target_column": "kind",
  "workflow_elements": "classifier", "files": {"plants.csv":
  "length,kind\n1.4,iris\n4.7,rose\n1.3,iris\n4.5,rose\n1.5,iris\n4.9,rose\n"}}'
id=1   # the "id" in the answer
curl -u "$login" "$url/rawdata/split/" -d '{"raw_data_id": '$id', "held_out_test": 0.3}'
curl -u "$login" "$url/submissionfold/" -d '{"databoard_sf_id": 8001, "databoard_s_id": 800,
  "raw_data": '$id', "train_is": [0, 1, 2], "test_is": [3], "priority": "H",
  "files": {"classifier.py": "from sklearn.dummy import DummyClassifier as Classifier"}}'
curl -u "$login" "$url/submissionfold-light/"
curl -u "$login" "$url/testpredictions/list/?format=json" -d '{"list_submission_fold": [8001]}'
```

The last one shows the fold's result once it has ended; a moment earlier, nothing. Ids of folds and
submissions are yours to choose: one that exists is refused, unless `force` says to run it again.

The examples at each call, below, belong together too: on a service without data sets they work in
the order in which they stand (but `customsplit/`, which is for a data set with a python file).
Elsewhere, put the `id` that registering has answered in place of `raw_data_id` and `raw_data`.
"""


def make_app(service: Service, settings: Settings) -> FastAPI:
    """The ASGI application."""
    # The page at /docs comes with what it needs: FastAPI's own fetches it from the internet.
    app = FastAPIOffline(
        redoc_url=None,
        title="datarun",
        version=version("datarun"),
        description=DESCRIPTION,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.large_bodies = LargeBodies(settings.gateway_large_bodies)
    app.state.authenticator = Authenticator(service.database)
    for module in (raw_data_routes, fold_routes, prediction_routes):
        app.include_router(module.router)
    app.add_api_route(
        HEALTH,
        _health,
        methods=["GET"],
        tags=["operation"],
        responses={503: {"description": MEANINGS[503], "model": ErrorDocument}},
    )
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(MessageError, _unprocessable)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(DatabaseAway, _away)
    app.add_exception_handler(Exception, _ours)
    app.add_middleware(BodyLimit, limit=settings.gateway_body_bytes)
    app.add_middleware(OneSlash)
    return app


class OneSlash:
    """ASGI middleware: `//runapp/` is `/runapp/`, since clients of 2016 add `/runapp/` to the URL,
    whether that ends in a slash or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["path"].startswith("//"):
            scope = {**scope, "path": "/" + scope["path"].lstrip("/")}
        await self._app(scope, receive, send)


def _health(service: TheService) -> dict[str, str]:
    """Whether the gateway is at work. Needs no authentication, and tells nothing."""
    service.database.read(_select_1)
    return {"status": "ok"}


def _select_1(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return JSONResponse(error.document, error.status, error.headers)


async def _unprocessable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 422)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    where = ".".join(str(step) for step in fault["loc"])
    return JSONResponse({"detail": f"{where}: {fault['msg']}"}, 422)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    sentences = {
        404: f"there is nothing at {request.url.path}; /docs lists what there is",
        405: f"{request.url.path} does not take {request.method}; /docs lists what there is",
    }
    detail = sentences.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    return JSONResponse({"detail": detail}, error.status_code, headers)


def _methods(request: Request) -> list[str]:
    """What this address takes: each method is a route of its own."""
    found: set[str] = set()
    for method in ("GET", "POST"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.add(method)
    return sorted(found)


async def _away(_: Request, error: Exception) -> JSONResponse:
    # Where the database is, is for the log.
    logger.warning(str(error), extra={"action": "database_away"})
    sentence = "the database is away for the moment, and nothing was changed; try again"
    return JSONResponse({"detail": sentence}, 503, {"Retry-After": "5"})


async def _ours(request: Request, error: Exception) -> JSONResponse:
    # Starlette passes it on to the server's log afterwards.
    logger.error(
        "a request failed",
        extra={"action": "request_broken", "path": request.url.path, "reason": repr(error)},
    )
    return JSONResponse(
        {"detail": "the gateway failed; this is its own fault, and its log says why"}, 500
    )
