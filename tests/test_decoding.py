"""The decoder: what it makes of any bytes in any pieces."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pieces import Cut, byte_by_byte, fed, in_any_pieces, kept, raw, read, whole

from trio_stomp.errors import RemoteProtocolError
from trio_stomp.stomp.decoding import FrameDecoder
from trio_stomp.stomp.frames import (
    CLIENT_COMMANDS,
    HEART_BEAT,
    SERVER_COMMANDS,
    UNESCAPED,
    WITH_BODY,
    Frame,
    Limits,
    Version,
    encode,
)

V1_0, V1_1, V1_2 = Version
ALL = (V1_0, V1_1, V1_2)
LATER = (V1_1, V1_2)
EARLIER = (V1_0, V1_1)
COMMANDS = sorted(CLIENT_COMMANDS | SERVER_COMMANDS)
LIMITS = Limits(header_line=40, headers=3, body=10)
TRAILING = b"\n\n\n"


def decoder(version: Version = V1_2, limits: Limits = Limits()) -> FrameDecoder:  # noqa: B008  # frozen
    return FrameDecoder(limits, version)


def refusal(
    data: bytes,
    cut: Cut = whole,
    version: Version = V1_2,
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        fed(decoder(version, limits), data, cut)
    return caught.value


# What is a frame. A `row` is one of CONFORMANCE.md, section A.


@attrs.frozen
class Good:
    """Bytes, and the one frame that they are."""

    data: bytes
    frame: Frame
    versions: tuple[Version, ...] = ALL
    row: str = ""


def numbered(case: Good | Bad) -> str:
    """A case's name, with its row in CONFORMANCE.md where it has one."""
    shown = repr(case.data[:30])
    return f"row{case.row} {shown}" if case.row else shown


def send(body: bytes = b"", awkward: dict[str, str] | None = None, /, **headers: str) -> Frame:
    """A SEND; ``awkward`` headers are those whose names Python cannot write."""
    return Frame("SEND", awkward or {name.replace("_", "-"): value for name, value in headers.items()}, body)


GOOD = [
    Good(b"SEND\n\n\0", send()),
    Good(b"SEND\na:b\n\n\0", send(a="b")),
    Good(b"SEND\r\na:b\r\n\r\nhi\0", send(b"hi", a="b"), (V1_2,), row="1"),
    Good(b"SEND\r\na:b\nc:d\r\n\nhi\0", send(b"hi", a="b", c="d"), (V1_2,), row="1"),
    Good(b"SEND\n\r\nhi\0", send(b"hi"), (V1_2,), row="1"),
    Good(b"SEND\na:b\r\n\n\0", send(a="b\r"), EARLIER, row="2"),
    Good(b"SEND\na:\rb\n\n\0", send(a="\rb"), EARLIER, row="2"),
    Good(b"\n\nSEND\n\n\0", send(), row="3"),
    Good(b"\n\r\n\r\n\nSEND\n\n\0", send(), (V1_2,), row="3"),
    Good(b"SEND\ncontent-length:3\n\na\0b\0", send(b"a\0b", content_length="3"), row="4"),
    Good(
        b"SEND\ncontent-length:256\n\n" + bytes(range(256)) + b"\0",
        send(bytes(range(256)), content_length="256"),
        row="4",
    ),
    Good(b"SEND\ncontent-length:0\n\n\0", send(content_length="0"), row="4"),
    Good(b"SEND\ncontent-length:003\n\nabc\0", send(b"abc", content_length="003"), row="4"),
    Good(b"SEND\ncontent-length:1\ncontent-length:9\n\na\0", send(b"a", content_length="1"), row="16"),
    Good(b"SEND\n\na\n\nb\n\0", send(b"a\n\nb\n"), row="6"),
    Good(b"SEND\n\n\r\n\r\n\0", send(b"\r\n\r\n"), row="6"),
    Good(b"SEND\n\n\xff\xfe\0", send(b"\xff\xfe"), row="6"),
    Good("SEND\nä☃:\U0001f600\n\n\0".encode(), send(b"", {"ä☃": "\U0001f600"}), row="8"),
    Good(b"SEND\na\\cb:\\\\\\n\\c\\r\n\n\0", send(b"", {"a:b": "\\\n:\r"}), (V1_2,), row="9"),
    Good(b"SEND\na\\cb:\\\\\\n\\c\n\n\0", send(b"", {"a:b": "\\\n:"}), (V1_1, V1_2), row="10"),
    Good(b"SEND\na:\\\\n\n\n\0", send(a="\\n"), LATER, row="10"),  # an escaped backslash, then an n
    Good(b"SEND\na:\\n\\t:\\\n\n\0", send(a="\\n\\t:\\"), (V1_0,), row="13"),
    Good(b"SEND\na:b:c::\n\n\0", send(a="b:c::"), row="13"),
    Good(b"CONNECT\nx:a\\tb:\\\n\n\0", Frame("CONNECT", {"x": "a\\tb:\\"}), row="14"),
    Good(b"STOMP\nx:a\\tb\n\n\0", Frame("STOMP", {"x": "a\\tb"}), row="14"),
    Good(b"CONNECTED\nx:a\\tb\n\n\0", Frame("CONNECTED", {"x": "a\\tb"}), row="14"),
    Good(
        'SEND\ncontent-type:application/json;charset=utf-8\n\n{"a":"é☃"}\0'.encode(),
        send('{"a":"é☃"}'.encode(), content_type="application/json;charset=utf-8"),
        row="19",
    ),
    Good("SEND\n\né☃\0".encode(), send("é☃".encode()), row="19"),  # no content-type: none is invented
    Good(b"SEND\n a :  v \t\n\n\0", send(b"", {" a ": "  v \t"}), row="15"),
    Good(b"SEND\na:\n\n\0", send(a="")),
    Good(b"SEND\nfoo:World\nfoo:Hello\n\n\0", send(foo="World"), row="16"),
    Good(b"SEND\nDestination:/x\ndestination:/y\n\n\0", send(Destination="/x", destination="/y"), row="7"),
    Good("SEND\na:b\x85c\u2028d\x0be\n\n\0".encode(), send(a="b\x85c\u2028d\x0be")),  # no line ends
]


