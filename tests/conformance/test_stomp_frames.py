"""STOMP Frames, Value Encoding, Body, Standard Headers, Size Limits (checklist A)."""

from __future__ import annotations

import pytest
from talk import V1_0, V1_1, V1_2, T, before_1_2, broker, each_version, join, knock, session, since_1_1
from trio.testing import MockClock

from trio_stomp import ConnectRequest, StompApp, User
from trio_stomp.stomp.frames import Version

# Augmented BNF.


async def test_augmented_bnf_a_line_ends_in_cr_lf_or_lf_row1(autojump_clock: MockClock) -> None:
    async with broker() as server:
        talk = await knock(server, b"CONNECT\r\naccept-version:1.2\r\nhost:h\r\n\r\n\0\r\n")
        assert (await talk.frame()).command == "CONNECTED"
        await talk.listen()
        await talk.write(b"SEND\r\ndestination:/topic/t\r\nx:v\nreceipt:r\r\n\r\n\r\nbody\0")
        message, receipt = await talk.frame(), await talk.frame()
        assert (message.body, message.headers["x"]) == (b"\r\nbody", "v")
        assert receipt.headers["receipt-id"] == "r"


@before_1_2
async def test_stomp_frames_a_cr_is_data_before_1_2_row2(version: Version, autojump_clock: MockClock) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\nk:v\r\n\nx\0")
        [message] = await talk.take(1)
        assert message.headers["k"] == "v\r"


