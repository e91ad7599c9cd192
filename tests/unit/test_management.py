"""RabbitMQ's management API, where something else answers in its place."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from broker.management import Management
from schemas.errors import ConfigurationError


class Redirecting(BaseHTTPRequestHandler):
    """Sends everybody on to the next port's server, and notes who came."""

    came: list[str]
    to: str

    def do_GET(self) -> None:
        self.came.append(self.path)
        self.send_response(302)
        self.send_header("Location", f"{self.to}/api/whoami")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def servers() -> Iterator[list[ThreadingHTTPServer]]:
    """Two, of which the first sends on to the second."""
    made: list[ThreadingHTTPServer] = []
    for _ in range(2):
        answers = type("Answers", (Redirecting,), {"came": []})
        made.append(ThreadingHTTPServer(("127.0.0.1", 0), answers))
    for server in made:
        server.RequestHandlerClass.to = f"http://them:secret@127.0.0.1:{made[1].server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    for server in made:
        server.shutdown()
        server.server_close()


def test_the_administrators_password_follows_no_redirect(
    servers: list[ThreadingHTTPServer],
) -> None:
    # Given a server in the place of the management API, which sends us to another one
    first, second = servers
    api = Management(
        f"http://admin:sesame77@127.0.0.1:{first.server_port}", ssl.create_default_context()
    )

    # When it is asked, then the sentence names that place, and nobody's password
    with pytest.raises(ConfigurationError) as refused:
        api.check_administrator()
    assert f"sends us on to http://127.0.0.1:{second.server_port}, which is not followed" in str(
        refused.value
    )
    assert "secret" not in str(refused.value)
    assert "sesame77" not in str(refused.value)

    # And nobody came there
    assert first.RequestHandlerClass.came == ["/api/whoami"]
    assert second.RequestHandlerClass.came == []