@pytest.mark.parametrize(
    ("case", "version"),
    [
        pytest.param(case, version, id=f"{numbered(case)}-{version.value}")
        for case in GOOD
        for version in case.versions
    ],
)
@in_any_pieces
def test_a_frame_is_read_as_it_was_meant(case: Good, version: Version, cut: Cut) -> None:
    assert fed(decoder(version), case.data, cut) == [case.frame]


@pytest.mark.parametrize(
    ("case", "version"),
    [
        pytest.param(case, version, id=f"{numbered(case)}-{version.value}")
        for case in GOOD
        for version in case.versions
    ],
)
@in_any_pieces
def test_what_follows_a_frame_is_left_to_the_next_row22(case: Good, version: Version, cut: Cut) -> None:
    after = b"SEND\nb:c\n\nbye\0"
    frames = fed(decoder(version), case.data + TRAILING + after + case.data + b"\nSE", cut)
    assert frames == [case.frame, send(b"bye", b="c"), case.frame]


@pytest.mark.parametrize("command", COMMANDS)
@in_any_pieces
def test_each_command_is_known(command: str, cut: Cut) -> None:
    assert fed(decoder(), raw(f"{command} a:b"), cut) == [Frame(command, {"a": "b"})]


@attrs.frozen
class Bad:
    """Bytes that are no frame, and what is said about them."""

    data: bytes
    message: str
    versions: tuple[Version, ...] = ALL
    close_code: int = 1002
    row: str = ""


