"""Files as JSON: plain text, or base64(zlib(bytes)) with the size declared."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from schemas.arrays import inflate
from schemas.errors import FileError
from schemas.frozen import Frozen

MAX_SUBMISSION_BYTES = 8 << 20
"""Largest total of a submission's files."""

READABLE_BYTES = 1 << 20
"""Text up to this size travels as it is. Past it nobody reads, and JSON's escapes would add up."""

MAX_NAME = 200
"""Longest file name, in bytes of UTF-8."""


class File(Frozen):
    """One file's content. `size` is its length in bytes once decoded; a text needs none."""

    model_config = ConfigDict(json_schema_extra={"required": ["data"]})

    encoding: Literal["text", "zlib+base64"] = "text"
    data: str
    size: Annotated[int, Field(ge=0)]

    @classmethod
    def of(cls, content: str | bytes) -> File:
        """Encode: UTF-8 text of a readable size stays so, everything else is compressed."""
        raw = _utf8(content) if isinstance(content, str) else content
        if len(raw) <= READABLE_BYTES and b"\0" not in raw:
            try:
                return cls(data=raw.decode("utf-8"), size=len(raw))
            except UnicodeDecodeError:
                pass
        packed = base64.b64encode(zlib.compress(raw, 6)).decode("ascii")
        return cls(encoding="zlib+base64", data=packed, size=len(raw))

    def to_bytes(self) -> bytes:
        """The content. Raises FileError, or ArrayError when it is not what `size` declares."""
        if self.encoding == "text":
            return _utf8(self.data)
        return bytes(inflate(self.data, self.size, "the file"))


def checked_name(name: str) -> str:
    """`name` itself when it is a plain file name; FileError says what is wrong with it."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        raise FileError(f"{name[:80]!r} is not a plain file name: leave out folders and '..'")
    if not name.isprintable() or name.startswith((".", "-", " ")) or name.endswith(" "):
        raise FileError(
            f"{name[:80]!r} is not a usable file name: it has control characters, "
            "begins with '.', '-' or a space, or ends with a space"
        )
    if len(_utf8(name)) > MAX_NAME:
        raise FileError(f"the file name {name[:40]!r}... is longer than {MAX_NAME} bytes")
    return name


def decoded(files: Mapping[str, File]) -> dict[str, bytes]:
    """Every file's content by name. Raises FileError or ArrayError."""
    return {name: file.to_bytes() for name, file in files.items()}


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FileError(f"text with a lone surrogate cannot be a file: {error}") from error


def _from_any(value: object) -> object:
    if isinstance(value, str | bytes):
        return File.of(value)
    if isinstance(value, dict) and value.get("encoding", "text") == "text" and "size" not in value:
        # Typed by hand in the management console: a text needs no size.
        data = value.get("data")
        return File.of(data) if isinstance(data, str) else value
    return value


def _checked_names(files: dict[str, File]) -> dict[str, File]:
    for name in files:
        checked_name(name)
    return files


def _checked_size(files: dict[str, File]) -> dict[str, File]:
    for file in files.values():
        if file.encoding == "text" and file.size != len(_utf8(file.data)):
            raise FileError("a text file's size is not the length of its data in UTF-8")
    total = sum(file.size for file in files.values())
    if total > MAX_SUBMISSION_BYTES:
        raise FileError(
            f"the files have {total} bytes together; at most {MAX_SUBMISSION_BYTES} are taken"
        )
    return files


AnyFile = Annotated[File, BeforeValidator(_from_any, json_schema_input_type=File | str)]
Files = Annotated[dict[str, AnyFile], AfterValidator(_checked_names), AfterValidator(_checked_size)]
"""File name -> content, at most 8 MiB together. Plain strings are taken as text."""
