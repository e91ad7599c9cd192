"""Bodies that are made to fill the gateway's memory."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest
import requests

from gateway import large_bodies
from gateway.large_bodies import LARGE_BYTES
from storage.engine import open_engine, snapshot, transaction
from storage.raw_files import file_sizes, read_pieces
from storage.users import UserRole, add_user
from tests.support.bare_gateway import high_water
from tests.support.rest import IRIS, Rest, packed
from tests.support.stack import RestClient, Stack

CLIENTS = 8
LARGE_CSV = IRIS + "1.5,setosa\n" * (2 * LARGE_BYTES // 11)


def zeros(size: int) -> str:
    """base64(zlib(zeros)), a thousandth of the size."""
    squeezer = zlib.compressobj(9)
    piece = bytes(1 << 20)
    content = b"".join(squeezer.compress(piece) for _ in range(size >> 20)) + squeezer.flush()
    return base64.b64encode(content).decode()


def data_set(name: str, content: str = LARGE_CSV) -> dict[str, object]:
    """A body of rawdata/."""
    return {
        "name": name,
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"a.csv": content},
    }


def begun(client: RestClient, announced: int) -> socket.socket:
    """A request whose body has begun to arrive, and goes on no more."""
    host, port = client.url.removeprefix("http://").rstrip("/").split(":")
    line = socket.create_connection((host, int(port)), timeout=60)
    login = base64.b64encode(":".join(client.auth).encode()).decode()
    line.sendall(
        f"POST /runapp/rawdata/ HTTP/1.1\r\nHost: gateway\r\nAuthorization: Basic {login}\r\n"
        f"Content-Length: {announced}\r\n\r\n".encode()
    )
    line.sendall(b'{"name": "' + b" " * (announced // 2))
    return line


def stored_file(rest: Rest, raw_data_id: int) -> bytes:
    """The only file of registered data."""
    with snapshot(rest.engine) as connection:
        (file,) = file_sizes(connection, raw_data_id)
        return b"".join(read_pieces(connection, raw_data_id, file))


@pytest.mark.slow
def test_bodies_that_inflate_to_gigabytes_take_little_memory(bare_stack: Stack) -> None:
    # Given a gateway that has answered once
    client = bare_stack.start_gateway()
    assert client.get("rawdata/").ok
    before = high_water(client)

    # When eight data sets of 256 MiB come at the same moment, each in less than half a megabyte
    content = zeros(256 << 20)
    with ThreadPoolExecutor(CLIENTS) as pool:
        bodies = [data_set(f"data-{number}", content) for number in range(CLIENTS)]
        answers = list(pool.map(lambda body: client.post("rawdata/", **body), bodies))

    # Then all are taken, and the gateway has never had one of them in memory
    assert [answer.status_code for answer in answers] == [201] * CLIENTS
    assert high_water(client) - before < 128 << 20


def test_large_bodies_wait_for_one_another(bare_stack: Stack) -> None:
    # Given a gateway that works on one large body at a time
    client = bare_stack.start_gateway(gateway_large_bodies=1)
    assert client.get("rawdata/").ok
    before = high_water(client)

    # When four of 24 MB come at the same moment
    content = IRIS + "1.5,setosa\n" * (24_000_000 // 11)
    with ThreadPoolExecutor(4) as pool:
        bodies = [data_set(f"data-{number}", content) for number in range(4)]
        answers = list(pool.map(lambda body: client.post("rawdata/", **body), bodies))

    # Then all are taken, in the memory of one: as it came, and as it was read
    assert [answer.status_code for answer in answers] == [201] * 4
    assert high_water(client) - before < 4 * len(content)


def test_whoever_sends_slowly_keeps_nobody_waiting(bare_stack: Stack) -> None:
    # Given clients that have begun a large body and do not go on, more than are worked on
    client = bare_stack.start_gateway(gateway_large_bodies=1)
    lines = [begun(client, 8 * LARGE_BYTES) for _ in range(3)]

    # When another one sends his, then it is taken
    assert client.post("rawdata/", **data_set("iris")).status_code == 201
    for line in lines:
        line.close()

    # Given a user who has begun as many large bodies as may arrive at a time, and does not go on
    lines = [begun(client, 4 * LARGE_BYTES) for _ in range(8)]

    # When another user sends his, then it is taken
    engine = open_engine(bare_stack.database_url)
    with transaction(engine) as connection:
        add_user(connection, "otto", "otto's password", UserRole.USER)
    engine.dispose()
    url, auth = f"{client.url}runapp/rawdata/", ("otto", "otto's password")
    assert requests.post(url, json=data_set("other"), auth=auth, timeout=30).status_code == 201
    for line in lines:
        line.close()


def sent(rest: Rest, pieces: AsyncIterator[bytes]) -> httpx.Response:
    """The answer to a data set that arrives in these pieces."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=rest.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            auth = ("olga", "olga's password")
            return await client.post("/runapp/rawdata/", auth=auth, content=pieces)

    portal = rest.client.portal
    assert portal is not None
    return portal.call(send)