BAD = [
    Bad(b"SEND\ncontent-length:2\n\nhello\0", "no NUL after the 2 bytes", row="5"),
    Bad(b"SEND\ncontent-length:6\n\nhello\0\n\n", "no NUL after the 6 bytes", row="5"),
    Bad(b"send\n", "unknown command 's", row="7"),
    Bad(b"SENT\n", "unknown command", row="86"),
    Bad(b" SEND\n", "unknown command"),
    Bad(b"SEND \n", "unknown command"),
    Bad(b"SENDX", "unknown command"),
    Bad(b"\0", "unknown command"),
    Bad(b"SEND\0", "unknown command"),
    Bad(b"\xff\xfe", "unknown command"),
    Bad(b"GET / HTTP/1.1\r\n", "unknown command", row="86"),
    Bad(b"SEND\r\n\n\0", "unknown command", EARLIER, row="2"),
    Bad(b"\r\nSEND\n\n\0", "unknown command", EARLIER, row="2"),
    Bad(b"SEND\na:\xff\n\n\0", "not UTF-8", close_code=1007, row="8"),
    Bad(b"SEND\n\xc3:b\n\n\0", "not UTF-8", close_code=1007, row="8"),
    Bad(b"SEND\na:\xed\xa0\x80\n\n\0", "not UTF-8", close_code=1007, row="8"),  # half a surrogate pair
    Bad(b"SEND\na:b\\tc\n\n\0", "undefined escape", LATER, row="11"),
    Bad(b"SEND\na:b\\\n\n\0", "undefined escape", LATER, row="11"),
    Bad(b"SEND\na\\x:b\n\n\0", "undefined escape", LATER, row="11"),
    Bad(b"SEND\na:\\C\n\n\0", "undefined escape", LATER, row="11"),
    Bad(b"SEND\na:b\\rc\n\n\0", "undefined escape", (V1_1,), row="12"),
    Bad(b"CONNECT\na:b\rc\n\n\0", "bare CR", (V1_2,)),
    Bad(b"SEND\na:b\r\r\n\n\0", "bare CR", (V1_2,)),
    *(
        Bad(b"SEND\ncontent-length:" + length + b"\n\nabc\0", "not a number of bytes", row="21")
        for length in (
            b"abc",
            b"-1",
            b"+1",
            b"1_0",
            b" 1",
            b"1 ",
            b"",
            b"1.0",
            b"0x1",
            "٣".encode(),
            b"9" * 21,
        )
    ),
    Bad(b"SEND\nab\n\n\0", "header without a colon", row="21"),
    Bad(b"SEND\na:b\n\tfolded\n\n\0", "header without a colon", row="21"),
    Bad(b"SEND\n:b\n\n\0", "header without a name", row="21"),
    Bad(b"SEND\na:b\0c\n\n\0", "NUL in it"),
    Bad(b"SEND\na:b\n\0\n\n\0", "header without a colon|NUL in it"),
    Bad(
        b"SEND\ncontent-length:4194305\n\n",
        "content-length 4194305 is over the limit of 4194304",
        close_code=1009,
        row="18",
    ),
    Bad(b"SEND\ncontent-length:99999999999\n\n", "over the limit", close_code=1009, row="18"),
    Bad(b"SEND\n" + b"a:b\n" * 257 + b"\n\0", "more than 256 headers", close_code=1009, row="18"),
    Bad(
        b"SEND\na:" + b"b" * 16384,
        "a header line of more than 16384 bytes",
        close_code=1009,
        versions=EARLIER,
        row="18",
    ),
    Bad(
        b"SEND\na:" + b"b" * 16383 + b"\n\n\0",
        "a header line of more than 16384 bytes",
        close_code=1009,
        row="18",
    ),
]


@pytest.mark.parametrize(
    ("case", "version"),
    [
        pytest.param(case, version, id=f"{numbered(case)}-{version.value}")
        for case in BAD
        for version in case.versions
    ],
)
@pytest.mark.parametrize("trailing", [b"", b"\n", b"SEND\n\n\0"], ids=["alone", "line end", "frame"])
@in_any_pieces
def test_what_is_no_frame_is_refused(case: Bad, version: Version, trailing: bytes, cut: Cut) -> None:
    data = case.data if case.data.endswith(b"SENDX") else case.data + trailing
    error = refusal(data, cut, version)
    assert error.close_code == case.close_code
    with pytest.raises(RemoteProtocolError, match=case.message):
        raise error


@pytest.mark.parametrize("case", BAD, ids=numbered)
def test_a_frame_before_what_is_no_frame_is_given_out(case: Bad) -> None:
    machine = decoder(case.versions[-1])
    machine.receive_data(raw("SEND a:b") + case.data + b"\n")
    assert machine.next_frame() == send(a="b")
    with pytest.raises(RemoteProtocolError, match=case.message):
        machine.next_frame()


def test_after_an_error_there_is_only_that_error() -> None:
    machine = decoder()
    machine.receive_data(b"nonsense\n")
    with pytest.raises(RemoteProtocolError) as first:
        machine.next_frame()
    machine.receive_data(raw("SEND a:b"))
    with pytest.raises(RemoteProtocolError) as second:
        machine.next_frame()
    assert second.value is first.value


def test_after_an_error_nothing_is_kept() -> None:
    machine = decoder()
    machine.receive_data(b"nonsense\n")
    with pytest.raises(RemoteProtocolError):
        machine.next_frame()
    assert kept(machine) < 50_000


