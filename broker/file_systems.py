"""fsspec's file systems as an object store needs them: fresh, and without patience of their own."""

from __future__ import annotations

import logging
import os
import re
from typing import Any

from schemas.errors import ConfigurationError

logger = logging.getLogger(__name__)

PUT_BYTES = 16 << 20
"""A part of a multipart upload: S3 takes 10,000 of them, which makes 160 GiB."""

LEAST_SILENCE = 5.0
MOST_SILENCE = 20.0
"""Seconds without a byte after which a request has failed. Whoever has little patience must hear of
it soon; less than the least, and a store that is only slow would never be done."""

_S3_CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "request_checksum_calculation",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "response_checksum_validation",
}
"""Many servers do not know S3's newer checksums; a reader compares the SHA-256 in any case."""

_MISCONFIGURED = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError")


def file_system(root: str, patience: float) -> Any:
    """That of the scheme of an object store's URL, for whoever asks it with so much patience.

    Raises ConfigurationError.
    """
    scheme = root.partition("://")[0]
    try:
        import fsspec

        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if scheme == "s3":
            checksums = {
                option: "when_required"
                for variable, option in _S3_CHECKSUMS.items()
                if variable not in os.environ
            }
            options["default_block_size"] = PUT_BYTES
            options["config_kwargs"] = checksums | {
                "connect_timeout": LEAST_SILENCE,
                "read_timeout": max(LEAST_SILENCE, min(patience, MOST_SILENCE)),
                # Its own repetitions would make ours wait for minutes.
                "retries": {"total_max_attempts": 1},
            }
        files = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        package = {"s3": "datarun[s3]", "gs": "gcsfs"}.get(scheme, "fsspec")
        raise ConfigurationError(
            f"setting blobs (DATARUN_BLOBS): {scheme}:// needs a package that is not installed "
            f"({error}): pip install '{package}'"
        ) from error
    if scheme == "s3":
        files.retries = 1
    return files


def missing_folder(root: str | None) -> str | None:
    """A sentence, when there is an object store that is a folder, and it is not there."""
    if root is None or not root.startswith("file://"):
        return None
    folder = root.removeprefix("file://")
    if os.path.isdir(folder):
        return None
    return (
        f"setting blobs (DATARUN_BLOBS): {folder} is not a folder; make it, or mount the disk "
        "that it is on (datarun never makes it itself)"
    )


def warn_of_missing_folder(root: str | None) -> None:
    """A service starts without it: the disk may be away for a while, and all else goes on."""
    if sentence := missing_folder(root):
        logger.warning(sentence, extra={"action": "blobs_missing"})


def is_refusal(error: Exception) -> bool:
    """Whether the store refuses who asks, which waiting does not end."""
    return isinstance(error, PermissionError) or type(error).__name__ in _MISCONFIGURED


def without_secrets(text: str) -> str:
    """The text of an error; an endpoint may be written with a password."""
    return re.sub(r"//[^/@\s]+@", "//", text)
