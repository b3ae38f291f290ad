"""Both ways of a message into a session, cut out and through the library, and a handler that holds it up."""

from __future__ import annotations

import itertools

import pytest
import trio
from peer import Peer, stomp
from wire import client_frame

from trio_stomp import DrainConfig, Message, ServerConfig, StompApp, StompConfig, WebSocketConfig

both_paths = pytest.mark.parametrize("is_fast", [True, False], ids=["fast path", "library only"])


def config(*, is_fast: bool = True, heart_beat: float = 0.0, **websocket: object) -> ServerConfig:
    return ServerConfig(
        stomp=StompConfig(heart_beat_send=0, heart_beat_receive=heart_beat),
        drain=DrainConfig(delay=0, window=0),
        websocket=WebSocketConfig(fast_path=is_fast, **websocket),  # type: ignore[arg-type]
    )


class Held:
    """An app with a handler that waits for the test."""

    def __init__(self) -> None:
        self.app = StompApp()
        self.app.allow_send("/topic/**")
        self.gate = trio.Event()
        self.done: list[bytes] = []
        self.app.on_message("/app/hold")(self.hold)

    async def hold(self, message: Message) -> None:
        await self.gate.wait()
        self.done.append(message.body)


def send(body: bytes, destination: str = "/topic/a", **headers: str) -> bytes:
    return stomp("SEND", body, destination=destination, **headers)


def in_pieces(frame: bytes, *, parts: int = 2, between: bytes = b"") -> bytes:
    """A client's frame of at most 125 bytes as a fragmented message, with ``between`` after each piece."""
    key, masked = frame[2:6], frame[6:]
    payload = bytes(byte ^ mask for byte, mask in zip(masked, itertools.cycle(key), strict=False))
    size = -(-len(payload) // parts)
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)]
    opcodes = [frame[0] & 0x0F] + [0] * (len(pieces) - 1)
    frames = [
        client_frame(piece, opcode, final=at == len(pieces) - 1)
        for at, (piece, opcode) in enumerate(zip(pieces, opcodes, strict=True))
    ]
    return between.join(frames)


async def bodies(peer: Peer, count: int) -> list[bytes]:
    return [(await peer.frame()).body for _ in range(count)]