def test_a_refusal_repeats_little_and_nothing_that_a_terminal_obeys() -> None:
    error = refusal(b"SEND\n" + b"\x1b[2J\xc2\x85" * 500 + b"\n\n\0")
    assert len(error.message) < 250
    assert error.message.isprintable()
    assert error.message.isascii() or "…" in error.message


# When it is refused.


def pieces_until_refused(data: bytes, version: Version = V1_2, limits: Limits = LIMITS) -> int:
    """How many bytes it takes to be refused, one by one."""
    machine = decoder(version, limits)
    for at in range(len(data)):
        machine.receive_data(data[at : at + 1])
        try:
            machine.next_frame()
        except RemoteProtocolError:
            return at + 1
    raise AssertionError("it was not refused")


@pytest.mark.parametrize(
    ("before", "first_wrong"),
    [
        (b"S", b"X"),
        (b"SEN", b"\n"),
        (b"SEND", b"S"),
        (b"", b"\0"),
        (b"SEND\r", b"a"),
        (b"SE", b"\r"),
        (b"\r", b"\r"),
        (b"SEND\ncontent-length:11\n", b"\n"),
        (b"SEND\n\n1234567890", b"1"),
        (b"SEND\ncontent-length:2\n\nab", b"c"),
        (b"SEND\na:1\nb:2\nc:3\nd:4", b"\n"),
    ],
)
def test_a_refusal_waits_for_no_byte_more_than_it_needs(before: bytes, first_wrong: bytes) -> None:
    assert pieces_until_refused(before + first_wrong + b"\n" * 50) == len(before) + 1


@pytest.mark.parametrize("version", ALL)
def test_a_header_line_that_never_ends_is_refused_at_its_limit(version: Version) -> None:
    # One byte more, as in 1.2 a CR may belong to the line end.
    assert pieces_until_refused(b"SEND\na:" + b"x" * 100, version) <= len(b"SEND\n") + 40 + 2


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@in_any_pieces
def test_limits_are_what_may_just_be_row18(end: bytes, cut: Cut) -> None:
    line = b"a:" + b"x" * 38
    head = end.join([b"SEND", line, b"b:c", b"d:e", b"", b""])
    [frame] = fed(decoder(limits=LIMITS), head + b"1234567890\0", cut)
    assert (len(frame.headers), frame.body) == (3, b"1234567890")
    known = head.replace(b"d:e", b"content-length:10")
    assert len(fed(decoder(limits=LIMITS), known + b"1234567890\0", cut)) == 1
    for changed, limit in (
        (head.replace(line, line + b"x"), "stomp.header_line"),
        (head.replace(b"d:e", b"d:e" + end + b"f:g"), "stomp.headers"),
        (head.replace(b"d:e", b"content-length:11"), "stomp.body"),
        (head + b"1", "stomp.body"),
    ):
        error = refusal(changed + b"1234567890\0", cut, limits=LIMITS)
        assert (error.limit, error.close_code) == (limit, 1009)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@in_any_pieces
def test_headers_are_limited_together_as_well(end: bytes, cut: Cut) -> None:
    limits = attrs.evolve(LIMITS, head=60)
    head = end.join([b"SEND", b"a:" + b"x" * 30, b"b:"])
    fits = head + b"y" * (60 - len(head))
    assert len(fed(decoder(limits=limits), fits + end + end + b"\0", cut)) == 1
    error = refusal(fits + b"y" + end + end + b"\0", cut, limits=limits)
    assert (error.limit, error.close_code) == ("stomp.head", 1009)


def test_headers_that_never_end_are_refused_at_their_limit() -> None:
    limits = Limits(header_line=1000, head=3000)
    lines = b"".join(b"%d:" % number + b"x" * 990 + b"\n" for number in range(9))
    assert pieces_until_refused(b"SEND\n" + lines, limits=limits) == 3000 + 2


def test_repeated_headers_count_towards_the_limit() -> None:
    assert refusal(b"SEND\n" + b"a:b\n" * 4 + b"\n\0", limits=LIMITS).limit == "stomp.headers"


def test_the_refusal_of_a_body_holds_the_frame_whose_body_it_is() -> None:
    error = refusal(b"SEND\nreceipt:r\ncontent-length:11\n\n", limits=LIMITS)
    assert error.frame == Frame("SEND", {"receipt": "r", "content-length": "11"})


