"""The functions of 2016: datarun over HTTP, for programs that know no messages.

Names, parameters and their order are those of the documents of 2016, and each function returns the
`requests.Response`: look at `.ok`, `.reason` and `.json()`. A refusal is an answer like any other,
with one sentence under `detail`. What raises: requests' own errors when there is no gateway at
`host_url`, and MessageError (a ValueError) for files and rows that cannot be sent.

host_url: such as `http://127.0.0.1:8000/`; `datarun status --json` says it, and user and password.
"""

from __future__ import annotations

import base64
import operator
import os
import zlib
from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import requests
from requests.auth import HTTPBasicAuth

from producer.files import PathLike, named_files
from schemas.errors import MessageError

__all__ = [
    "custom_post_split",
    "get_prediction_list",
    "get_prediction_new",
    "get_raw_data",
    "get_submission_fold",
    "get_submission_fold_detail",
    "get_submission_fold_light",
    "post_data",
    "post_split",
    "post_submission_fold",
]

TIMEOUT = (30.0, 600.0)
"""Seconds to connect, and between two bytes of an answer: nobody waits for ever for a dead host."""


Id = SupportsIndex | str
"""An integer: Python's, numpy's, or as text."""


def post_data(
    host_url: str,
    username: str,
    password: str,
    data_name: str,
    target_column: str | None,
    workflow_elements: str,
    data_file: PathLike,
    extra_files: PathLike | Iterable[PathLike] | None = None,
) -> requests.Response:
    """Register a data set; its id is `.json()["id"]`.

    data_name: 1 to 40 of letters, digits, `_` and `-`; taken for good once it is split.
    target_column: the CSV file's column to predict; None when a python file reads the data.
    workflow_elements: the files of a submission, such as `feature_extractor, classifier`.
    data_file: path of the CSV file, or of the first file that the python file reads.
    extra_files: paths of other files, or one; what ends in `.py` splits and reads the data.
    """
    body = {
        "name": data_name,
        "target_column": target_column,
        "workflow_elements": workflow_elements,
        "files": _encoded_files([data_file, *_paths(extra_files)]),
    }
    return _post(host_url, "rawdata/", username, password, body)


def post_split(
    host_url: str,
    username: str,
    password: str,
    held_out_test: float,
    raw_data_id: Id,
    random_state: int = 42,
) -> requests.Response:
    """Ask for a CSV data set to be split; folds may be posted at once, and wait for it.

    held_out_test: share of the rows that is kept for testing, between 0 and 1.
    random_state: seed of the shuffle; the same split twice is the same version.
    """
    body = {
        "random_state": _integer("random_state", random_state),
        "held_out_test": held_out_test,
        "raw_data_id": _integer("raw_data_id", raw_data_id),
    }
    return _post(host_url, "rawdata/split/", username, password, body)


def custom_post_split(
    host_url: str, username: str, password: str, raw_data_id: Id
) -> requests.Response:
    """Ask for a data set to be split by `prepare_data` of the python file that came with it."""
    body = {"raw_data_id": _integer("raw_data_id", raw_data_id)}
    return _post(host_url, "rawdata/customsplit/", username, password, body)


def post_submission_fold(
    host_url: str,
    username: str,
    password: str,
    sub_id: Id,
    sub_fold_id: Id,
    train_is: npt.ArrayLike,
    test_is: npt.ArrayLike,
    priority: str = "L",
    raw_data_id: Id | None = None,
    list_submission_files: PathLike | Iterable[PathLike] | None = None,
    force: str | None = None,
) -> requests.Response:
    """Post a submission on a CV fold; the id of its run is `.json()["task_id"]`.

    sub_id, sub_fold_id: databoard's ids of the submission and of the fold.
    train_is, test_is: rows of the training data, of shape (n_rows,).
    priority: `L` (low) or `H` (high), which overtakes every low one that waits.
    raw_data_id, list_submission_files: needed with the first fold of a submission; later ones
    inherit both. Paths of files, at most 8 MiB together.
    force: `submission_fold` runs a fold that exists again; `submission` replaces the submission's
    files, for folds to come; `submission, submission_fold` does both.
    """
    body: dict[str, Any] = {
        "databoard_sf_id": _integer("sub_fold_id", sub_fold_id),
        "databoard_s_id": _integer("sub_id", sub_id),
        "train_is": _encoded_rows("train_is", train_is),
        "test_is": _encoded_rows("test_is", test_is),
        "priority": priority,
    }
    if raw_data_id is not None:
        body["raw_data"] = _integer("raw_data_id", raw_data_id)
    if list_submission_files:
        body["files"] = _encoded_files(list_submission_files)
    if force:
        body["force"] = force
    return _post(host_url, "submissionfold/", username, password, body)


