"""base64(zlib(...)), the text in which clients of 2016 send bytes: inflated a piece at a time."""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Iterable, Iterator

from schemas.errors import ArrayError

PIECE_BYTES = 4 << 20
"""No more is inflated before whoever asks has seen it: a text may swell a thousandfold."""

# Possessive (`++`): none of it is tried again, so a hostile text takes no more than linear time.
_BASE64 = re.compile(rb"([A-Za-z0-9+/\r\n]++)(={0,2}+)\s*+")
_NO_DIGITS = b"= \t\n\r\v\f"


def is_packed(text: bytes) -> bool:
    """Whether `text` is base64 of what begins as zlib data does.

    Method 8, and a check of the first two bytes: RFC 1950, section 2.2.
    """
    match = _BASE64.fullmatch(text)
    if match is None:
        return False
    end = match.end(1)
    left = (end - text.count(b"\n", 0, end) - text.count(b"\r", 0, end)) % 4
    if left == 1 or (left and left + len(match[2]) < 4):
        return False
    begin = next(_unpacked(text[:1024]), b"")
    return len(begin) > 2 and begin[0] & 0x0F == 8 and (begin[0] << 8 | begin[1]) % 31 == 0


def inflated(text: bytes) -> Iterator[bytes]:
    """What a text that `is_packed` stands for, in pieces of at most PIECE_BYTES.

    Raises ArrayError when it is damaged.
    """
    inflater = zlib.decompressobj()
    try:
        for packed in _unpacked(text):
            while True:
                piece = inflater.decompress(packed, PIECE_BYTES)
                packed = inflater.unconsumed_tail
                if piece:
                    yield piece
                if inflater.unused_data:
                    raise ArrayError("base64 of zlib data that goes on beyond its end")
                if not packed and len(piece) < PIECE_BYTES:
                    break
    except zlib.error as error:
        raise ArrayError(f"base64 of damaged zlib data: {error}") from error
    if not inflater.eof:
        raise ArrayError("base64 of zlib data without its end")


def swells(texts: Iterable[bytes]) -> bool:
    """Whether they inflate to more than PIECE_BYTES together. Inflates no more than that."""
    left = PIECE_BYTES
    for text in texts:
        if not is_packed(text):
            continue
        try:
            for piece in inflated(text):
                left -= len(piece)
                if left < 0:
                    return True
        except ArrayError:
            continue  # Whoever takes it says so.
    return False


def _unpacked(text: bytes) -> Iterator[bytes]:
    """What base64 stands for, in pieces."""
    rest = b""
    for start in range(0, len(text), PIECE_BYTES):
        digits = rest + text[start : start + PIECE_BYTES].translate(None, _NO_DIGITS)
        whole = len(digits) & ~3
        rest = digits[whole:]
        yield binascii.a2b_base64(digits[:whole])
    if len(rest) > 1:
        yield binascii.a2b_base64(rest + b"==")