UNREADABLE = {
    "no colon": b"x",
    "no name": b":x",
    "undefined escape": b"x:\\t",
    "bare CR": b"x:a\rb",
    "not UTF-8": b"x:\xff",
    "content-length": b"content-length:x",
}


@in_any_pieces
@pytest.mark.parametrize("line", UNREADABLE.values(), ids=UNREADABLE)
def test_a_head_that_cannot_be_read_tells_the_receipt_that_stands_anywhere_in_it_row85(
    line: bytes, cut: Cut
) -> None:
    for lines in (
        (b"receipt:a\\cb", line),
        (line, b"receipt:a\\cb"),
        (b"y:z", line, b"receipt:a\\cb", b"receipt:2"),
    ):
        for end in (b"\n", b"\r\n"):
            frame = refusal(end.join((b"SEND", *lines, b"", b"\0")), cut).frame
            assert frame is not None
            assert (frame.command, frame.headers["receipt"]) == ("SEND", "a:b")


@in_any_pieces
@pytest.mark.parametrize(
    "line", [b"x:a\0b", b"x:" + b"y" * 50, b"x:y\nx:y\nx:y\nx:y"], ids=["NUL", "long", "many"]
)
def test_a_head_that_is_not_read_to_its_end_tells_the_receipt_that_stood_before_row85(
    line: bytes, cut: Cut
) -> None:
    frame = refusal(b"SEND\nreceipt:r\n" + line + b"\n\n\0", cut, limits=LIMITS).frame
    assert frame == Frame("SEND", {"receipt": "r"})
    assert refusal(b"SEND\n" + line + b"\nreceipt:r\n\n\0", cut, limits=LIMITS).frame is None


@in_any_pieces
@pytest.mark.parametrize(
    "receipt", [b"receipt:\\t", b"receipt:a\rb", b"receipt:\xff", b"receipt", b"receipts:r", b""]
)
def test_a_receipt_that_cannot_be_read_is_not_told(receipt: bytes, cut: Cut) -> None:
    assert refusal(b"SEND\nx\n" + receipt + b"\n\n\0", cut).frame is None


@in_any_pieces
def test_a_connect_that_cannot_be_read_has_no_receipt_row35(cut: Cut) -> None:
    assert refusal(b"CONNECT\nreceipt:r\nx\n\n\0", cut).frame is None


@pytest.mark.parametrize(
    ("version", "line", "told"),
    [(V1_0, b"receipt:a\\tb", "a\\tb"), (V1_1, b"receipt:a\rb\r", "a\rb\r"), (V1_1, b"receipt:a\\cb", "a:b")],
)
def test_the_receipt_of_a_head_that_cannot_be_read_is_read_as_the_version_does(
    version: Version, line: bytes, told: str
) -> None:
    frame = refusal(b"SEND\nx\n" + line + b"\n\n\0", version=version).frame
    assert frame == Frame("SEND", {"receipt": told})


# Between frames.


def test_heart_beats_are_counted_and_no_frames_row3() -> None:
    machine = decoder()
    assert fed(machine, HEART_BEAT * 3) == []
    assert machine.heart_beats == 3
    assert len(fed(machine, b"\n" + raw("SEND a:b") + b"\r\n\n")) == 1
    assert machine.heart_beats == 6


@in_any_pieces
def test_each_line_end_between_frames_is_counted_in_any_pieces(cut: Cut) -> None:
    machine = decoder()
    fed(machine, b"\r\n\n\r\n" + raw("SEND a:b") + b"\r\n", cut)
    assert machine.heart_beats == 4


def test_version_and_limits_can_be_set_between_frames_of_one_piece() -> None:
    machine = decoder(limits=LIMITS)
    machine.receive_data(b"CONNECT\n\n\0" + b"SEND\na:\\c:\n\n12345678901\0")
    assert machine.next_frame() == Frame("CONNECT")
    machine.version, machine.limits = V1_0, Limits()
    assert machine.next_frame() == send(b"12345678901", a="\\c:")


def test_a_frame_keeps_its_body_when_more_data_comes() -> None:
    machine = decoder()
    machine.receive_data(b"SEND\n\nab")
    machine.receive_data(b"c\0SEND\n\nde")
    first = machine.next_frame()
    assert machine.next_frame() is None
    machine.receive_data(b"f\0")
    second = machine.next_frame()
    assert first == send(b"abc")
    assert second == send(b"def")
    assert first is not None
    assert type(first.body) is bytes


# What it costs.