def get_prediction_list(
    host_url: str, username: str, password: str, list_submission_fold_id: Iterable[Id]
) -> requests.Response:
    """Predictions, times and logs of those folds among these that have ended.

    They are no longer new once the answer has arrived whole.
    """
    name = "list_submission_fold_id"
    # The digits of "12" would be the folds 1 and 2.
    ids: object = list_submission_fold_id
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise MessageError(f"{name}: give a list of ids, not {ids!r}")
    fold_ids = [_integer(name, fold_id) for fold_id in list_submission_fold_id]
    body = {"list_submission_fold": fold_ids}
    return _post(host_url, "testpredictions/list/", username, password, body)


def get_prediction_new(
    host_url: str, username: str, password: str, raw_data_id: Id | None
) -> requests.Response:
    """The same of every fold that has ended and is new.

    raw_data_id: only folds on this data set; None: on any.
    """
    body = {} if raw_data_id is None else {"raw_data_id": _integer("raw_data_id", raw_data_id)}
    return _post(host_url, "testpredictions/new/", username, password, body)


def get_raw_data(host_url: str, username: str, password: str) -> requests.Response:
    """All data sets, as a list."""
    return _get(host_url, "rawdata/", username, password)


def get_submission_fold(host_url: str, username: str, password: str) -> requests.Response:
    """All folds with all their fields, as a list. Predictions too, so it can be large."""
    return _get(host_url, "submissionfold/", username, password)


def get_submission_fold_light(host_url: str, username: str, password: str) -> requests.Response:
    """How all folds stand: databoard_sf_id, databoard_s, state and new."""
    return _get(host_url, "submissionfold-light/", username, password)


def get_submission_fold_detail(
    host_url: str, username: str, password: str, submission_fold_id: Id
) -> requests.Response:
    """One fold with all its fields."""
    fold_id = _integer("submission_fold_id", submission_fold_id)
    return _get(host_url, f"submissionfold/{fold_id}/", username, password)


def _post(
    host_url: str, call: str, username: str, password: str, body: dict[str, Any]
) -> requests.Response:
    return requests.post(
        _url(host_url, call), auth=_auth(username, password), json=body, timeout=TIMEOUT
    )


def _get(host_url: str, call: str, username: str, password: str) -> requests.Response:
    return requests.get(_url(host_url, call), auth=_auth(username, password), timeout=TIMEOUT)


def _url(host_url: str, call: str) -> str:
    if not host_url.startswith(("http://", "https://")):
        raise MessageError(f"host_url: {host_url!r} needs http:// or https:// at its beginning")
    return f"{host_url.rstrip('/')}/runapp/{call}"


def _auth(username: str, password: str) -> HTTPBasicAuth:
    # As bytes: requests would encode text as Latin-1, which the gateway does not read.
    return HTTPBasicAuth(username.encode("utf-8"), password.encode("utf-8"))


def _integer(name: str, value: Id) -> int:
    # As text, too: databoard's ids come from a command line. numpy's integers are no JSON.
    try:
        return int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        raise MessageError(f"{name}: {value!r} is not an integer") from None


def _paths(files: PathLike | Iterable[PathLike] | None) -> list[PathLike]:
    """A single path is a list of one: the letters of its name are no files."""
    if files is None:
        return []
    return [files] if isinstance(files, str | os.PathLike) else list(files)


def _encoded_files(files: PathLike | Iterable[PathLike]) -> dict[str, str]:
    """name -> base64(zlib(content)), as the documents say."""
    return {file.name: _encoded(file.read()) for file in named_files(files)}


def _encoded_rows(name: str, rows: npt.ArrayLike) -> str:
    """base64(zlib(int64, little-endian, in C order)), what numpy's int was in 2016."""
    array = np.asarray(rows)
    # An empty list has floats; a mask of booleans would be taken for the rows 0 and 1.
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise MessageError(
            f"{name}: give the numbers of rows, as a list or array of integers of one dimension, "
            f"not an array of type {array.dtype} and shape {array.shape}"
        )
    return _encoded(array.astype("<i8").tobytes())


def _encoded(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode("ascii")
