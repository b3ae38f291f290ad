"""What a client that comes back meets in tests: servers to come back to, and somebody else in their place."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import trio
import trio_websocket
from peer import Gate
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trio_stomp import Client, ClientConfig, Connected, Reconnect
from trio_stomp.client.client import open_client_by
from trio_stomp.groups import bare_errors
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Frame, Limits, Version, encode
from trio_stomp.testing import TestServer

HALF = Reconnect(chance=lambda: 0.5)
FAILING = Reconnect(chance=lambda: 0.5, sends="fail")
SILENT = ClientConfig(heart_beat_send=0, heart_beat_receive=0)

_LONG = 100_000
"""Seconds, of a clock that jumps, after which a test that waits has failed."""

Target = Callable[[trio.Nursery], Awaitable[trio.abc.Stream]]
"""Opens a stream to somebody, whose tasks run in the nursery given."""


class Dialler:
    """Opens streams as a test plans it: to the targets one after the other, then to the last one again."""

    def __init__(self, nursery: trio.Nursery, plan: tuple[Target, ...]) -> None:
        self.times: list[float] = []
        self._plan = list(plan)
        self._nursery = nursery

    async def __call__(self) -> trio.abc.Stream:
        self.times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        target = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
        return await target(self._nursery)

    @property
    def gaps(self) -> list[float]:
        """Seconds between one attempt and the next."""
        return [round(after - before, 6) for before, after in zip(self.times, self.times[1:], strict=False)]


class At:
    """A server as a target, with both ends of its connections at hand."""

    def __init__(self, server: TestServer) -> None:
        self.server = server
        self.gates: list[Gate] = []
        self._streams: list[trio.abc.Stream] = []

    async def __call__(self, nursery: trio.Nursery) -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        self._streams.append(theirs)
        self.gates.append(Gate(ours))
        nursery.start_soon(self.server.server.serve_stream, theirs, "client")
        return self.gates[-1]

    async def cut(self, number: int = -1) -> None:
        """A connection is lost, the last one, as when a server crashes; everybody has noticed."""
        await trio.aclose_forcefully(self._streams[number])
        await wait_all_tasks_blocked()

    async def cut_soon(self) -> None:
        """As `cut`, once everybody waits."""
        await wait_all_tasks_blocked()
        await self.cut()

    @property
    def subscriptions(self) -> int:
        """How many there are at the server, those to its notices included."""
        return self.server.statistics().metrics.subscriptions


async def refuse(nursery: trio.Nursery) -> trio.abc.Stream:
    """Nobody listens."""
    raise ConnectionRefusedError("nobody listens")


async def hang(nursery: trio.Nursery) -> trio.abc.Stream:
    """The address does not answer."""
    await trio.sleep_forever()
    raise AssertionError


async def mute(nursery: trio.Nursery) -> trio.abc.Stream:
    """Somebody listens and says nothing."""
    ours, _theirs = memory_stream_pair()
    return ours


def answering(status: str, *headers: str) -> Target:
    """Somebody answers the handshake with this HTTP status."""

    async def target(nursery: trio.Nursery) -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        lines = (f"HTTP/1.1 {status}", *headers, "Content-Length: 6", "Connection: close", "", "secret")
        await theirs.send_all("\r\n".join(lines).encode())
        await theirs.send_eof()
        return ours

    return target


class Scripted:
    """The server's side of one connection, frame by frame."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self.websocket = websocket
        self._decoder = FrameDecoder(Limits(), Version.V1_0)

    async def frame(self) -> Frame:
        """The client's next frame."""
        while (frame := self._decoder.next_frame()) is None:
            message = await self.websocket.get_message()
            self._decoder.receive_data(message.encode() if isinstance(message, str) else message)
        return frame

    async def say(self, command: str, body: bytes = b"", **headers: str) -> None:
        """Send one frame."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        await self.websocket.send_message(encode(Frame(command, named, body), Version.V1_0))

    async def welcome(self, **headers: str) -> None:
        """Take CONNECT, say CONNECTED."""
        assert (await self.frame()).command == "CONNECT"
        await self.say("CONNECTED", **{"version": "1.2", **headers})

    async def answer(self) -> Frame:
        """Take a frame and give its RECEIPT."""
        frame = await self.frame()
        await self.say("RECEIPT", receipt_id=frame.headers["receipt"])
        return frame

    async def refuse(self, message: str) -> Frame:
        """Take a frame and say ERROR to its receipt."""
        frame = await self.frame()
        await self.say("ERROR", message=message, receipt_id=frame.headers["receipt"])
        return frame

    async def publish(
        self, body: bytes, key: str = "s1", destination: str = "/topic/a", **headers: str
    ) -> None:
        """Send a MESSAGE to a subscription."""
        said = {"subscription": key, "destination": destination, "message_id": "1", **headers}
        await self.say("MESSAGE", body, **said)

    async def notify(self, body: bytes) -> None:
        """Take the subscription to our notices, and give one."""
        asked = await self.answer()
        assert asked.headers["destination"] == "/user/queue/server"
        await self.publish(body, asked.headers["id"], "/user/queue/server")


class Recorder:
    """A server's script: it gives each subscription some messages, notes what comes, and gives RECEIPTs.

    Args:
        version: in CONNECTED.
        count: messages for each subscription, their ids m1, m2, …; in 1.2 also a1, a2, … to acknowledge.
        mute: commands that get no RECEIPT.
        until: the command with which it hangs up.
    """

    def __init__(
        self, version: str = "1.2", *, count: int = 3, mute: Sequence[str] = (), until: str = ""
    ) -> None:
        self.frames: list[Frame] = []
        self._version = version
        self._count = count
        self._mute = mute
        self._until = until

    async def __call__(self, server: Scripted) -> None:
        await server.welcome(version=self._version)
        while True:
            frame = await server.frame()
            self.frames.append(frame)
            if frame.command == self._until:
                return
            if "receipt" in frame.headers and frame.command not in self._mute:
                await server.say("RECEIPT", receipt_id=frame.headers["receipt"])
            if frame.command == "SUBSCRIBE":
                for number in range(1, self._count + 1):
                    named = {"message_id": f"m{number}"}
                    if self._version == "1.2":
                        named["ack"] = f"a{number}"
                    key, destination = frame.headers["id"], frame.headers["destination"]
                    await server.publish(b"%d" % number, key, destination, **named)

    def said(self) -> list[tuple[str, dict[str, str]]]:
        """What came but SUBSCRIBE, UNSUBSCRIBE and DISCONNECT, receipt ids left out."""
        return [
            (frame.command, {name: value for name, value in frame.headers.items() if name != "receipt"})
            for frame in self.frames
            if frame.command not in ("SUBSCRIBE", "UNSUBSCRIBE", "DISCONNECT")
        ]

    @property
    def commands(self) -> list[str]:
        """All commands in their order."""
        return [frame.command for frame in self.frames]


def scripted(script: Callable[[Scripted], Awaitable[object]]) -> Target:
    """A server that says what the script says, then closes."""

    async def serve(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            websocket = await request.accept(subprotocol="v12.stomp")
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                await script(Scripted(websocket))
            await websocket.aclose()
            nursery.cancel_scope.cancel()

    async def target(nursery: trio.Nursery) -> trio.abc.Stream:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(serve, theirs)
        return ours

    return target


@contextlib.asynccontextmanager
async def coming_back(
    *plan: Target, reconnect: Reconnect | None = HALF, config: ClientConfig = SILENT, **options: Any
) -> AsyncIterator[tuple[Client, Dialler]]:
    """A client that is connected with the plan's first target that lets it in."""
    with bare_errors(), trio.fail_after(_LONG):
        async with trio.open_nursery() as nursery:
            dial = Dialler(nursery, plan)
            async with open_client_by(
                dial, authority="h", resource="/ws", host="h", config=config, reconnect=reconnect, **options
            ) as client:
                yield client, dial
            nursery.cancel_scope.cancel()


async def seen(client: Client, count: int) -> list[Any]:
    """The client's next events, so many."""
    return [await client.events.receive() for _ in range(count)]


async def until_connected(client: Client, times: int = 1) -> Connected:
    """The event of the next connection, or of that many; others are passed over."""
    async for event in client.events:
        if isinstance(event, Connected):
            times -= 1
            if not times:
                return event
    raise AssertionError("no more events")
