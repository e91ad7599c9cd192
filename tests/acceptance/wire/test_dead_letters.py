"""`datarun dead-letters`: looked at without being taken, mended, sent again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from schemas.asyncapi.flowers import CLASSIFIER, FLOWERS
from schemas.states import FoldState
from schemas.topology import DEAD, DEAD_LETTERS_QUEUE, WORK, folds_queue
from tests.support.command import Folder
from tests.support.deadline import wait_until
from tests.support.pages import Reader, run_by
from tests.support.wire import IDLE_POOL, Wire

WITHIN = 60
LETTER = {
    "submission_id": 301,
    "dataset": "lilies",
    "files": {"classifier.py": CLASSIFIER},
    "train_is": list(range(12)),
    "test_is": "the others",
}


@pytest.fixture(scope="module")
def lilies(wire: Wire) -> None:
    """The data set of all folds here."""
    content = {
        "name": "lilies",
        "target_column": "species",
        "workflow_elements": "classifier",
        "files": {"lilies.csv": FLOWERS},
        "split": {"held_out_test": 0.25},
    }
    assert wire.console.publish(WORK, "data", json.dumps(content))


@pytest.fixture
def shell(wire: Wire, tmp_path: Path) -> Folder:
    """Somebody who types commands; DATARUN_BROKER names the stack."""
    return Shell(tmp_path, wire.vhost.admin_url)


class Shell(Folder):
    def __init__(self, path: Path, broker: str) -> None:
        super().__init__(path)
        self._broker = broker

    def run(self, *arguments: str, **settings: Any) -> Any:
        return super().run(*arguments, **{"DATARUN_BROKER": self._broker, **settings})


def put_aside(
    wire: Wire,
    fold_id: int,
    message_id: str | None = None,
    key: str = "folds.default",
    **fields: Any,
) -> None:
    """A fold that no worker can read, among the dead letters."""
    properties = {"message_id": message_id, "priority": 5} if message_id else {}
    body = json.dumps({**LETTER, "submission_fold_id": fold_id, **fields}).encode()
    wire.program.publish(WORK, key, body, properties)
    about = f'"submission_fold_id": {fold_id}'

    def there() -> bool:
        return any(about in row["payload"] for row in wire.console.get(DEAD_LETTERS_QUEUE))

    wait_until(there, within=WITHIN, what="the dead letter")


def ids(shell: Folder) -> list[str]:
    return [letter["id"] for letter in shell.json("dead-letters", "list")]


def test_they_are_listed_and_shown_and_stay(wire: Wire, shell: Folder) -> None:
    # Given a fold that cannot be read
    put_aside(wire, 3001, "letter-3001")

    # When it is listed and shown
    [letter] = [one for one in shell.json("dead-letters", "list") if one["id"] == "letter-3001"]
    shown = shell.succeed("dead-letters", "show", "letter-3001")

    # Then there are the reason, what it was published with, and its body
    assert letter["reason"].startswith("not a datarun.fold.v1 message: test_is")
    assert (letter["key"], letter["priority"]) == ("folds.default", 5)
    assert f"reason: {letter['reason']}" in shown
    assert "the others" in shown
    assert ": None" not in shown

    # And it is still there
    assert "letter-3001" in shell.succeed("dead-letters", "list")


@pytest.mark.usefixtures("lilies")
def test_what_the_console_s_page_does_with_a_dead_letter_works(wire: Wire, tmp_path: Path) -> None:
    # Given the fold that the page has somebody mistype
    rows = {"train_is": [0, 1, 1], "test_is": [4, 5]}
    put_aside(wire, 3006, "1b7d88f12483ee00", **rows)
    (block,) = run_by(__file__, "docs/console.md")

    # When what follows each `$` is typed, by somebody whose editor mends the row
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nexec sed -i 's/1, 1]/1, 2]/' \"$1\"\n")
    editor.chmod(0o755)
    reader = Reader(
        tmp_path,
        change=lambda text: text.replace("$ editor ", f"$ {editor} "),
        DATARUN_BROKER=wire.vhost.admin_url,
    )
    said = reader.type_in(block)

    # Then it prints what the page shows, but for sizes and ids
    for line in block.code.splitlines():
        if not line.startswith("$ "):
            words = re.sub(r"\b([0-9a-f]{32}|[0-9]+)\b(?! is)", "@", " ".join(line.split()))
            pattern = re.escape(words).replace("@", r"\w+").replace(r"\ ", r"\s+")
            assert re.search(pattern, said), f"{line}\n{said}"

    # And the fold is tested
    def again() -> bool:
        return next(iter(wire.client.folds([3006]))).generation == 2

    wait_until(again, within=WITHIN, what="the new run")
    [result] = wire.client.follow([3006], timeout=WITHIN)
    assert result.state is FoldState.TESTED, result.log_messages


@pytest.mark.usefixtures("lilies")
def test_a_mended_fold_is_sent_again_and_tested(wire: Wire, shell: Folder) -> None:
    # Given a fold that cannot be read, and whose failure is stored
    put_aside(wire, 3002, "letter-3002")
    [failed] = wire.client.follow([3002], timeout=WITHIN)
    assert failed.state is FoldState.ERROR

    # When its body is mended, and sent again
    body = shell.path / "fold.json"
    body.write_text(shell.succeed("dead-letters", "show", "letter-3002", "--body"))
    body.write_text(body.read_text().replace('"the others"', "[12, 13, 14, 15, 16, 17]"))
    sent = shell.json("dead-letters", "replay", "letter-3002", "--body", str(body))

    # Then it is tested, in a new run, and the letter is gone
    def again() -> bool:
        return next(iter(wire.client.folds([3002]))).generation == 2

    wait_until(again, within=WITHIN, what="the new run")
    [result] = wire.client.follow([3002], timeout=WITHIN)
    assert result.state is FoldState.TESTED, result.log_messages
    assert result.run_id == sent["message_id"]
    assert "letter-3002" not in ids(shell)


def test_the_message_keeps_its_priority_and_tells_where_it_comes_from(
    wire: Wire, shell: Folder
) -> None:
    # Given a fold for a pool that had no queue when it was published
    body = json.dumps({**LETTER, "submission_fold_id": 3003, "test_is": [12], "pool": IDLE_POOL})
    headers = {"datarun-reason": "pool 'gpu' has no queue", "datarun-source": f"folds.{IDLE_POOL}"}
    properties = {"message_id": "letter-3003", "priority": 5}
    wire.worker.publish(DEAD, "folds.gpu", body.encode(), {**properties, **headers})

    # When it is sent again
    sent = shell.json("dead-letters", "replay", "letter-3003", "--force")

    # Then it waits in that queue
    def waiting() -> list[Any]:
        rows = wire.console.get(folds_queue(IDLE_POOL))
        return [row for row in rows if '"submission_fold_id": 3003' in row["payload"]]

    [row] = wait_until(waiting, within=WITHIN, what="the fold in its queue")
    assert row["properties"]["message_id"] == sent["message_id"] != "letter-3003"
    assert row["properties"]["priority"] == 5
    assert row["properties"]["headers"] == {"datarun-replayed": "letter-3003"}
    assert json.loads(row["payload"])["force"] is True


def test_a_message_with_a_mistyped_key_is_sent_with_another(wire: Wire, shell: Folder) -> None:
    # Given a fold whose routing key nobody reads
    put_aside(wire, 3005, "letter-3005", key="fold.gpu", test_is=[12], pool=IDLE_POOL)

    # When it is sent again as it is
    done = shell.run("dead-letters", "replay", "letter-3005")

    # Then it is refused, and the right key does
    assert done.returncode == 1
    assert "no worker reads messages with routing key 'fold.gpu'" in done.stderr
    shell.succeed("dead-letters", "replay", "letter-3005", "--key", "folds.gpu", "--force")
    waiting = [row["payload"] for row in wire.console.get(folds_queue(IDLE_POOL))]
    assert any('"submission_fold_id": 3005' in body for body in waiting)


def test_what_would_come_straight_back_is_not_sent(wire: Wire, shell: Folder) -> None:
    # Given a fold that cannot be read, typed into the console: it has no id
    put_aside(wire, 3004)
    [letter] = [
        row["properties"]["message_id"]
        for row in wire.console.get(DEAD_LETTERS_QUEUE)
        if '"submission_fold_id": 3004' in row["payload"]
    ]
    assert len(letter) == 64

    # When it is sent again as it is
    done = shell.run("dead-letters", "replay", letter[:20])

    # Then it is refused with the reason, and stays
    assert done.returncode == 1
    assert "test_is" in done.stderr
    assert letter in ids(shell)

    # Until it is thrown away
    shell.succeed("dead-letters", "discard", letter)
    assert letter not in ids(shell)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "nothing-begins-so"), "there is no dead letter 'nothing-begins-so'"),
        (("show", "twin-"), "type more of it"),
    ],
)
def test_ids_that_name_no_letter(
    wire: Wire, shell: Folder, arguments: tuple[str, ...], says: str
) -> None:
    for name in ("twin-1", "twin-2"):
        wire.worker.publish(DEAD, "folds.default", os.urandom(8), {"message_id": name})
    done = shell.run("dead-letters", *arguments)
    assert done.returncode == 1
    assert says in done.stderr


def test_an_id_is_shown_as_text_whatever_is_in_it(wire: Wire, shell: Folder) -> None:
    # Given a letter whose id is markup, and would clear a terminal
    name = "[/x]\x1b[2J"
    wire.worker.publish(DEAD, "folds.\x1b[2J", os.urandom(8), {"message_id": name})

    # When it is listed and thrown away
    said = shell.succeed("dead-letters", "list") + shell.succeed("dead-letters", "discard", "[/x]")

    # Then it is said of it
    assert "[/x]\N{REPLACEMENT CHARACTER}[2J is gone" in said
    assert "\x1b" not in said
    assert name not in ids(shell)
