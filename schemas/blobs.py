"""Where the parts of data sets are kept: on streams, or in the object store of one setting."""

from __future__ import annotations

import re
import uuid

STORED_PREFIX = "stored-"
"""How the ids of blobs in the object store begin; all others are streams.

A message says no more than that. Which store it is says the setting of whoever reads, so that no
message can make a service read another address, or another file of its disk.
"""

_SCHEMES = ("file", "s3", "gs")
_URL = re.compile(r"(?P<scheme>[a-z0-9]+)://(?P<place>[A-Za-z0-9._~/+-]*)")
_EXAMPLES = "for instance file:///srv/datarun/blobs or s3://bucket/prefix"


def is_stored(blob: str) -> bool:
    """Whether that blob is in the object store, not a stream."""
    return blob.startswith(STORED_PREFIX)


def new_stored_blob() -> str:
    """An id that nobody has used, of a blob for the object store."""
    return STORED_PREFIX + uuid.uuid4().hex


def checked_store_url(text: str) -> str:
    """The URL of an object store, without a slash at its end. Raises ValueError.

    Its sentence does not repeat the URL, where somebody may have written a password.
    """
    if "@" in text:
        raise ValueError(
            "the URL holds a user or a password; give them as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or in fsspec's own configuration"
        )
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] not in _SCHEMES:
        raise ValueError(f"no file://, s3:// or gs:// URL of plain names; {_EXAMPLES}")
    place = match["place"].rstrip("/")
    if match["scheme"] == "file" and not place.startswith("/"):
        raise ValueError("file:// takes an absolute path; " + _EXAMPLES)
    if not place.strip("/") or ".." in place.split("/"):
        raise ValueError("the URL names no bucket or folder; " + _EXAMPLES)
    if match["scheme"] != "file" and place.startswith("/"):
        raise ValueError("the URL names no bucket; " + _EXAMPLES)
    return f"{match['scheme']}://{place}"
