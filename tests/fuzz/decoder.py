#!/usr/bin/env python3
"""Feeds the frame decoder millions of mutated inputs: each becomes frames or RemoteProtocolError.

Any other exception fails. On a sample of the inputs: fed byte by byte they come to the same as whole, what
was decoded comes out again when it is encoded, and the decoder has not searched any byte more than twice.

    PYTHONPATH=.:tests python -m fuzz.decoder --inputs 10000000 --seed 1
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

import attrs
from fuzz.sessions import any_frame, connect, mutated_bytes, mutated_stomp

from trio_stomp.errors import LocalProtocolError, RemoteProtocolError
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import Frame, Limits, Version, encode

SMALL: Final = Limits(header_line=64, headers=6, body=100)
"""Soon reached, so that both sides of each limit are seen."""
VERSIONS: Final = tuple(Version)
_POOL = 2000
"""Structured inputs made at a time, of which mutations are made: one costs as much as ten mutations."""
_SAMPLE = 8

Outcome = tuple[list[Frame], RemoteProtocolError | None]
"""Frames, and what ended them."""


class Foreign(AssertionError):
    """The decoder did what it must not do; ``data`` is its input."""

    def __init__(self, why: str, data: bytes) -> None:
        super().__init__(f"{why}, of {data!r}")
        self.data = data


def decoded(pieces: Sequence[bytes], limits: Limits, version: Version) -> tuple[Outcome, FrameDecoder]:
    """What a decoder makes of the pieces.

    Raises:
        Foreign: an exception other than RemoteProtocolError, or one that was forgotten afterwards.
    """
    decoder = FrameDecoder(limits, version)
    frames: list[Frame] = []
    try:
        for piece in pieces:
            decoder.receive_data(piece)
            while (frame := decoder.next_frame()) is not None:
                frames.append(frame)
    except RemoteProtocolError as error:
        try:
            decoder.next_frame()
        except RemoteProtocolError as again:
            if again is error:
                return (frames, error), decoder
        raise Foreign("the error was forgotten", b"".join(pieces)) from error
    except Exception as error:
        raise Foreign(f"{error!r}", b"".join(pieces)) from error
    return (frames, None), decoder


def check(data: bytes, limits: Limits, version: Version) -> Outcome:
    """Decode an input whole, and in pieces, and what came of it once more.

    Raises:
        Foreign: one of the claims of this module does not hold.
    """
    whole, decoder = decoded([data], limits, version)
    if decoder.examined > 2 * len(data):
        raise Foreign(f"{decoder.examined} bytes examined of {len(data)}", data)
    pieces, decoder = decoded([data[at : at + 1] for at in range(len(data))], limits, version)
    # Of an input that is wrong in two ways either may be told.
    if pieces[0] != whole[0] or (pieces[1] is None) is not (whole[1] is None):
        raise Foreign(f"byte by byte it is {pieces}, whole it is {whole}", data)
    if decoder.examined > 2 * len(data):
        raise Foreign(f"{decoder.examined} bytes examined of {len(data)}, byte by byte", data)
    for frame in whole[0]:
        check_encoding(frame, version, data)
    return whole


def check_encoding(frame: Frame, version: Version, data: bytes) -> None:
    """Encode a frame that was decoded, and decode it again.

    Raises:
        Foreign: it is not what it was, though the version can say it.
    """
    try:
        encoded = encode(frame, version)
    except LocalProtocolError:
        return  # a body where none may be, a CR before the version is known
    again, _ = decoded([encoded], Limits(), version)
    if ([_without_length(found) for found in again[0]], again[1]) != ([_without_length(frame)], None):
        raise Foreign(f"{frame} was encoded as {encoded!r} and became {again}", data)


def _without_length(frame: Frame) -> Frame:
    """``content-length`` is written anew, by the body."""
    headers = {name: value for name, value in frame.headers.items() if name != "content-length"}
    return attrs.evolve(frame, headers=headers)


def inputs(random: Random) -> Iterator[bytes]:
    """Inputs without end: structured, mutated, or noise."""
    while True:
        pool = [structured(random) for _ in range(_POOL)]
        for _ in range(50 * _POOL):
            data = pool[int(random.random() * _POOL)]
            chance = random.random()
            if chance < 0.02:
                data = random.randbytes(int(random.random() * 40))
            while chance < 0.8:
                data = mutated_bytes(random, data)
                chance += random.random()
            yield data


def structured(random: Random) -> bytes:
    """Some frames in a row, seldom with more than one thing wrong with them."""
    frames = [connect(random) if random.randrange(8) == 0 else any_frame(random)]
    frames += [any_frame(random) for _ in range(random.choice((0, 0, 0, 1, 2)))]
    if random.randrange(2):
        at = random.randrange(len(frames))
        frames[at] = mutated_stomp(random, frames[at])
    line_ends = random.choice((b"", b"", b"\n", b"\r\n", b"\n\n\r\n", b"\r"))
    # The largest are cut: most of their time would go into one long body.
    return line_ends.join(frame.encode() for frame in frames)[:2000]


def _kind(error: RemoteProtocolError) -> str:
    """Its text without what it quotes."""
    return f"{error.close_code} " + re.sub(r"['\"].*", "…", error.message, flags=re.DOTALL)[:40]


def main() -> int:
    """Run the command; exit status 0 when nothing failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many (default 1,000,000)")
    parser.add_argument("--seed", default="1", help="of the inputs (default 1)")
    options = parser.parse_args()
    started, cpu = time.monotonic(), time.process_time()
    outcomes: collections.Counter[str] = collections.Counter()
    size = frames = checked = 0
    random = Random(options.seed)
    for number, data in zip(range(options.inputs), inputs(random), strict=False):
        limits = SMALL if number & 1 else Limits()
        version = VERSIONS[number % 3]
        try:
            if number % _SAMPLE == 0:
                found, error = check(data, limits, version)
                checked += 1
            else:
                (found, error), _ = decoded([data], limits, version)
        except Foreign as foreign:
            print(f"FAILED at input {number} (seed {options.seed}, {version}, {limits}): {foreign}")
            return 1
        size += len(data)
        frames += len(found)
        outcomes["no error" if error is None else _kind(error)] += 1
    spent, used = time.monotonic() - started, time.process_time() - cpu
    for text, count in outcomes.most_common(25):
        print(f"{count:10}  {text}")
    print(
        f"{options.inputs} inputs (seed {options.seed}), {size / 1e6:.0f} MB, {frames} frames decoded, "
        f"{checked} inputs checked byte by byte and encoded again; no foreign exception; "
        f"{spent:.0f} s, {used:.0f} s of CPU"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