@before_1_2
async def test_stomp_frames_a_line_of_a_cr_alone_ends_no_head_before_1_2_row2(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(b"SEND\ndestination:/topic/t\n\r\n\nx\0")


@each_version
@pytest.mark.parametrize("ends", [b"\n", b"\n\n\n", b"\n" * 1000])
async def test_augmented_bnf_line_ends_may_follow_the_nul_row3(
    ends: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        frame = b"SEND\ndestination:/topic/t\n\nx\0"
        await talk.write(ends + frame + ends + frame + ends)
        assert len(await talk.take(2)) == 2


async def test_augmented_bnf_line_ends_may_come_before_the_first_frame_row3(
    autojump_clock: MockClock,
) -> None:
    async with broker() as server:
        talk = await knock(server, b"\n\n\r\nCONNECT\naccept-version:1.2\nhost:h\n\n\0")
        assert (await talk.frame()).command == "CONNECTED"


# Header content-length, Body.


@each_version
async def test_header_content_length_counts_every_octet_row4(
    version: Version, autojump_clock: MockClock
) -> None:
    body = bytes(range(256))
    async with session(version) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\ncontent-length:256\n\n" + body + b"\0")
        [message] = await talk.take(1)
        assert message.body == body
        assert message.headers["content-length"] == "256"


@each_version
async def test_header_content_length_a_frame_still_ends_in_nul_row5(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        behind = b"SEND\ndestination:/topic/t\n\nbehind\0"
        await talk.refused(b"SEND\ndestination:/topic/t\ncontent-length:2\n\nhello\0" + behind)


@each_version
async def test_body_ends_at_the_first_nul_without_content_length_row6(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\n\none\n\ntwo\n\0\nSEND\ndestination:/topic/t\n\n\0")
        assert [frame.body for frame in await talk.take(2)] == [b"one\n\ntwo\n", b""]


@each_version
@pytest.mark.parametrize(
    "frame",
    [
        b"send\ndestination:/topic/t\n\nx\0",
        b"Send\ndestination:/topic/t\n\nx\0",
        b"SEND\nDestination:/topic/t\n\nx\0",
        b"SUBSCRIBE\nID:1\nDESTINATION:/topic/t\n\n\0",
    ],
)
async def test_stomp_frames_commands_and_headers_are_case_sensitive_row7(
    frame: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(frame)


# Value Encoding.


@since_1_1
async def test_value_encoding_headers_are_utf_8_row8(version: Version, autojump_clock: MockClock) -> None:
    line = "clé-☃:\U0001f600 ü".encode()
    async with session(version) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\n" + line + b"\n\nx\0")
        [message] = await talk.take(1)
        assert message.headers["clé-☃"] == "\U0001f600 ü"
        assert line in talk.raw[-2]


@since_1_1
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xc0\xaf"])
async def test_value_encoding_a_header_that_is_not_utf_8_is_refused_row8(
    bad: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(b"SEND\ndestination:/topic/t\nx:" + bad + b"\n\nx\0")


@pytest.mark.parametrize(
    ("version", "escaped", "meant"),
    [(V1_2, b"a\\rb\\nc\\cd\\\\e", "a\rb\nc:d\\e"), (V1_1, b"b\\nc\\cd\\\\e", "b\nc:d\\e")],
    ids=["1.2", "1.1"],
)
async def test_value_encoding_escapes_are_undone_and_written_again_row9_row10(
    version: Version, escaped: bytes, meant: str, autojump_clock: MockClock
) -> None:
    """In names, in values and in the headers that the server reads itself."""
    async with session(version) as talk:
        await talk.listen("/topic/a:b\\c")
        sent = b"SEND\ndestination:/topic/a\\cb\\\\c\nk" + escaped + b":v" + escaped + b"\n\nx\0"
        await talk.write(sent)
        [message] = await talk.take(1)
        assert message.headers["k" + meant] == "v" + meant
        assert message.headers["destination"] == "/topic/a:b\\c"
        assert b"\nk" + escaped + b":v" + escaped + b"\n" in talk.raw[-2]


@since_1_1
@pytest.mark.parametrize("escape", [b"\\t", b"\\x", b"\\:", b"a\\", b"\\\\\\", b"\\N"])
@pytest.mark.parametrize("where", [b"x:%s", b"x%s:v", b"receipt:%s"])
async def test_value_encoding_an_undefined_escape_is_fatal_row11_row12(
    where: bytes, escape: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(b"SEND\ndestination:/topic/t\n" + where % escape + b"\n\nx\0")


async def test_value_encoding_there_is_no_escaped_cr_in_1_1_row12(autojump_clock: MockClock) -> None:
    async with session(V1_1) as talk:
        await talk.refused(b"SEND\ndestination:/topic/t\nx:\\r\n\nx\0")


async def test_value_encoding_nothing_is_escaped_in_1_0_row13(autojump_clock: MockClock) -> None:
    async with session(V1_0) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\nx:a:b\\c\\n\\t\\\n\nx\0")
        [message] = await talk.take(1)
        assert message.headers["x"] == "a:b\\c\\n\\t\\"
        assert b"\nx:a:b\\c\\n\\t\\\n" in talk.raw[-2]


@pytest.mark.parametrize("offered", [b"1.1", b"1.2"])
async def test_value_encoding_connect_and_connected_are_not_escaped_row14(
    offered: bytes, autojump_clock: MockClock
) -> None:
    app, seen = StompApp(), []

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User:
        seen.append((request.passcode, request.headers["x"]))
        return User("a:d\\a")

    async with broker(app) as server:
        head = b"CONNECT\naccept-version:" + offered
        talk = await knock(server, head + b"\nhost:h\npasscode:p:\\c\nx:a\\tb\n\n\0")
        assert (await talk.frame()).command == "CONNECTED"
        assert seen == [("p:\\c", "a\\tb")]
        assert b"\nuser-name:a:d\\a\n" in talk.raw[-1]


@since_1_1
async def test_value_encoding_values_are_neither_trimmed_nor_padded_row15(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\nx:  v \t\ny:\n z : \n\nx\0")
        [message] = await talk.take(1)
        assert (message.headers["x"], message.headers["y"], message.headers[" z "]) == ("  v \t", "", " ")
        assert b"\nx:  v \t\n" in talk.raw[-2]


# Repeated Header Entries.


@each_version
async def test_repeated_header_entries_the_first_one_counts_row16(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\nfoo:World\nfoo:Hello\ndestination:/topic/u\n\nx\0")
        [message] = await talk.take(1)
        assert (message.headers["foo"], message.headers["destination"]) == ("World", T)


# Body.


@since_1_1
@pytest.mark.parametrize(
    "frame",
    [
        b"SUBSCRIBE\nid:2\ndestination:/topic/t\n\nbody\0",
        b"UNSUBSCRIBE\nid:1\n\nbody\0",
        b"BEGIN\ntransaction:t\n\nbody\0",
        b"DISCONNECT\ncontent-length:4\n\nbody\0",
    ],
)
async def test_body_is_for_send_message_and_error_only_row17(
    frame: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.refused(frame)


async def test_body_of_a_subscribe_is_ignored_in_1_0_row17(autojump_clock: MockClock) -> None:
    async with session(V1_0) as talk:
        await talk.write(b"SUBSCRIBE\ndestination:/topic/t\n\nignored\0")
        await talk.say("SEND", b"x", destination=T)
        assert [frame.body for frame in await talk.take(1)] == [b"x"]


# Size Limits.


@each_version
@pytest.mark.parametrize(
    ("head", "limit"),
    [
        (b"x:1\n" * 10_000, "stomp.headers"),
        (b"x:" + b"a" * 1_000_000 + b"\n", "stomp.header_line"),
        (b"content-length:99999999999\n\n", "stomp.body"),
    ],
    ids=["headers", "line", "announced body"],
)
async def test_size_limits_what_is_over_one_is_error_and_the_end_row18(
    head: bytes, limit: str, version: Version, autojump_clock: MockClock
) -> None:
    async with broker() as server:
        talk = await join(server, version)
        await talk.refused(b"SEND\ndestination:/topic/t\n" + head)  # it need not be complete
        assert talk.close_code == 1009
        assert server.statistics().metrics.limit_hits[limit] == 1


@each_version
@pytest.mark.parametrize("length", [b"", b"content-length:1001\n"])
async def test_size_limits_a_body_over_the_limit_is_error_and_the_end_row18(
    length: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version, stomp={"body": 1000}) as talk:
        await talk.refused(b"SEND\ndestination:/topic/t\n" + length + b"\n" + b"a" * 1001 + b"\0")


# Header content-type, Body.


@each_version
async def test_header_content_type_is_kept_and_not_invented_row19(
    version: Version, autojump_clock: MockClock
) -> None:
    text = '{"é": "☃"}'.encode()
    async with session(version) as talk:
        await talk.listen()
        kind = b"content-type:application/json;charset=utf-8\n"
        await talk.write(b"SEND\ndestination:/topic/t\n" + kind + b"\n" + text + b"\0")
        await talk.write(b"SEND\ndestination:/topic/t\n\n" + text + b"\0")
        one, two = await talk.take(2)
        assert (one.headers["content-type"], one.body) == ("application/json;charset=utf-8", text)
        assert "content-type" not in two.headers


@each_version
async def test_header_content_length_of_a_message_counts_octets_row20(
    version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.write(b"SEND\ndestination:/topic/t\n\n" + "é☃".encode() + b"\0")
        [message] = await talk.take(1)
        assert message.headers["content-length"] == "5"


@each_version
async def test_header_content_type_and_length_of_an_error_are_needless_without_a_body_row20(
    version: Version, autojump_clock: MockClock
) -> None:
    """All that is to be said is in the message header."""
    async with session(version) as talk:
        error = await talk.refused(b"SEND\n\nx\0")
        assert error.body == b""
        assert not {"content-type", "content-length"} & error.headers.keys()


# What no specification says and every server must decide.


@each_version
@pytest.mark.parametrize("length", [b"abc", b"-1", b"+1", b"1_0", b" 1", b"", b"1.0", "\u0661".encode()])
async def test_header_content_length_that_is_no_number_is_refused_row21(
    length: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(b"SEND\ndestination:/topic/t\ncontent-length:" + length + b"\n\nx\0")


@each_version
@pytest.mark.parametrize("line", [b"no colon", b":no name"])
async def test_stomp_frames_a_header_without_colon_or_name_is_refused_row21(
    line: bytes, version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.refused(b"SEND\ndestination:/topic/t\n" + line + b"\n\nx\0")


SNOW = "SEND\ndestination:/topic/t\nx:☃\n\n☃\0".encode()


@each_version
@pytest.mark.parametrize(
    "pieces",
    [
        [SNOW[at : at + 1] for at in range(len(SNOW))] * 3,
        [SNOW * 3],
        [SNOW + SNOW[:30], SNOW[30:] + SNOW[:-3], SNOW[-3:]],
    ],
    ids=["byte by byte", "three in one", "within a character"],
)
async def test_stomp_frames_may_come_in_any_pieces_row22(
    pieces: list[bytes], version: Version, autojump_clock: MockClock
) -> None:
    async with session(version) as talk:
        await talk.listen()
        await talk.write(*pieces)
        assert [(frame.body, frame.headers["x"]) for frame in await talk.take(3)] == [("☃".encode(), "☃")] * 3


async def test_repeated_header_entries_a_proxy_may_put_its_own_before_row23(
    autojump_clock: MockClock,
) -> None:
    """As an intermediate server updates a header: by putting a new line before the old one."""
    async with session() as talk:
        await talk.listen()
        await talk.write(b"SEND\nhop:new\ndestination:/topic/t\nhop:old\n\nx\0")
        [message] = await talk.take(1)
        assert message.headers["hop"] == "new"
        assert talk.raw[-2].count(b"\nhop:") == 1