def test_body_that_comes_a_byte_now_and_then_is_given_up(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a gateway with little patience
    monkeypatch.setattr(large_bodies, "PATIENCE_SECONDS", 0.5)

    # When a large body begins as usual, and goes on with one byte every tenth of that
    async def trickle() -> AsyncIterator[bytes]:
        yield b" " * (2 * LARGE_BYTES)
        while True:
            await asyncio.sleep(0.05)
            yield b" "

    answer = sent(rest, trickle())

    # Then it is refused, though it never fell silent
    assert answer.status_code == 422
    assert "less than 64 KiB a second" in answer.json()["detail"]


def test_body_that_takes_longer_than_the_patience_but_keeps_coming_is_taken(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a gateway with little patience
    monkeypatch.setattr(large_bodies, "PATIENCE_SECONDS", 1.0)
    body = json.dumps(data_set("iris")).encode()

    # When a large body comes in pieces, for twice as long
    async def steady() -> AsyncIterator[bytes]:
        for number in range(10):
            await asyncio.sleep(0.2)
            yield body[number * len(body) // 10 : (number + 1) * len(body) // 10]

    # Then it is taken
    assert sent(rest, steady()).status_code == 201


def test_client_that_waits_too_long_is_told_to_come_again(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a gateway that is busy with as many large bodies as it takes
    monkeypatch.setattr(large_bodies, "WAIT_SECONDS", 0.2)
    portal = rest.client.portal
    assert portal is not None
    bodies = rest.app.state.large_bodies
    with (
        portal.wrap_async_context_manager(bodies.place()),
        portal.wrap_async_context_manager(bodies.place()),
    ):
        # When another one comes, large as it is or once it is inflated, then it is refused for now
        for body in (data_set("iris"), data_set("iris", zeros(8 << 20))):
            answer = rest.post("rawdata/", **body)
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
            assert "try again" in answer.json()["detail"]

        # And small ones are answered
        assert rest.post("rawdata/", **data_set("small", IRIS)).status_code == 201

    # And it is taken once there is room
    assert rest.post("rawdata/", **data_set("iris")).status_code == 201


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"target_column": ""}, 422, "target_column"),
        ({"workflow_elements": "calibrator"}, 422, "workflow"),
        ({"name": "taken"}, 400, "already exists"),
    ],
)
def test_what_is_refused_anyway_is_not_inflated(
    rest: Rest, fields: dict[str, str], status: int, sentence: str
) -> None:
    # Given a data set, and files that would be refused once they are inflated
    rest.split(rest.register("taken"))
    files = {"a.csv": packed(IRIS)[:-8]}

    # When they are sent with something else that is wrong, then that is said
    answer = rest.post("rawdata/", **{**data_set("iris"), "files": files, **fields})
    assert answer.status_code == status
    assert sentence in answer.text


def test_file_of_many_pieces_arrives_whole(rest: Rest) -> None:
    # Given a file of several pieces, in lines of base64 as some clients write it
    content = bytes(range(256)) * (5 << 12) + b"end"
    text = base64.encodebytes(zlib.compress(content)).decode()

    # When it is sent inside a data set, and as plain text
    raw_data_id = rest.register("one", files={"a.csv": text})
    plain = "species\n" + "line\n" * (1 << 20)
    other_id = rest.register("two", files={"a.csv": plain})

    # Then it is stored as it was
    assert stored_file(rest, raw_data_id) == content
    assert stored_file(rest, other_id) == plain.encode()


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("submissionfold/", 17 << 20),
        ("testpredictions/list/", 5 << 20),
        ("testpredictions/acknowledge", 5 << 20),
        ("rawdata/split/", 5 << 20),
        ("nowhere", 5 << 20),
    ],
)
def test_calls_that_carry_little_take_small_bodies(rest: Rest, path: str, size: int) -> None:
    auth = ("olga", "olga's password")
    answer = rest.client.post(f"/runapp/{path}", auth=auth, content=b" " * size)
    assert answer.status_code == 413
    assert "larger than" in answer.json()["detail"]


