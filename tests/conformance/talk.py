"""Sessions for the conformance tests: a client's bytes in, the server's frames out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from peer import Peer, ended, without_heart_beats
from trio.testing import wait_all_tasks_blocked
from wire import BINARY, client_frame

from trio_stomp import ServerConfig, StompApp
from trio_stomp.stomp.frames import Frame, Version, encode
from trio_stomp.testing import TestServer, open_test_server

V1_0, V1_1, V1_2 = Version
each_version = pytest.mark.parametrize("version", [V1_0, V1_1, V1_2], ids=lambda version: version.value)
since_1_1 = pytest.mark.parametrize("version", [V1_1, V1_2], ids=lambda version: version.value)
before_1_2 = pytest.mark.parametrize("version", [V1_0, V1_1], ids=lambda version: version.value)

QUIET = without_heart_beats()
Q, T = "/queue/q", "/topic/t"


class Talk(Peer):
    """A client's end of one session, after CONNECTED.

    Attributes:
        connected: the CONNECTED frame.
    """

    connected: Frame
    _fences = 0

    async def write(self, *stomp: bytes) -> None:
        """Bytes of STOMP, each piece in a WebSocket message of its own."""
        await self.send(*(client_frame(piece, BINARY) for piece in stomp))

    async def confirmed(self, command: str, body: bytes = b"", **headers: str) -> list[Frame]:
        """Send a frame with a receipt; what came before its RECEIPT."""
        self._fences += 1
        wanted = f"fence-{self._fences}"
        await self.say(command, body, receipt=wanted, **headers)
        found = []
        while (frame := await self.frame()).command != "RECEIPT" or frame.headers["receipt-id"] != wanted:
            assert frame.command != "ERROR", frame
            found.append(frame)
        return found

    async def fence(self) -> list[Frame]:
        """What the server has had to send until now."""
        return await self.confirmed("SEND", destination="/topic/fence")

    async def bodies(self) -> list[bytes]:
        """The bodies of what the server has had to send until now."""
        return [frame.body for frame in await self.fence()]

    async def listen(self, destination: str = T, id: str = "1", **headers: str) -> None:
        """Subscribe, and wait for the RECEIPT; nothing may come before it."""
        assert await self.confirmed("SUBSCRIBE", destination=destination, id=id, **headers) == []

    async def take(self, count: int) -> list[Frame]:
        """That many MESSAGEs, which must be all."""
        found = [await self.frame() for _ in range(count)]
        assert [frame.command for frame in found] == ["MESSAGE"] * count, found
        assert await self.fence() == []
        return found

    async def send_all(self, *bodies: bytes, to: str = Q, **headers: str) -> None:
        """One SEND for each body, all of them seen through."""
        for body in bodies:
            await self.say("SEND", body, destination=to, **headers)
        assert await self.fence() == []

    async def settle(self, command: str, message: Frame, **headers: str) -> list[Frame]:
        """ACK or NACK as this session's version names a message; what came before its RECEIPT."""
        return await self.confirmed(command, **named(message, self.version), **headers)

    async def refused(self, *stomp: bytes) -> Frame:
        """The ERROR that the bytes are answered with; the session must end with it."""
        if stomp:
            await self.write(*stomp)
        frames = await self.to_end()
        assert [frame.command for frame in frames] == ["ERROR"], frames
        assert self.close_code not in (None, 1000)
        return frames[0]


def named(message: Frame, version: Version) -> dict[str, str]:
    """The headers by which an ACK or NACK names a message."""
    if version is V1_2:
        return {"id": message.headers["ack"]}
    known = {"message_id": message.headers["message-id"]}
    return known if version is V1_0 else known | {"subscription": message.headers["subscription"]}


def ack_bytes(command: str, message: Frame, version: Version) -> bytes:
    """An ACK or NACK as bytes."""
    headers = {name.replace("_", "-"): value for name, value in named(message, version).items()}
    return encode(Frame(command, headers), version)


def bodies_of(frames: list[Frame]) -> list[bytes]:
    """Their bodies."""
    return [frame.body for frame in frames]


@contextlib.asynccontextmanager
async def broker(app: StompApp | None = None, config: ServerConfig = QUIET) -> AsyncIterator[TestServer]:
    """A server; a plain broker without ``app``."""
    async with open_test_server(app, config) as server:
        yield server


async def join(server: TestServer, version: Version = V1_2, **headers: str) -> Talk:
    """A session of its own."""
    talk = Talk(server.connect(), version)
    talk.connected = await talk.connect(**headers)
    assert talk.connected.command == "CONNECTED", talk.connected
    return talk


async def knock(server: TestServer, stomp: bytes, version: Version = V1_2) -> Talk:
    """A connection that has shaken hands and sent these bytes; nothing is read yet."""
    talk = Talk(server.connect(), version)
    await talk.wire.shake_hands()
    await talk.write(stomp)
    return talk


@contextlib.asynccontextmanager
async def session(version: Version = V1_2, **settings: Any) -> AsyncIterator[Talk]:
    """A plain broker's only session; settings are those of a configuration."""
    config = without_heart_beats(**settings) if settings else QUIET
    async with broker(config=config) as server:
        yield await join(server, version)


async def leave(server: TestServer, talk: Talk, how: str) -> None:
    """End a session by DISCONNECT or by a lost connection, and wait until it has."""
    left = server.statistics().sessions - 1
    if how == "DISCONNECT":
        assert await talk.confirmed("DISCONNECT") == []
        assert await talk.to_end() == []
    else:
        await trio.aclose_forcefully(talk.wire.stream)
    await ended(server, left)
    await wait_all_tasks_blocked()


by_either_end = pytest.mark.parametrize("how", ["DISCONNECT", "a lost connection"])
