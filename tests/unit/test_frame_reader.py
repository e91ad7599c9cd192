"""Frames are read as pamqp reads them, however their bytes arrive."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from aiormq.exceptions import AMQPConnectionError
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from broker.frame_reader import FrameReader

PROPERTIES = Basic.Properties(
    content_type="application/json",
    headers={"x-reason": "none", "count": 3},
    delivery_mode=2,
    priority=5,
    message_id="r1",
    timestamp=datetime(2026, 1, 2, tzinfo=UTC),
    message_type="datarun.fold.v1",
    user_id="producer",
)
FRAMES = (
    Basic.QosOk(),
    Basic.Deliver("tag", 2**40, True, "datarun.work", "folds.default"),
    ContentHeader(body_size=3, properties=PROPERTIES),
    ContentBody(b"abc"),
    Heartbeat(),
    Basic.Deliver("tag", 1, False, "", "q"),
    ContentHeader(),
    Basic.Ack(7, multiple=True),
)


def attributes(frame: object) -> object:
    if isinstance(frame, ContentHeader):
        return frame.body_size, dict(frame.properties)
    if isinstance(frame, ContentBody):
        return frame.value
    return dict(frame) if isinstance(frame, Basic.Deliver | Basic.Ack) else type(frame)


@pytest.mark.parametrize("size", [1, 10, 1_000])
async def test_frames_are_those_that_were_sent_in_whatever_pieces_they_arrive(size: int) -> None:
    # Given frames that arrive in pieces, and then the end of the connection
    sent = [pamqp_frame.marshal(frame, 1) for frame in FRAMES]
    stream = asyncio.StreamReader()
    reader = FrameReader(stream)

    async def arrive() -> None:
        data = b"".join(sent)
        for at in range(0, len(data), size):
            stream.feed_data(data[at : at + size])
            await asyncio.sleep(0)
        stream.feed_eof()

    arriving = asyncio.create_task(arrive())

    # Then they are what pamqp makes of them
    for data in sent:
        length, channel, frame = await reader.get_frame()
        expected = pamqp_frame.unmarshal(data)
        assert (length, channel) == expected[:2]
        assert attributes(frame) == attributes(expected[2])
    await arriving
    with pytest.raises(AMQPConnectionError):
        await reader.get_frame()
