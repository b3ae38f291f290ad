"""A broker whose sessions are the test's own: it puts commands in, and reads the outboxes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from trio_stomp.broker.commands import Command, Encoding, Publish, Subscribe, Subscriber
from trio_stomp.broker.simple import SimpleBroker
from trio_stomp.channels.outbox import Outbox
from trio_stomp.config import BrokerConfig, OutboxConfig
from trio_stomp.errors import TrioStompError
from trio_stomp.metrics import Metrics
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Frame, Limits, Version


def no_head(length: int, is_text: bool) -> bytes:
    return b""


ENCODINGS = {version: Encoding(version, no_head) for version in Version}


@attrs.define(eq=False)
class Session:
    """A subscriber whose outbox the test reads by itself."""

    subscriber: Subscriber
    overflows: list[str]
    refusals: list[TrioStompError]

    def frames(self) -> list[Frame]:
        decoder = FrameDecoder(Limits(), self.subscriber.encoding.version)
        decoder.receive_data(b"".join(self.raw()))
        found = []
        while (frame := decoder.next_frame()) is not None:
            found.append(frame)
        return found

    def raw(self) -> list[bytes]:
        """What has been offered, or handed over, since the last time."""
        outbox = self.subscriber.outbox
        batch: list[bytes] = []
        with contextlib.suppress(trio.WouldBlock):
            batch = outbox._receive.receive_nowait()
        outbox._handed = False
        batch += outbox._swap()
        outbox.size = 0
        return batch

    def bodies(self) -> list[bytes]:
        return [frame.body for frame in self.frames()]


def session(
    id: str = "s1", user: str | None = None, version: Version = Version.V1_2, **limits: int
) -> Session:
    overflows: list[str] = []
    refusals: list[TrioStompError] = []
    return Session(
        Subscriber(
            session_id=id,
            user_name=user or id,
            encoding=ENCODINGS[version],
            outbox=Outbox(OutboxConfig(**limits)),
            overflowed=lambda limit: overflows.append(id),
            refused=lambda frame, error: refusals.append(error),
        ),
        overflows,
        refusals,
    )


@contextlib.asynccontextmanager
async def running(**settings: object) -> AsyncIterator[SimpleBroker]:
    broker = SimpleBroker(BrokerConfig(**settings), Metrics())  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker.run)
        yield broker
        await wait_all_tasks_blocked()
        broker.inbox.close()


async def do(broker: SimpleBroker, *commands: Command) -> None:
    """Have the commands seen through in one batch."""
    for command in commands:
        broker.put(command)
    await wait_all_tasks_blocked()


def subscribe(who: Session, destination: str, key: str = "1") -> Subscribe:
    return Subscribe(who.subscriber, key, key, destination)


def publish(destination: str, body: bytes = b"x", **headers: str) -> Publish:
    return Publish(destination, body, headers)
