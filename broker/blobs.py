"""Parts of data sets on streams: written once by one writer, read by any number of readers.

A blob is the stream `datarun.blob.<visibility>.<id>`: chunks of 1 MiB, each with its number in a
header, then a trailer that counts them. A chunk whose confirm was lost is written again, so a
number may stand there twice, with the same bytes; a reader takes the first and skips the others.
Publishing goes through exchange `datarun.blobs.<visibility>`: rights are cut by visibility.
Streams over AMQP 0-9-1: https://www.rabbitmq.com/docs/streams (a consumer needs a prefetch, and
acknowledges; x-stream-offset says where it begins).
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pika
from pydantic import ValidationError

from broker.session import ConnectionLost, Session
from schemas.datasets import BlobTrailer
from schemas.errors import AccessRefused, BlobError, BrokerUnreachable
from schemas.states import Visibility
from schemas.topology import CHUNK_HEADER, StreamQueue, blob_stream, blobs_exchange

CHUNK_BYTES = 1 << 20
WINDOW = 16
"""Chunks that may be under way, unconfirmed or unread."""

PATIENCE = 60.0
"""Seconds without any progress after which writing or reading gives up."""

_RETRY_SECONDS = 0.5
_NOT_FOUND = 404

Progress = Callable[[int], None]


def write_blob(
    url: str,
    visibility: Visibility,
    blob: str,
    source: BinaryIO | bytes,
    *,
    on_progress: Progress | None = None,
    patience: float = PATIENCE,
) -> tuple[int, str]:
    """Write `source`, from where it stands to its end, as blob `blob`; return size and SHA-256.

    `blob` must be new. `on_progress` is called with the bytes confirmed so far. A lost connection
    is opened again; BlobError after `patience` seconds without progress, or when refused.
    """
    stream = blob_stream(visibility, blob)
    writer = _Writer(
        stream,
        blobs_exchange(visibility),
        io.BytesIO(source) if isinstance(source, bytes) else source,
    )
    _persist(
        url,
        f"writing data-set part {stream}",
        patience,
        lambda session: writer.run(session, on_progress, patience),
        lambda: writer.confirmed,
    )
    return writer.size, writer.digest.hexdigest()


def read_blob(
    url: str,
    visibility: Visibility,
    blob: str,
    target: BinaryIO,
    *,
    size: int,
    sha256: str,
    on_progress: Progress | None = None,
    patience: float = PATIENCE,
) -> None:
    """Read blob `blob` into `target`, never more than `size` bytes.

    `on_progress` is called with the bytes read so far. Raises BlobError when it is missing,
    incomplete, longer, or altered, or when nothing comes for `patience` seconds.
    """
    stream = blob_stream(visibility, blob)
    reader = _Reader(stream, target, size, sha256)
    _persist(
        url,
        f"reading data-set part {stream}",
        patience,
        lambda session: reader.run(session, on_progress, patience),
        lambda: reader.next_chunk,
    )


def delete_blob(url: str, visibility: Visibility, blob: str) -> None:
    """Delete a blob; nothing happens when there is none. Raises BlobError when refused."""
    stream = blob_stream(visibility, blob)

    def delete(session: Session) -> None:
        deleted: list[Any] = []
        session.channel.queue_delete(stream, callback=deleted.append)
        if not session.wait(lambda: bool(deleted), PATIENCE):
            raise BlobError(f"RabbitMQ did not answer within {PATIENCE:.0f} s of deleting {stream}")

    _persist(url, f"deleting data-set part {stream}", PATIENCE, delete, lambda: 0)


class _Writer:
    """What is known of a blob while it is written, over as many connections as it takes."""

    def __init__(self, stream: str, exchange: str, source: BinaryIO) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self.confirmed = 0
        self._stream = stream
        self._exchange = exchange
        self._messages = self._cut(source)
        self._unconfirmed: deque[tuple[int | None, bytes]] = deque()
        self._ended = False

    def run(self, session: Session, on_progress: Progress | None, patience: float) -> None:
        """Publish what is not confirmed yet, then the rest, then the trailer."""
        channel = session.channel
        self._declare(session, patience)
        faults: list[str] = []
        in_flight = list(self._unconfirmed)
        settled = 0

        def on_confirm(frame: Any) -> None:
            nonlocal settled
            if isinstance(frame.method, pika.spec.Basic.Nack):
                faults.append("RabbitMQ refused a chunk (nack)")
                return
            # One writer on one stream: confirmed in the order of publishing.
            while settled < frame.method.delivery_tag:
                self._unconfirmed.popleft()
                settled += 1
                self.confirmed += 1

        channel.add_on_return_callback(
            lambda _channel, method, _properties, _body: faults.append(method.reply_text)
        )
        ready: list[Any] = []
        channel.confirm_delivery(on_confirm, callback=ready.append)
        self._await(session, lambda: bool(ready), patience)
        for number, body in in_flight:
            self._publish(session.channel, number, body)
        while not self._ended or self._unconfirmed:
            before = self.confirmed
            while not self._ended and len(self._unconfirmed) < WINDOW:
                number, body = next(self._messages)
                self._ended = number is None
                self._unconfirmed.append((number, body))
                self._publish(session.channel, number, body)
            self._await(session, lambda: self.confirmed > before or bool(faults), patience)  # noqa: B023
            if faults:
                raise BlobError(f"data-set part {self._stream} was refused: {faults[0]}")
            if on_progress is not None:
                on_progress(min(self.confirmed * CHUNK_BYTES, self.size))

    def _declare(self, session: Session, patience: float) -> None:
        answers: list[Any] = []
        queue = StreamQueue(self._stream)
        session.channel.queue_declare(
            self._stream,
            durable=queue.durable,
            arguments={"x-queue-type": "stream"},
            callback=answers.append,
        )
        session.channel.queue_bind(
            self._stream, self._exchange, routing_key=self._stream, callback=answers.append
        )
        self._await(session, lambda: len(answers) == 2, patience)

    def _await(self, session: Session, condition: Callable[[], bool], patience: float) -> None:
        if not session.wait(condition, patience):
            raise BlobError(
                f"RabbitMQ confirmed nothing of data-set part {self._stream} for {patience:.0f} s; "
                "a memory, disk or file-descriptor alarm of the broker stops publishers"
            )

    def _publish(self, channel: Any, number: int | None, body: bytes) -> None:
        properties = pika.BasicProperties(
            delivery_mode=2, headers=None if number is None else {CHUNK_HEADER: number}
        )
        channel.basic_publish(self._exchange, self._stream, body, properties, mandatory=True)

    def _cut(self, source: BinaryIO) -> Iterator[tuple[int | None, bytes]]:
        number = 0
        while chunk := _read_full(source):
            self.size += len(chunk)
            self.digest.update(chunk)
            yield number, chunk
            number += 1
        trailer = BlobTrailer(chunks=number, size=self.size, sha256=self.digest.hexdigest())
        yield None, trailer.model_dump_json().encode()


class _Reader:
    """What is known of a blob while it is read, over as many connections as it takes."""

    def __init__(self, stream: str, target: BinaryIO, size: int, sha256: str) -> None:
        self.next_chunk = 0
        self._stream = stream
        self._target = target
        self._size = size
        self._sha256 = sha256
        self._got = 0
        self._digest = hashlib.sha256()
        self._offset: int | str = "first"

    def run(self, session: Session, on_progress: Progress | None, patience: float) -> None:
        """Consume up to the trailer."""
        channel = session.channel
        deliveries: deque[tuple[int, Any, bytes]] = deque()
        cancelled: list[Any] = []
        channel.add_on_cancel_callback(cancelled.append)
        channel.basic_qos(prefetch_count=WINDOW)
        channel.basic_consume(
            self._stream,
            lambda _channel, method, properties, body: deliveries.append(
                (method.delivery_tag, properties.headers or {}, body)
            ),
            arguments={"x-stream-offset": self._offset},
        )
        while True:
            if not session.wait(lambda: bool(deliveries or cancelled), patience):
                raise self._fault(f"nothing more came for {patience:.0f} s")
            if not deliveries:
                raise self._fault("it was deleted meanwhile")
            tag, headers, body = deliveries.popleft()
            if self._take(headers.get(CHUNK_HEADER), body):
                return
            self._offset = headers["x-stream-offset"] + 1
            session.channel.basic_ack(tag)
            if on_progress is not None:
                on_progress(self._got)

    def _take(self, number: object, body: bytes) -> bool:
        """Take one message; True when it is the trailer and everything is right."""
        if number is None:
            self._check_end(body)
            return True
        if not isinstance(number, int) or number > self.next_chunk:
            raise self._fault(f"chunk {number!r} follows where {self.next_chunk} should")
        if number < self.next_chunk:
            return False
        if self._got + len(body) > self._size:
            raise self._fault("it is longer than that")
        self._target.write(body)
        self._digest.update(body)
        self._got += len(body)
        self.next_chunk += 1
        return False

    def _check_end(self, body: bytes) -> None:
        try:
            trailer = BlobTrailer.model_validate_json(body)
        except ValidationError as error:
            raise self._fault("its trailer is not readable") from error
        if (trailer.chunks, trailer.size) != (self.next_chunk, self._got):
            raise self._fault(f"its trailer counts {trailer.chunks} chunks, {trailer.size} bytes")
        if self._got != self._size:
            raise self._fault("it ends there")
        if self._digest.hexdigest() != self._sha256:
            raise self._fault("it is altered: its SHA-256 is not the announced one")

    def _fault(self, what: str) -> BlobError:
        return BlobError(
            f"data-set part {self._stream}, {self._got} of {self._size} bytes read: {what}"
        )


def _persist(
    url: str,
    what: str,
    patience: float,
    task: Callable[[Session], None],
    progress: Callable[[], int],
) -> None:
    """Run `task` on a connection, and again on another one as often as one is lost in between."""
    deadline, reached = time.monotonic() + patience, progress()
    while True:
        try:
            with Session(url, f"datarun: {what}") as session:
                return task(session)
        except AccessRefused:
            raise
        except (ConnectionLost, BrokerUnreachable) as error:
            reply_code = getattr(error, "reply_code", None)
            if reply_code == _NOT_FOUND:
                raise BlobError(f"{what}: it does not exist ({error})") from error
            if isinstance(reply_code, int) and reply_code >= 400:
                raise BlobError(f"{what}: {error}") from error
            if progress() > reached:
                deadline, reached = time.monotonic() + patience, progress()
            if time.monotonic() >= deadline:
                raise BlobError(f"{what}: {error}") from error
            time.sleep(_RETRY_SECONDS)


def _read_full(source: BinaryIO) -> bytes:
    """The next chunk; shorter only at the end, although one `read` may return less."""
    chunk = source.read(CHUNK_BYTES)
    while chunk and len(chunk) < CHUNK_BYTES:
        more = source.read(CHUNK_BYTES - len(chunk))
        if not more:
            break
        chunk += more
    return chunk
