"""The tapped stream: data frames are cut out, all else passes, and what is sent is masked."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing
from wire import BINARY, CLOSE, PING, TEXT, client_frame

from trio_stomp.metrics import Metrics
from trio_stomp.stress.tap import TappedStream, masked_frame
from trio_stomp.transport.stream import WireStream

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def frame(payload: bytes, opcode: int = TEXT, *, final: bool = True, rsv: int = 0) -> bytes:
    return client_frame(payload, opcode, final=final, masked=False, rsv=rsv)


async def tapped(*pieces: bytes) -> tuple[list[bytes], bytes]:
    """What is cut out of these reads, and what the library gets."""
    ours, theirs = trio.testing.memory_stream_pair()
    messages: list[bytes] = []
    stream = TappedStream(WireStream(ours, write_timeout=10, metrics=Metrics()), messages.append)
    passed = b""
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            for piece in pieces:
                await theirs.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
            await theirs.send_eof()

        nursery.start_soon(write)
        while data := await stream.receive_some(65536):
            passed += data
    return messages, passed


async def expect(data: bytes, messages: list[bytes], passed: bytes) -> None:
    """The same comes of it whole and in two pieces, wherever it is cut."""
    assert await tapped(data) == (messages, passed)
    for at in range(1, len(data)):
        assert await tapped(data[:at], data[at:]) == (messages, passed), at


async def test_data_frames_are_cut_out_and_the_head_passes() -> None:
    data = HEAD + frame(b"first") + frame(b"") + frame(b"third", BINARY)
    await expect(data, [b"first", b"", b"third"], HEAD)


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 200_000])
async def test_a_frame_of_any_length_is_cut(size: int) -> None:
    body = os.urandom(size)
    data = HEAD + frame(body) + frame(b"next")
    assert await tapped(data) == ([body, b"next"], HEAD)
    for at in (len(HEAD) + 1, len(HEAD) + 3, len(HEAD) + 9, len(HEAD) + 20, len(data) - 8):
        assert await tapped(data[:at], data[at:]) == ([body, b"next"], HEAD)


async def test_control_frames_pass_to_the_library() -> None:
    ping, close = frame(b"hello", PING), frame(b"\x03\xe8", CLOSE)
    await expect(HEAD + frame(b"a") + ping + frame(b"b") + close, [b"a", b"b"], HEAD + ping + close)


@pytest.mark.parametrize(
    "unusual",
    [
        frame(b"pie", TEXT, final=False),
        frame(b"x", rsv=4),
        frame(b"x", 3),
        client_frame(b"x"),
        b"\x81\x7f" + (1 << 40).to_bytes(8, "big"),
    ],
    ids=["a piece", "reserved bit", "reserved opcode", "masked", "too long"],
)
async def test_from_the_first_unusual_frame_on_everything_passes(unusual: bytes) -> None:
    rest = unusual + frame(b"ce", 0) + frame(b"after")
    await expect(HEAD + frame(b"before") + rest, [b"before"], HEAD + rest)


async def test_a_refusal_passes_with_its_body() -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\n\x81\x01no"
    await expect(refusal, [], refusal)


async def test_what_the_library_writes_goes_out() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stream = TappedStream(WireStream(ours, write_timeout=10, metrics=Metrics()), lambda _: None)
    await stream.wait_send_all_might_not_block()
    await stream.send_all(b"pong")
    assert await theirs.receive_some(10) == b"pong"
    await stream.aclose()
    assert await theirs.receive_some(10) == b""


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 65535, 65536, 100_001])
@pytest.mark.parametrize("is_text", [True, False])
def test_a_masked_frame_is_what_a_client_sends(size: int, is_text: bool) -> None:
    payload = os.urandom(size)
    made = masked_frame(payload, is_text=is_text)
    start = len(made) - size
    expected = client_frame(payload, TEXT if is_text else BINARY, key=made[start - 4 : start])
    assert made == expected


def test_every_frame_has_a_key_of_its_own() -> None:
    assert len({masked_frame(b"same", is_text=True) for _ in range(20)}) == 20
