"""AMQP frames cut from what has arrived, as many at a time as there are.

aiormq reads a frame in three steps, and pamqp decodes each of its fields by name: of what a
collector computes, that was a quarter. Only what deliveries consist of is decoded here; any other
frame is pamqp's.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError

from aiormq import connection as aiormq_connection
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

from broker.unreadable import short_text, table, time

CHUNK = 256 << 10

# https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 4.2.3 and 4.2.6
_HEAD = Struct(">BHI")
_METHOD, _HEADER, _BODY = 1, 2, 3
_CONTENT = Struct(">HHQH")
_MORE_FLAGS = 1
_DELIVER = Basic.Deliver.index.to_bytes(4, "big")
_TAG = Struct(">QB")

_DECODERS = {"shortstr": short_text, "timestamp": time, "table": table}
_PROPERTIES = tuple(
    (name, Basic.Properties.flags[name], _DECODERS.get(getattr(Basic.Properties, f"_{name}")))
    for name in Basic.Properties.__slots__
)


class FrameReader(aiormq_connection.FrameReceiver):
    """Takes the place of aiormq's."""

    _buffer = b""
    _at = 0

    async def get_frame(self) -> aiormq_connection.ReceivedFrame:
        """The next frame. Raises AMQPConnectionError when the connection is lost."""
        if not self.started:
            # The answer to the protocol header, which may be no frame.
            return await super().get_frame()
        while (frame := self._next()) is None:
            try:
                chunk = await self.reader.read(CHUNK)
            except OSError as error:
                raise AMQPConnectionError(f"Server connection error: {error!r}") from error
            if not chunk:
                raise AMQPConnectionError("Server connection unexpectedly closed")
            self._buffer, self._at = self._buffer[self._at :] + chunk, 0
        return frame

    def _next(self) -> aiormq_connection.ReceivedFrame | None:
        buffer, at = self._buffer, self._at
        start = at + _HEAD.size
        if len(buffer) < start:
            return None
        kind, channel, size = _HEAD.unpack_from(buffer, at)
        end = start + size
        if len(buffer) <= end:
            return None
        self._at = end + 1
        if kind == _BODY:
            return size + 8, channel, ContentBody(buffer[start:end])
        try:
            if kind == _METHOD and buffer.startswith(_DELIVER, start):
                return size + 8, channel, _deliver(buffer[start:end])
            if kind == _HEADER:
                return size + 8, channel, _header(buffer[start:end])
            return pamqp_frame.unmarshal(buffer[at : self._at])
        except (PAMQPException, IndexError, ValueError, StructError) as error:
            raise InvalidFrameError(str(error)) from error


def read_in_chunks() -> None:
    """Have aiormq read so, in this process."""
    aiormq_connection.FrameReceiver = FrameReader  # type: ignore[misc]


def _deliver(data: bytes) -> Basic.Deliver:
    # Without __init__, which checks what a client would send.
    deliver = Basic.Deliver.__new__(Basic.Deliver)
    length, deliver.consumer_tag = short_text(data[4:])
    at = 4 + length
    deliver.delivery_tag, redelivered = _TAG.unpack_from(data, at)
    deliver.redelivered = bool(redelivered & 1)
    at += _TAG.size
    length, deliver.exchange = short_text(data[at:])
    _, deliver.routing_key = short_text(data[at + length :])
    return deliver


def _header(data: bytes) -> ContentHeader:
    header = ContentHeader()
    header.class_id, header.weight, header.body_size, flags = _CONTENT.unpack_from(data)
    if flags & _MORE_FLAGS:
        header.unmarshal(data)
        return header
    at = _CONTENT.size
    for name, flag, decode in _PROPERTIES:
        if not flags & flag:
            continue
        if decode is None:
            length, value = 1, data[at]
        else:
            length, value = decode(data[at:])
        setattr(header.properties, name, value)
        at += length
    return header
