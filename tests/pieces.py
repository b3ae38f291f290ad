"""Frames as they are written, and the pieces that a transport may make of them."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from typing import Protocol

import pytest

from trio_stomp.errors import RemoteProtocolError
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Frame, Limits, Version

Cut = Callable[[bytes], list[bytes]]


class Machine(Protocol):
    """Either side's state machine."""

    def receive_data(self, data: bytes) -> None: ...

    def next_frame(self) -> Frame | None: ...


def raw(text: str, body: bytes = b"") -> bytes:
    """A frame as written: ``SEND destination:/x a:b`` (no value here has a space)."""
    command, *headers = text.split(" ")
    return "\n".join([command, *headers, "", ""]).encode() + body + b"\0"


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def in_halves(data: bytes) -> list[bytes]:
    return [data[: len(data) // 2], data[len(data) // 2 :]]


in_any_pieces = pytest.mark.parametrize("cut", [whole, byte_by_byte, in_halves])


def drained(machine: Machine) -> list[Frame]:
    """What the machine has to give out now."""
    frames = []
    while (frame := machine.next_frame()) is not None:
        frames.append(frame)
    return frames


def fed(machine: Machine, data: bytes, cut: Cut = whole) -> list[Frame]:
    """The frames that ``data`` makes; raises what the machine raises."""
    frames = []
    for piece in cut(data):
        machine.receive_data(piece)
        frames += drained(machine)
    return frames


def read(data: bytes, version: Version = Version.V1_2) -> Frame:
    """The one frame that somebody has encoded."""
    decoder = FrameDecoder(Limits(), version)
    decoder.receive_data(data)
    frame = decoder.next_frame()
    assert frame is not None
    assert decoder.next_frame() is None
    return frame


def kept(machine: Machine) -> int:
    """How many bytes of memory a machine takes for a megabyte that comes after its end."""
    tracemalloc.start()
    try:
        for _ in range(100):
            machine.receive_data(bytes(10_000))
            with contextlib.suppress(RemoteProtocolError):
                assert machine.next_frame() is None
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