@pytest.mark.parametrize("ending", [b"", b"SEND\n\n\0"], ids=["no blank line", "a blank line at the end"])
@pytest.mark.parametrize(
    "frame",
    [
        b"SEND\ndestination:/x\n\n\0",
        b"SEND\r\ndestination:/x\r\n\r\n\0",
        b"SEND\r\ndestination:/x\r\n\r\n\n\nbody\0",
        b"\r\n\nSEND\ndestination:/x\n\n\n\n\0\n",
        b"SEND\ndestination:/x\r\n\r\n\0\r\n",
        b"\n",
        b"\r\n",
    ],
)
@in_any_pieces
def test_many_frames_at_once_are_searched_at_most_twice(frame: bytes, ending: bytes, cut: Cut) -> None:
    data = frame * 300 + ending
    machine = decoder()
    fed(machine, data, cut)
    assert machine.examined <= 2 * len(data)


@pytest.mark.parametrize(
    "frame",
    [
        b"SEND\na:b\n\n" + b"x" * 5000 + b"\0",
        b"SEND\na:b\n\n" + b"\n\n" * 2500 + b"\0",
        b"SEND\r\na:b\r\n\r\n" + b"\r\n" * 2500 + b"\0",
        b"SEND\na:" + b"x" * 5000 + b"\n\n\0",
        b"SEND\n" + b"a:b\n" * 250 + b"\n\0",
        b"\n" * 5000,
    ],
)
@in_any_pieces
def test_a_large_frame_is_searched_at_most_twice(frame: bytes, cut: Cut) -> None:
    machine = decoder()
    fed(machine, frame, cut)
    assert machine.examined <= 2 * len(frame)


@pytest.mark.parametrize("begun", [b"", b"SEND\r\n"], ids=["between frames", "within a frame"])
def test_a_plain_frame_is_searched_once_also_after_one_with_carriage_returns(begun: bytes) -> None:
    machine = decoder()
    assert len(fed(machine, b"SEND\r\na:b\r\n\r\n\0" * 3 + begun)) == 3
    if begun:
        assert len(fed(machine, b"\r\n\0" + b"SEND\r\n\r\n\0")) == 2
    before = machine.examined
    plain = b"SEND\na:b\n\nbody\0"
    assert len(fed(machine, plain)) == 1
    assert machine.examined - before == len(plain)


def test_a_body_of_known_length_is_not_searched() -> None:
    machine = decoder()
    [frame] = fed(machine, b"SEND\ncontent-length:100000\n\n" + b"\n\0" * 50000 + b"\0")
    assert len(frame.body) == 100000
    assert machine.examined < 100


# Whatever comes.

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8) | (
    st.text("\\:\n\r ac", min_size=1, max_size=5)
)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | (
    st.text("\\:\n\r ac", max_size=8)
)
bodies = st.binary(max_size=60) | st.text("\n\r\0a", max_size=12).map(str.encode)


@st.composite
def legal_frames(draw: st.DrawFn, version: Version) -> Frame:
    command = draw(st.sampled_from(COMMANDS))
    headers = draw(st.dictionaries(names, values, max_size=5))
    headers.pop("content-length", None)
    plain = version is V1_0 or command in UNESCAPED
    said: dict[str, str] = {}
    for name, value in headers.items():
        if plain:  # what is not escaped cannot be said; nor, to a reader of CRLF, can a CR
            name, value = name.replace(":", "_").replace("\n", "_"), value.replace("\n", "_")
            if version is V1_2 or command in UNESCAPED:
                name, value = name.replace("\r", "_"), value.replace("\r", "_")
        said[name] = value
    return Frame(command, said, draw(bodies) if command in WITH_BODY else b"")


streams_of_frames = st.sampled_from(ALL).flatmap(
    lambda version: st.tuples(st.just(version), st.lists(legal_frames(version), min_size=1, max_size=4))
)
cuts = st.lists(st.integers(0, 400), max_size=12)


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[start:stop] for start, stop in pairwise(edges)]


@settings(max_examples=250)
@given(streams_of_frames, cuts)
def test_what_is_encoded_is_decoded_in_any_pieces_row22(
    stream: tuple[Version, list[Frame]], places: list[int]
) -> None:
    version, frames = stream
    data = b"\n".join(encode(frame, version) for frame in frames) + b"\n"
    for pieces in ([data], cut_at(data, places), byte_by_byte(data)):
        machine = decoder(version)
        found = [frame for piece in pieces for frame in fed(machine, piece)]
        for frame in found:
            length = frame.headers.pop("content-length", None)
            assert length == (str(len(frame.body)) if frame.body else None)
        assert found == frames
        assert machine.examined <= 2 * len(data)


