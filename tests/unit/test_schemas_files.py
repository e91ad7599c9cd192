"""File names that are plain, contents that are what they say, 8 MiB together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from schemas.errors import ArrayError, FileError, MessageError
from schemas.files import MAX_SUBMISSION_BYTES, READABLE_BYTES, File, checked_name, decoded
from schemas.messages import DataMessage, FoldMessage
from schemas.wire import unpack
from tests.unit.schema_strategies import MANY, contents, dataset, envelope, fold


def read_fold(**changes: Any) -> FoldMessage:
    message = unpack(envelope(fold(**changes)))
    assert isinstance(message, FoldMessage)
    return message


def read_dataset(**changes: Any) -> DataMessage:
    message = unpack(envelope(dataset(**changes), DataMessage))
    assert isinstance(message, DataMessage)
    return message


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a.py",
        "a/b.py",
        "/etc/passwd",
        "a\\b.py",
        "C:\\a.py",
        ".hidden",
        "-rf",
        "a\n.py",
        "a\0.py",
        "a\x1b[0m.py",
        "a\u202e.py",
        " a.py",
        "a.py ",
        "a\u00a0.py",
        "a" * 201,
        "é" * 101,
        "\ud800.py",
    ],
    ids=lambda name: name[:10].encode("unicode_escape").decode(),
)
def test_a_name_that_is_no_plain_file_name_is_refused(name: str):
    # Given a path, a hidden or an unprintable name, or more than 200 bytes
    with pytest.raises(FileError):
        checked_name(name)
    with pytest.raises(MessageError):
        read_fold(files={name: "x"})
    with pytest.raises(MessageError):
        read_dataset(split={"file": name}, files={name: "x"})


@pytest.mark.parametrize(
    "name", ["classifier.py", "a b.csv", "données.csv", "a..b", "é" * 100, "_"]
)
def test_a_plain_file_name_is_taken(name: str):
    assert checked_name(name) == name
    assert name in read_fold(files={name: "x"}).files


@MANY
@given(contents)
def test_a_file_survives_a_round_trip(content: str | bytes):
    file = File.model_validate_json(File.of(content).model_dump_json())
    assert file.to_bytes() == (content.encode() if isinstance(content, str) else content)


def test_a_file_is_readable_in_the_console_unless_it_is_binary_or_large():
    assert File.of("x = 'é'\r\n").data == "x = 'é'\r\n"
    assert File.of(b"x = 1\n").encoding == "text"
    for content in (b"\xff", "a\0b", "x" * (READABLE_BYTES + 1)):
        assert File.of(content).encoding == "zlib+base64"


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ({"data": "abc", "size": 4}, "size"),
        ({"data": "é", "size": 1}, "size"),
        ({"data": "abc", "size": -1}, "size"),
        ({"data": 5}, "data"),
        ({"encoding": "gzip", "data": "x", "size": 1}, "encoding"),
        ({"encoding": "zlib+base64", "data": "eJw="}, "size"),
        ({}, "data"),
        (5, "files"),
        (None, "files"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(file: Any, reason: str):
    with pytest.raises(MessageError, match=reason):
        read_fold(files={"a.py": file})


def test_a_text_file_needs_no_size():
    assert read_fold(files={"a.py": {"data": "é"}}).files["a.py"].to_bytes() == "é".encode()


def test_a_compressed_file_that_inflates_past_its_size_is_refused():
    # Given a file of 10 MiB that says it has 10 bytes
    bomb = File.of(b"\xff" * (10 << 20)).model_copy(update={"size": 10})

    # Then it is refused when it is decoded
    with pytest.raises(ArrayError, match="the file inflates past"):
        decoded({"a.bin": bomb})


def test_the_files_of_a_submission_have_8_mebibytes_together():
    # Given exactly as much as there may be, and one byte more
    half = "x" * (MAX_SUBMISSION_BYTES // 2)
    assert read_fold(files={"a.py": half, "b.py": half})
    with pytest.raises(MessageError, match="8388609 bytes together"):
        read_fold(files={"a.py": half, "b.py": half, "c.py": "x"})


def test_a_submission_without_files_is_refused():
    with pytest.raises(MessageError, match="at least one file"):
        read_fold(files={})