def test_client_that_sends_all_before_it_reads_is_told_that_it_is_too_much(
    bare_stack: Stack,
) -> None:
    # Given a client that does not look for an answer while it sends
    client = bare_stack.start_gateway()
    url = f"{client.url}runapp/testpredictions/list/"
    content = b"[" + b" " * (60 << 20) + b"]"
    announced, unannounced = content, iter([content[: 20 << 20], content[20 << 20 :]])

    for body in (announced, unannounced):
        # When it sends too much
        answer = requests.post(url, data=body, auth=client.auth, timeout=60)

        # Then it gets the sentence, not a broken connection
        assert answer.status_code == 413
        assert "larger than" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "fields", "sentence"),
    [
        ("testpredictions/list/", {"list_submission_fold": [1] * 100_001}, "100000 items"),
        ("testpredictions/acknowledge/", {"list_submission_fold": [1] * 100_001}, "100000 items"),
        ("testpredictions/acknowledge/", {"task_ids": ["a"] * 100_001}, "100000 items"),
        ("rawdata/", {"files": dict.fromkeys(map(str, range(10_001)), "")}, "10000 texts"),
        ("rawdata/", {"files": dict.fromkeys(map(str, range(10_001)), 1)}, "10000 texts"),
        ("rawdata/", {"more": [1] * (1 << 20)}, "outside of texts"),
        ("rawdata/split/", {"more": [1] * (1 << 20)}, "outside of texts"),
        ("rawdata/", {"more": [[0]] * 1_000}, "1000 lists and objects"),
        ("rawdata/split/", {"more": [{}] * 1_000}, "1000 lists and objects"),
        ("submissionfold/", {"more": [[0]] * 1_000}, "1000 lists and objects"),
        ("testpredictions/list/", {"list_submission_fold": [[0]] * 1_000}, "1000 lists"),
    ],
)
def test_too_many_values_are_refused_with_a_sentence(
    rest: Rest, path: str, fields: dict[str, object], sentence: str
) -> None:
    known = data_set("iris", IRIS) if path.startswith("rawdata/") else {}
    answer = rest.post(path, **{**known, **fields})
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_millions_of_lists_in_a_field_that_is_ignored_take_no_memory(bare_stack: Stack) -> None:
    # Given a gateway that has answered once
    client = bare_stack.start_gateway()
    assert client.get("rawdata/").ok
    before = high_water(client)

    size = 15 << 20
    body = b'{"more": [' + b",".join([b"[0]"] * (size // 4)) + b"]}"
    for path in ("submissionfold/", "rawdata/"):
        # When a body comes that is small, but for a field that nobody knows
        url = f"{client.url}runapp/{path}"
        answer = requests.post(url, data=body, auth=client.auth, timeout=60)

        # Then it is refused, in little more memory than its bytes
        assert answer.status_code == 422
        assert high_water(client) - before < 4 * size


def test_brackets_in_texts_are_as_many_as_one_likes(rest: Rest) -> None:
    content = "petal length,species\n" + '"[1, {2}]",setosa\n' * 2_000
    assert rest.post("rawdata/", **data_set("iris", content)).status_code == 201


def test_text_that_needs_four_bytes_a_character_takes_no_more_memory(bare_stack: Stack) -> None:
    # Given a file of 40 MB of letters, one of which is an emoji
    client = bare_stack.start_gateway()
    assert client.get("rawdata/").ok
    before = high_water(client)
    content = "x,species\n" + "1,a\n" * 10_000_000 + "2,\N{CAT}\n"
    body = json.dumps(data_set("cats", content), ensure_ascii=False).encode()

    # When it is sent
    url = f"{client.url}runapp/rawdata/"
    answer = requests.post(url, data=body, auth=client.auth, timeout=60)

    # Then it takes the memory of its bytes
    assert answer.status_code == 201
    assert high_water(client) - before < 3 * len(body)
