"""The frame cutter: what is cut, what passes, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import BINARY, CLOSE, PING, TEXT, client_frame, close_frame

from trio_stomp.transport.cutter import FrameCutter, Passed, Violation, unmask


def cutter(**changes: object) -> FrameCutter:
    settings = {"is_cutting": True, "message_bytes": 1 << 20, "fragments": 16} | changes
    return FrameCutter(**settings)  # type: ignore[arg-type]


def fed(data: bytes, step: int = 0, **changes: object) -> FrameCutter:
    made = cutter(**changes)
    for start in range(0, len(data), step or len(data) or 1):
        made.feed(data[start : start + (step or len(data))])
    return made


def test_plain_frames_of_one_read_are_cut_and_nothing_passes() -> None:
    made = fed(client_frame(b"one") + client_frame(b"\xff\x00", BINARY) + client_frame(b"x" * 300))
    assert made.items == [b"one", b"\xff\x00", b"x" * 300]
    assert made.size == 3 + 2 + 300
    assert not made.passed
    assert not made.marks


def test_a_frame_that_is_not_complete_in_its_read_passes_whole_behind_a_marker() -> None:
    frame = client_frame(b"hello")
    made = cutter()
    made.feed(client_frame(b"first") + frame[:8])
    made.feed(frame[8:] + client_frame(b"last"))
    assert made.items == [b"first", Passed.MESSAGE, b"last"]
    assert made.passed == frame


def test_a_frame_whose_header_was_split_is_still_cut() -> None:
    frame = client_frame(b"x" * 200)
    made = cutter()
    made.feed(frame[:3])
    made.feed(frame[3:])
    assert made.items == [b"x" * 200]


def test_nothing_is_cut_while_a_fragmented_message_is_open() -> None:
    parts = client_frame(b"a", final=False), client_frame(b"b", PING), client_frame(b"c", 0)
    made = fed(b"".join((client_frame(b"A"), *parts, client_frame(b"D"))))
    assert made.items == [b"A", Passed.MESSAGE, b"D"]
    assert made.passed == b"".join(parts)


def test_a_ping_passes_at_once_between_cut_frames() -> None:
    ping = client_frame(b"hi", PING)
    made = fed(client_frame(b"A") + ping + client_frame(b"B"))
    assert made.items == [b"A", b"B"]
    assert made.passed == ping
    assert made.size == 2, "a ping is answered at once: it takes no room"


def test_large_frames_pass() -> None:
    frame = client_frame(b"x" * 65536)
    made = fed(frame + client_frame(b"y"))
    assert made.items == [Passed.MESSAGE, b"y"]
    assert made.passed == frame


def test_with_the_fast_path_off_every_message_is_marked_and_passes() -> None:
    frames = client_frame(b"A") + client_frame(b"B")
    made = fed(frames, is_cutting=False)
    assert made.items == [Passed.MESSAGE, Passed.MESSAGE]
    assert made.passed == frames


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_close_is_held_apart_and_nothing_after_it_is_looked_at(step: int) -> None:
    frame = close_frame(1000, b"bye")
    made = fed(frame + client_frame(b"late"), step)
    assert made.items == [Passed.CLOSE]
    assert made.close == frame
    assert not made.passed


@pytest.mark.parametrize("split", range(1, len(close_frame(1000, b"bye"))))
def test_nothing_after_a_close_that_was_split_is_looked_at(split: int) -> None:
    frame = close_frame(1000, b"bye")
    made = cutter()
    made.feed(frame[:split])
    made.feed(frame[split:] + client_frame(b"late") + client_frame(b"?", PING))
    assert made.items == [Passed.CLOSE]
    assert made.close == frame
    assert not made.passed


def test_text_that_is_not_utf8_is_a_violation_and_ends_the_looking() -> None:
    made = fed(client_frame(b"good") + client_frame(b"\xff") + client_frame(b"more"))
    assert made.items == [b"good", Violation(1007, "a text message is not UTF-8")]


def test_binary_need_not_be_utf8() -> None:
    assert fed(client_frame(b"\xff", BINARY)).items == [b"\xff"]


def test_a_message_in_pieces_is_limited_in_bytes() -> None:
    data = client_frame(b"x" * 600, final=False) + client_frame(b"x" * 600, 0)
    assert fed(data, message_bytes=1000).items[-1] == Violation(
        1009, "a message of more than 1000 bytes", "websocket.message"
    )


def test_a_message_too_big_is_refused_at_its_header_before_its_bytes_come() -> None:
    made = cutter(message_bytes=1000)
    made.feed(client_frame(b"x" * 70000)[:14])
    assert made.items == [Violation(1009, "a message of more than 1000 bytes", "websocket.message")]
    assert not made.passed


def test_empty_fragments_are_counted() -> None:
    data = client_frame(b"", final=False) + client_frame(b"", 0, final=False) * 20
    assert fed(data).items[-1] == Violation(
        1008, "a message of more than 16 fragments", "websocket.fragments"
    )


BROKEN = {
    "not UTF-8": client_frame(b"\xff" * 20),
    "too big": client_frame(b"x" * 70_000),
    "too big in pieces": client_frame(b"x" * 600, final=False) + client_frame(b"x" * 600, 0),
    "too big and not at its end": client_frame(b"x" * 1001, final=False) + client_frame(b"x" * 9, 0),
    "fragments": client_frame(b"", final=False)
    + client_frame(b"", 0, final=False) * 20
    + client_frame(b"", 0),
}


@pytest.mark.parametrize("step", [0, 1, 7, 1000])
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_after_a_broken_limit_frames_are_followed_to_the_close_and_dropped(broken: bytes, step: int) -> None:
    parts = client_frame(b"a", final=False), client_frame(b"?", PING), client_frame(b"b", 0)
    made = fed(broken, message_bytes=1000)
    found, passed = [*made.items], bytes(made.passed)
    assert isinstance(found[-1], Violation)
    assert made.is_refused
    made.size = 0
    rest = client_frame(b"late") + b"".join(parts) + client_frame(b"y" * 70_000) + close_frame(1009)
    for start in range(0, len(rest), step or len(rest)):
        made.feed(rest[start : start + (step or len(rest))])
    assert made.close == close_frame(1009)
    assert made.items == found, "the Close comes behind the violation, where the session does not look"
    assert (made.passed, made.size) == (passed, 0)


def test_a_close_within_the_message_that_broke_a_limit_is_found() -> None:
    made = fed(client_frame(b"x" * 2000, final=False) + close_frame(1001), message_bytes=1000)
    assert made.close == close_frame(1001)


def test_after_a_broken_limit_an_illegal_frame_ends_the_looking() -> None:
    made = fed(client_frame(b"\xff") + client_frame(b"x", masked=False) + close_frame())
    made.feed(close_frame())
    assert len(made.items) == 1
    assert made.is_lost
    assert (made.passed, made.close) == (b"", b"")


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(client_frame(b"x", masked=False), id="unmasked"),
        pytest.param(client_frame(b"x", rsv=4), id="reserved bit"),
        pytest.param(client_frame(b"x", 3), id="unknown opcode"),
        pytest.param(client_frame(b"x", 11), id="unknown control opcode"),
        pytest.param(client_frame(b"x", PING, final=False), id="fragmented ping"),
        pytest.param(client_frame(b"x" * 126, PING), id="long ping"),
        pytest.param(client_frame(b"x", 0), id="continuation of nothing"),
        pytest.param(b"\x81\xfe\x00\x05" + b"k" * 9, id="length not minimal"),
        pytest.param(b"\x81\xff" + b"\x80" + b"\0" * 7 + b"k" * 9, id="length with its top bit set"),
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_an_illegal_header_is_a_violation_and_nothing_after_it_is_looked_at(bad: bytes, step: int) -> None:
    made = fed(client_frame(b"A") + bad + client_frame(b"B") + close_frame(), step, is_cutting=not step)
    said = f"frame header {bad[:2].hex()}…, not legal there (RFC 6455, section 5)"
    assert made.items == [b"A" if not step else Passed.MESSAGE, Violation(1002, said)]
    assert made.is_lost
    assert not made.is_broken
    assert (made.passed, made.close) == (b"" if not step else client_frame(b"A"), b"")


def test_an_illegal_header_within_a_message_breaks_that() -> None:
    made = fed(client_frame(b"A", final=False) + client_frame(b"B"))
    assert [type(item) for item in made.items] == [Passed, Violation]
    assert made.is_broken


def test_a_close_within_a_message_breaks_that() -> None:
    made = fed(client_frame(b"A", final=False) + close_frame())
    assert made.items == [Passed.MESSAGE, Passed.CLOSE]
    assert made.is_broken


def test_a_close_behind_a_message_in_pieces_breaks_nothing() -> None:
    made = fed(client_frame(b"A", final=False) + client_frame(b"A", 0) + close_frame())
    assert made.items == [Passed.MESSAGE, Passed.CLOSE]
    assert not made.is_broken


def test_once_we_are_closing_only_what_has_begun_and_a_close_pass() -> None:
    begun = client_frame(b"x" * 70000)
    made = cutter()
    made.feed(begun[:100])
    made.stop()
    made.feed(begun[100:] + client_frame(b"new") + client_frame(b"hi", PING) + close_frame())
    assert made.items == [Passed.MESSAGE, Passed.CLOSE]
    assert made.passed == begun
    assert made.close == close_frame()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("whole"), st.binary(max_size=300)),
            st.tuples(st.just("parts"), st.lists(st.binary(max_size=50), min_size=2, max_size=4)),
            st.tuples(st.just("ping"), st.binary(max_size=20)),
        ),
        max_size=12,
    ),
    st.lists(st.integers(1, 200), min_size=1, max_size=30),
)
def test_in_any_chunking_every_message_is_cut_or_marked_in_order(
    script: list[tuple[str, object]], cuts: list[int]
) -> None:
    data, kinds, control = b"", [], b""
    for kind, content in script:
        if kind == "whole":
            assert isinstance(content, bytes)
            data += client_frame(content, BINARY)
            kinds.append(content)
        elif kind == "ping":
            assert isinstance(content, bytes)
            data += client_frame(content, PING)
        else:
            assert isinstance(content, list)
            data += client_frame(content[0], BINARY, final=False)
            data += b"".join(client_frame(part, 0, final=False) for part in content[1:-1])
            data += client_frame(content[-1], 0)
            kinds.append(b"".join(content))
    made, at, turn = cutter(), 0, 0
    while at < len(data):
        made.feed(data[at : at + cuts[turn % len(cuts)]])
        at += cuts[turn % len(cuts)]
        turn += 1
    passed = list(messages_of(bytes(made.passed)))
    got = [item if isinstance(item, bytes) else passed.pop(0) for item in made.items]
    assert got == kinds
    assert not passed
    assert not control


def messages_of(data: bytes) -> list[bytes]:
    """What the library would make of its share, less the control frames."""
    found, parts = [], b""
    while data:
        size, head = data[1] & 0x7F, 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        payload = unmask(data[head + 4 : head + 4 + size], data[head : head + 4])
        if data[0] & 0x0F < CLOSE:
            parts += payload
            if data[0] & 0x80:
                found.append(parts)
                parts = b""
        data = data[head + 4 + size :]
    return found


@given(st.binary(max_size=200), st.binary(min_size=4, max_size=4))
def test_unmasking_undoes_masking(payload: bytes, key: bytes) -> None:
    frame = client_frame(payload, TEXT, key=key)
    head = len(frame) - len(payload)
    assert unmask(frame[head:], key) == payload