@given(legal_frames(V1_2))
def test_a_frame_of_the_encoder_is_alone_in_its_bytes(frame: Frame) -> None:
    data = encode(frame, V1_2)
    machine = decoder()
    assert fed(machine, data[:-1]) == []
    assert len(fed(machine, data[-1:])) == 1
    assert read(data).command == frame.command


fragments = st.sampled_from(
    [
        *(b"SEND\n", b"SEND\r\n", b"SE", b"ND", b"CONNECT\n", b"SEND\n\n\0", b"SEND\r\na:b\r\n\r\nbody\0"),
        *(b"a:b\n", b"a:b\r\n", b"a\\c:\\n\n", b"content-length:2\n", b"content-length:11\n", b"x" * 45),
        *(b"\\", b":", b"\n", b"\r", b"\n\n", b"\r\n\r\n", b"\0", b"\0\n", b"\xff", "é".encode()),
    ]
)
anything = st.lists(fragments | st.binary(max_size=6), max_size=25).map(b"".join)


def outcome(version: Version, pieces: list[bytes]) -> tuple[list[Frame], RemoteProtocolError | None]:
    """Frames, and how it was refused if it was; any other exception is the test's failure."""
    machine = decoder(version, LIMITS)
    frames: list[Frame] = []
    refused = None
    seen = 0
    for piece in pieces:
        seen += len(piece)
        machine.receive_data(piece)
        try:
            while (frame := machine.next_frame()) is not None:
                frames.append(frame)
        except RemoteProtocolError as error:
            refused = error
        assert machine.examined <= 2 * seen
        if refused is not None:
            break
    if refused is not None:  # for ever
        machine.receive_data(b"\n\0" + raw("SEND a:b"))
        with pytest.raises(RemoteProtocolError) as caught:
            machine.next_frame()
        assert caught.value is refused
    return frames, refused


@settings(max_examples=500)
@given(st.sampled_from(ALL), anything, cuts)
@example(V1_2, b"\r\n" * 20 + b"SEND\r\n\r\n\0" * 20 + b"\n\n", [])
def test_any_bytes_are_frames_or_refused_and_the_same_in_any_pieces(
    version: Version, data: bytes, places: list[int]
) -> None:
    frames, refused = outcome(version, [data])
    for pieces in (cut_at(data, places), byte_by_byte(data)):
        again, same = outcome(version, pieces)
        assert again == frames
        assert (same is None) == (refused is None)
        if same is not None and refused is not None:
            assert same.message


@settings(max_examples=200)
@given(streams_of_frames, st.lists(st.tuples(st.integers(0, 400), fragments), min_size=1, max_size=3), cuts)
def test_legal_frames_that_were_tampered_with_are_frames_or_refused_and_the_same_in_any_pieces(
    stream: tuple[Version, list[Frame]], changes: list[tuple[int, bytes]], places: list[int]
) -> None:
    version, frames = stream
    data = b"\n".join(encode(frame, version) for frame in frames)
    for place, fragment in changes:
        at = place % len(data)
        data = data[:at] + fragment + data[at + len(fragment) % 2 :]
    frames, refused = outcome(version, [data])
    for pieces in (cut_at(data, places), byte_by_byte(data)):
        again, same = outcome(version, pieces)
        assert again == frames
        assert (same is None) == (refused is None)


@given(st.sampled_from(ALL), st.binary(max_size=300))
def test_any_bytes_at_all_are_frames_or_refused(version: Version, data: bytes) -> None:
    outcome(version, [data])
    outcome(version, [b"SEND\n" + data])
    outcome(version, [b"SEND\n\n" + data])


@pytest.mark.parametrize("version", Version)
@pytest.mark.parametrize("step", [1, 100])
def test_a_frame_without_its_blank_line_is_refused_at_its_nul(version: Version, step: int) -> None:
    decoder = FrameDecoder(Limits(), version)
    data = b"SEND\ndestination:/x\0"
    for start in range(0, len(data), step):
        assert decoder.next_frame() is None
        decoder.receive_data(data[start : start + step])
    with pytest.raises(RemoteProtocolError, match="no blank line"):
        decoder.next_frame()
