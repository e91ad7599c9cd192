"""`datarun dead-letters list | show | replay | discard`: what could not be read or done."""

from __future__ import annotations

import sys
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datarun.cli.console import Json, print_json, stderr, stdout, table
from datarun.cli.options import BrokerUrl

if TYPE_CHECKING:
    from broker.dead_letters import DeadLetter, DeadLetters

app = typer.Typer(
    help="Look at messages that could not be read or done, mend them, send them again.",
    no_args_is_help=True,
)

SHOWN = 100
_SHORT = 12
"""Characters of an id in the table; as few as tell letters apart may be typed."""

LetterId = Annotated[
    str, typer.Argument(metavar="ID", help="The letter's id, or the beginning of it.")
]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the oldest first.")] = SHOWN,
    broker: BrokerUrl = None,
    json: Json = False,
) -> None:
    """List dead letters with their reasons; it takes none away."""
    found: list[DeadLetter] = []
    more = False
    with _opened(broker) as dead:
        for letter in dead.letters():
            if len(found) == limit:
                more = True
                break
            found.append(letter)
    if json:
        print_json([_document(letter) for letter in found])
        return
    if not found:
        stdout().print("There are no dead letters.")
        return
    rows = [
        (
            _plain(letter.id[:_SHORT]),
            _plain(letter.source),
            len(letter.envelope.body),
            _plain(letter.reason),
        )
        for letter in found
    ]
    stdout().print(table(("id", "key", "bytes", "reason"), rows, right=("bytes",)))
    if more:
        stdout().print(f"These are the oldest {limit}, there are more: see --limit.")


@app.command()
def show(
    letter_id: LetterId,
    body: Annotated[
        bool, typer.Option("--body", metavar="", help="Print the body alone, to be mended.")
    ] = False,
    broker: BrokerUrl = None,
    json: Json = False,
) -> None:
    """Show one dead letter with its body; it stays where it is."""
    with _opened(broker) as dead:
        letter = _found(dead, letter_id)
    content = letter.envelope.body
    if json:
        print_json(_document(letter) | _body(content))
        return
    if body and not sys.stdout.isatty():
        # Byte for byte: it goes into a file.
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    console = stdout()
    if not body:
        for name, value in _document(letter).items():
            if value is not None:
                console.print(f"{name}: {_plain(str(value))}", markup=False, soft_wrap=True)
        console.print()
    text = _plain(content.decode(errors="replace"))
    console.print(text, markup=False, soft_wrap=True)


@app.command()
def replay(
    letter_id: LetterId,
    body: Annotated[
        Path | None,
        typer.Option(
            "--body",
            exists=True,
            dir_okay=False,
            help="A file with the mended body; otherwise the letter goes as it is.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="The routing key to send it with, when that was mistyped.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Run again a fold that has a verdict.")
    ] = False,
    broker: BrokerUrl = None,
    json: Json = False,
) -> None:
    """Send a dead letter again, mended or as it is; it is taken away once RabbitMQ has the message.

    It goes by the routing key that it was published with, and with its priority.
    """
    with _opened(broker) as dead:
        letter = _found(dead, letter_id)
        mended = None if body is None else body.read_bytes()
        envelope = letter.replayed(mended, key=key, force=force)
        dead.replay(letter, envelope)
    if json:
        names = {"key": envelope.routing_key, "message_id": envelope.message_id}
        print_json({"replayed": letter.id, **names})
    else:
        sentence = f"sent again with key {_plain(envelope.routing_key)}, as {envelope.message_id}"
        stdout().print(sentence, markup=False)


@app.command()
def discard(letter_id: LetterId, broker: BrokerUrl = None, json: Json = False) -> None:
    """Throw a dead letter away."""
    with _opened(broker) as dead:
        letter = _found(dead, letter_id)
        dead.discard(letter)
    if json:
        print_json({"discarded": letter.id})
    else:
        stdout().print(f"{_plain(letter.id)} is gone", markup=False)


def _opened(broker: str | None) -> DeadLetters:
    from broker.dead_letters import DeadLetters

    return DeadLetters(operators_url(broker))


def operators_url(broker: str | None) -> str:
    """Of the RabbitMQ that is named or set; of a running stack with the console's login.

    A producer's login need not do: it has no business in the dead letters.
    """
    from urllib.parse import quote, urlsplit

    from schemas.settings import broker_url, find_home, load_settings, read_connection

    configured = load_settings(broker=broker).broker
    if configured is not None:
        return broker_url(configured.get_secret_value())
    url, home = broker_url(), find_home()
    login = read_connection(home) if home is not None else {}
    if "user" not in login or "password" not in login:
        return url
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    user, password = (quote(login[name], safe="") for name in ("user", "password"))
    return parts._replace(netloc=f"{user}:{password}@{place}").geturl()


def _found(dead: DeadLetters, letter_id: str) -> DeadLetter:
    """The oldest letter whose id begins so."""
    from schemas.errors import RequestError

    matching = [letter for letter in dead.letters() if letter.id.startswith(letter_id)]
    if not matching or not letter_id:
        raise RequestError(
            f"there is no dead letter {letter_id!r}; `datarun dead-letters list` lists all"
        )
    ids = sorted({letter.id for letter in matching})
    if len(ids) > 1 and letter_id not in ids:
        raise RequestError(f"{letter_id!r} is the beginning of {len(ids)} ids: type more of it")
    same = [letter for letter in matching if letter.id == (letter_id if len(ids) > 1 else ids[0])]
    if len(same) > 1:
        stderr().print(f"{len(same)} dead letters have this id; this is the oldest")
    return same[0]


def _document(letter: DeadLetter) -> dict[str, Any]:
    envelope = letter.envelope
    return {
        "id": letter.id,
        "reason": letter.reason,
        "key": letter.source,
        "type": envelope.type,
        "priority": envelope.priority,
        "published_at": envelope.timestamp.isoformat() if envelope.timestamp else None,
        "bytes": len(envelope.body),
    }


def _body(content: bytes) -> dict[str, str]:
    try:
        return {"body": content.decode()}
    except UnicodeDecodeError:
        return {"body_base64": b64encode(content).decode()}


def _plain(text: str) -> str:
    """What nothing in moves a terminal's cursor."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
