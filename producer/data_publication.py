"""Publishing a data set: upload what is large, publish the message, wait until it is ready."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from broker.blobs import write_blob
from broker.blocking import BlockingLink
from producer.arguments import built
from producer.collector import Collector
from producer.files import FilesArgument, NamedFile, named_files
from producer.fold_messages import Dataset
from schemas.datasets import Split
from schemas.errors import CollectorUnreachable, DataError, DatarunError, FileError, MessageError
from schemas.files import File
from schemas.messages import DataMessage, UploadedFile, UploadMessage
from schemas.results import DatasetResult
from schemas.states import DatasetState, Visibility
from schemas.topology import DATA_QUEUE, KEY_DATA, KEY_UPLOAD, RESULTS, WORK
from schemas.wire import Envelope, pack, unpack

INLINE_BYTES = 1 << 20
"""Files up to so much together travel inside the message, readable in the management console.
JSON may write a byte as six characters, and a message has at most 8 MiB."""

ASK_AGAIN_SECONDS = 5.0

Progress = Callable[[int, int], None]
"""Called with the bytes uploaded so far, and all bytes to upload."""


class DataPublication:
    """One data set on its way to the collector's READY."""

    def __init__(
        self, link: BlockingLink, collector: Collector, url: str, app_id: str, timeout: float
    ) -> None:
        self._link = link
        self._collector = collector
        self._url = url
        self._app_id = app_id
        self._timeout = timeout
        self._message_id = uuid.uuid4().hex

    def run(
        self,
        *,
        name: str,
        files: FilesArgument,
        target_column: str | None,
        workflow_elements: str,
        split: Split,
        scoring: tuple[str, ...],
        uploader: str | None,
        timeout: float,
        on_progress: Progress | None,
    ) -> Dataset:
        """Raises DataError with the verdict, TimeoutError, MessageError and BrokerError."""
        deadline = time.monotonic() + timeout
        inline, large = _divided(named_files(files))
        blobs = {file.name: uuid.uuid4().hex for file in large}
        # Checked before gigabytes travel; sizes and digests are known once they have.
        draft = built(
            DataMessage,
            name=name,
            target_column=target_column,
            workflow_elements=workflow_elements,
            files={file.name: File.of(file.read()) for file in inline},
            uploads={
                file.name: UploadedFile(size=file.size, sha256="0" * 64, blob=blobs[file.name])
                for file in large
            },
            split=split,
            scoring=scoring,
            uploader=uploader,
        )
        uploads = self._upload(large, blobs, on_progress)
        message = draft.model_copy(update={"uploads": uploads})
        with self._link.subscribe(RESULTS, [f"data.{name}"], deadline=self._timeout) as news:
            envelope = pack(message, KEY_DATA, message_id=self._message_id, app_id=self._app_id)
            self._link.publish(WORK, envelope, deadline=self._timeout)
            if on_progress is not None:
                sent = sum(file.size for file in large or inline)
                on_progress(sent, sent)
            trouble = ""
            while True:
                left = max(deadline - time.monotonic(), 0)
                item = news.next(min(left, ASK_AGAIN_SECONDS))
                if isinstance(item, Envelope):
                    result = self._mine(item)
                else:
                    result, trouble = self._asked(left)
                if result is not None and result.state is not DatasetState.TODO:
                    return _outcome(result)
                if time.monotonic() >= deadline:
                    raise TimeoutError(self._overdue(name, timeout, trouble))

    def _upload(
        self,
        large: tuple[NamedFile, ...],
        blobs: Mapping[str, str],
        on_progress: Progress | None,
    ) -> dict[str, UploadedFile]:
        if not large:
            return {}
        announced = UploadMessage(
            owner=self._message_id,
            blobs=tuple((Visibility.RAW, blob) for blob in blobs.values()),
        )
        envelope = pack(announced, KEY_UPLOAD, app_id=self._app_id)
        self._link.publish(WORK, envelope, deadline=self._timeout)
        total, before = sum(file.size for file in large), 0
        uploads: dict[str, UploadedFile] = {}
        for file in large:

            def report(written: int, before: int = before) -> None:
                if on_progress is not None:
                    on_progress(before + written, total)

            with file.open() as source:
                size, sha256 = write_blob(
                    self._url, Visibility.RAW, blobs[file.name], source, on_progress=report
                )
            if size != file.size:
                raise FileError(
                    f"{file.name} changed while it was uploaded: {size} bytes, not {file.size}"
                )
            uploads[file.name] = UploadedFile(size=size, sha256=sha256, blob=blobs[file.name])
            before += size
        return uploads

    def _mine(self, envelope: Envelope) -> DatasetResult | None:
        try:
            message: Any = unpack(envelope)
        except MessageError:
            # From a newer collector, perhaps; the periodical question covers it.
            return None
        if isinstance(message, DatasetResult) and message.message_id == self._message_id:
            return message
        return None

    def _asked(self, left: float) -> tuple[DatasetResult | None, str]:
        """The data set as the collector sees it, or why it did not say."""
        try:
            records = self._collector.datasets(
                message_id=self._message_id, seconds=max(min(left, self._timeout), 1)
            )
        except CollectorUnreachable as error:
            # It may come back before the deadline; the message waits in its queue.
            return None, f"; {error}"
        return (records[0] if records else None), ""

    def _overdue(self, name: str, timeout: float, trouble: str) -> str:
        text = (
            f"data set {name!r} (message {self._message_id}) is neither ready nor failed after "
            f"{timeout:g} s{trouble}"
        )
        try:
            depth = self._link.queue_depth(DATA_QUEUE, deadline=self._timeout)
        except DatarunError as error:
            return f"{text}; {error}"
        if depth is not None and depth.consumers == 0:
            text += "; no worker prepares data sets: is `datarun worker --role prepare` running?"
        return text


def _divided(
    files: tuple[NamedFile, ...],
) -> tuple[tuple[NamedFile, ...], tuple[NamedFile, ...]]:
    """Those that travel in the message, the smallest first, and those that are uploaded."""
    inline: list[NamedFile] = []
    large: list[NamedFile] = []
    left = INLINE_BYTES
    for file in sorted(files, key=lambda file: file.size):
        left -= file.size
        (inline if left >= 0 else large).append(file)
    return tuple(inline), tuple(large)


def _outcome(result: DatasetResult) -> Dataset:
    if (
        result.state is DatasetState.FAILED
        or result.version is None
        or result.n_train is None
        or result.n_test is None
    ):
        why = str(result.verdict) if result.verdict else "the collector does not say why"
        raise DataError(f"data set {result.name!r} could not be prepared: {why}", result.verdict)
    classes = None if result.classes is None else np.asarray(result.classes.to_numpy())
    return Dataset(result.name, result.version, result.n_train, result.n_test, classes)
