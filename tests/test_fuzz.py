"""Structure-aware fuzzing, some thousand inputs of it: what is nearly right, in the hands of each reader.

More of it: ``HYPOTHESIS_PROFILE=long``. The fuzzers in `fuzz` do for hours what they share with these tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

import attrs
import pytest
import trio
import trio.testing
from fuzz.app import SETTINGS, make_app
from fuzz.conversation import converse
from fuzz.decoder import SMALL, check, decoded
from fuzz.front import check_head, gist, read_head
from fuzz.heard import judge
from fuzz.plans import CONNECT_FAULTS, HEAD_FAULTS, STOMP_FAULTS, WEBSOCKET_FAULTS, make_plan
from fuzz.sessions import (
    BINARY,
    COMMANDS,
    CONTINUATION,
    DESTINATIONS,
    HEAD_LINES,
    NAMES,
    NASTY,
    PING,
    PONG,
    REQUEST_LINES,
    TEXT,
    UPGRADED,
    Plan,
    Send,
    Stomp,
    Wait,
    Ws,
    head,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from peer import ended, in_loop, run_pool_in
from trio.testing import MockClock
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from trio_stomp.errors import RemoteProtocolError
from trio_stomp.settings import load_config
from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import Frame, Limits, Version
from trio_stomp.stomp.protocol import HeartBeat, ServerProtocol, State
from trio_stomp.testing import TestServer, open_test_server
from trio_stomp.transport.cutter import FrameCutter, Passed, Violation

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def examples(count: int) -> Callable[[F], F]:
    """As many as that, in the profile "long" more of them in proportion."""
    return settings(max_examples=count * settings().max_examples // 100, deadline=None)


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """The usual value in two thirds of the cases."""
    return st.sampled_from([usual] * 2 * len(others) + list(others))


NAME = st.sampled_from([name.encode() for name in NAMES])
VALUE = st.sampled_from([*NASTY, *(text.encode() for text in DESTINATIONS), b"1", b"1.2", b"0,0", b"a"])
HEADER = st.tuples(NAME | NAME | VALUE, VALUE | VALUE | st.binary(max_size=80))
COMMAND = st.sampled_from(COMMANDS)
LOOSE = st.builds(
    Stomp,
    command=COMMAND | COMMAND | COMMAND | st.sampled_from([b"", b"send", b"SENDX", b"\xff"]),
    headers=st.lists(HEADER, max_size=9),
    body=st.just(b"") | st.binary(max_size=120),
    line_end=mostly(b"\n", b"\r\n", b"\r"),
    blank=mostly(b"\n", b"\r\n", b"", b"\r"),
    colon=mostly(b":", b"", b"::"),
    end=mostly(b"\0", b"", b"\0\n", b"\0\r\n", b"\0\0"),
)
MEASURED = st.builds(
    lambda frame, wrong: attrs.evolve(
        frame, headers=[(b"content-length", b"%d" % (len(frame.body) + wrong)), *frame.headers]
    ),
    LOOSE,
    mostly(0, 1, -1),
)
FRAME = LOOSE | MEASURED
CONNECT = st.builds(
    Stomp,
    command=mostly(b"CONNECT", b"STOMP"),
    headers=st.lists(HEADER, max_size=2).map(
        lambda more: [(b"accept-version", b"1.0,1.1,1.2"), (b"host", b"h"), *more]
    ),
)
CONNECTED = st.builds(
    Stomp,
    command=st.just(b"CONNECTED"),
    headers=st.lists(HEADER, max_size=2).map(lambda more: [(b"version", b"1.2"), *more]),
)
ACCIDENT = st.sampled_from(["flip", "insert", "drop", "cut"])
EDITS = st.lists(st.tuples(st.floats(0, 1), ACCIDENT, st.integers(0, 255)), max_size=3)
CUTS = st.lists(st.floats(0, 1), max_size=6)
VERSION = st.sampled_from(list(Version))
LIMITS = st.sampled_from([SMALL, Limits()])


def edited(data: bytes, edits: Sequence[tuple[float, str, int]]) -> bytes:
    """The bytes after some small accidents."""
    for place, kind, byte in edits:
        at = int(place * len(data))
        match kind:
            case "flip":
                data = data[:at] + bytes((byte,)) + data[at + 1 :]
            case "insert":
                data = data[:at] + bytes((byte,)) + data[at:]
            case "drop":
                data = data[:at] + data[at + byte :]
            case "cut":
                data = data[:at]
    return data


def pieces(data: bytes, cuts: Sequence[float]) -> list[bytes]:
    """The bytes, cut there."""
    ends = [*sorted(int(cut * len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def stream(*first: st.SearchStrategy[Stomp]) -> st.SearchStrategy[bytes]:
    """Some frames as bytes, with accidents."""
    frames = st.tuples(*first, st.lists(FRAME, min_size=not first, max_size=4))
    joined = frames.map(lambda parts: b"".join(frame.encode() for frame in [*parts[:-1], *parts[-1]]))
    return st.builds(edited, joined, st.just([]) | EDITS)


# The decoder, and the state machines on it.


@examples(500)
@given(stream() | st.binary(max_size=60), CUTS, LIMITS, VERSION)
def test_decoder_makes_frames_or_refuses_and_pieces_make_no_difference(
    data: bytes, cuts: list[float], limits: Limits, version: Version
) -> None:
    frames, error = check(data, limits, version)
    (again, refusal), decoder = decoded(pieces(data, cuts), limits, version)
    assert again == frames
    assert (refusal is None) is (error is None)
    assert decoder.examined <= 2 * len(data)


def through(machine: ServerProtocol | ClientProtocol, data: Sequence[bytes]) -> tuple[list[Frame], bool]:
    """The frames that it gives out (CONNECT is accepted), and whether it refused what came after them."""
    frames: list[Frame] = []
    refusal: RemoteProtocolError | None = None
    try:
        for piece in data:
            machine.receive_data(piece)
            while (frame := machine.next_frame()) is not None:
                frames.append(frame)
                if isinstance(machine, ServerProtocol) and machine.state is State.CONNECTING:
                    machine.accept(session="s")
    except RemoteProtocolError as error:
        refusal = error
    if refusal is not None:
        check_refusal(machine, refusal)
    return frames, refusal is not None


def check_refusal(machine: ServerProtocol | ClientProtocol, refusal: RemoteProtocolError) -> None:
    """It is for good, and the server can tell of it."""
    assert machine.is_closed
    assert refusal.close_code in (1002, 1007, 1008, 1009)
    machine.receive_data(b"SEND\ndestination:/x\n\n\0")
    with pytest.raises(RemoteProtocolError) as again:
        machine.next_frame()
    assert again.value is refusal
    if isinstance(machine, ServerProtocol):
        said = machine.error(refusal.message, receipt_id="r", headers=refusal.headers)
        (frames, error), _ = decoded([said], Limits(), machine.version)
        assert [frame.command for frame in frames] == ["ERROR"]
        assert error is None


def server() -> ServerProtocol:
    limits = Limits(header_line=200, headers=9, body=100)
    return ServerProtocol(limits_before=SMALL, limits=limits, max_subscriptions=3)


def client() -> ClientProtocol:
    made = ClientProtocol(limits=SMALL, heart_beat=HeartBeat(1.0, 1.0))
    made.connect(host="h")
    return made


@examples(300)
@given(stream(CONNECT) | stream(), CUTS)
def test_server_protocol_gives_out_what_is_legal_or_refuses_for_good(data: bytes, cuts: list[float]) -> None:
    machine = server()
    frames, is_refused = through(machine, [data])
    assert through(server(), pieces(data, cuts)) == (frames, is_refused)
    connects = [frame.command in ("CONNECT", "STOMP") for frame in frames]
    assert connects == [number == 0 for number in range(len(frames))]
    assert len(machine.subscriptions) <= 3
    assert "DISCONNECT" not in [frame.command for frame in frames[:-1]]


@examples(300)
@given(stream(CONNECTED) | stream(), CUTS)
def test_client_protocol_gives_out_what_is_legal_or_refuses_for_good(data: bytes, cuts: list[float]) -> None:
    frames, is_refused = through(client(), [data])
    assert through(client(), pieces(data, cuts)) == (frames, is_refused)
    commands = [frame.command for frame in frames]
    assert set(commands) <= {"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"}
    assert commands[:1] in ([], ["CONNECTED"], ["ERROR"])
    assert "ERROR" not in commands[:-1]
    assert "CONNECTED" not in commands[1:]


# The front door.

HEAD = st.builds(
    lambda first, lines, more: b"\r\n".join([first, *lines, *more]) + b"\r\n\r\n",
    st.just(b"GET /ws HTTP/1.1") | st.sampled_from(REQUEST_LINES),
    st.permutations(
        [
            b"Host: h",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            b"Sec-WebSocket-Version: 13",
        ]
    ),
    st.lists(st.sampled_from(HEAD_LINES) | st.binary(max_size=30), max_size=3),
)


@examples(300)
@given(st.builds(edited, HEAD, st.just([]) | EDITS), CUTS)
def test_front_door_reads_or_refuses_and_the_library_takes_what_it_lets_through(
    data: bytes, cuts: list[float]
) -> None:
    check_head(data)
    assert gist(read_head(pieces(data, cuts))) == gist(read_head([data]))


# The frame cutter.

PAYLOAD = st.just(b"") | st.binary(max_size=140) | st.text(max_size=20).map(str.encode)
DATA = st.builds(Ws, payload=PAYLOAD, opcode=mostly(TEXT, BINARY))
CONTROL = st.builds(Ws, payload=st.binary(max_size=20), opcode=mostly(PING, PONG))
FRAGMENTED = st.builds(
    lambda payloads, opcode, between: [
        frame
        for number, payload in enumerate(payloads)
        for frame in (
            Ws(payload, opcode if number == 0 else CONTINUATION, final=number == len(payloads) - 1),
            *(between if number < len(payloads) - 1 else ()),
        )
    ],
    st.lists(PAYLOAD, min_size=2, max_size=4),
    mostly(TEXT, BINARY),
    st.lists(CONTROL, max_size=2),
)
ODD = st.builds(
    Ws,
    payload=PAYLOAD,
    opcode=st.integers(0, 15),
    final=st.booleans(),
    rsv=mostly(0, 1, 4),
    key=mostly(b"\1\2\3\4", None),
    claim=mostly(None, 0, 125, 126, 65535, 65536, 1 << 63),
    width=mostly(None, 0, 2, 8),
)
FRAMES = st.lists(
    DATA.map(lambda frame: [frame]) | CONTROL.map(lambda frame: [frame]) | FRAGMENTED, max_size=6
).map(lambda lists: [frame for frames in lists for frame in frames])
WIRE = st.builds(
    lambda frames, odd, more, edits: edited(
        b"".join(frame.encode() for frame in [*frames, *odd, *more]), edits
    ),
    FRAMES,
    st.lists(ODD, max_size=1),
    FRAMES,
    st.just([]) | EDITS,
)


class Library:
    """The whole messages that wsproto reads; nothing after a violation or a Close."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.is_over = False
        self._protocol = FrameProtocol(client=False, extensions=[])
        self._open: list[bytes] = []

    def feed(self, data: bytes) -> None:
        if self.is_over:
            return
        self._protocol.receive_bytes(data)
        try:
            for frame in self._protocol.received_frames():
                if frame.opcode is Opcode.CLOSE:
                    self.is_over = True
                    return
                if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION):
                    payload: Any = frame.payload
                    self._open.append(payload.encode() if isinstance(payload, str) else bytes(payload))
                    if frame.message_finished:
                        self.messages.append(b"".join(self._open))
                        self._open = []
        except ParseFailed:
            self.is_over = True


def cut(data: Sequence[bytes], *, is_cutting: bool = True) -> list[bytes]:
    """The messages as a session gets them: cut ones, and the library's where the markers are."""
    cutter = FrameCutter(is_cutting=is_cutting, message_bytes=1 << 20, fragments=100)
    library = Library()
    for piece in data:
        cutter.feed(piece)
        library.feed(bytes(cutter.passed))
        cutter.passed.clear()
    found: list[bytes] = []
    passed = iter(library.messages)
    for item in cutter.items:
        if isinstance(item, bytes):
            found.append(item)
        elif item is Passed.MESSAGE:
            message = next(passed, None)
            if message is None:
                break  # not complete, or refused
            found.append(message)
        else:
            assert item is Passed.CLOSE or isinstance(item, Violation)
            break
    assert next(passed, None) is None  # a message without a marker
    return found


@examples(350)
@given(WIRE, CUTS)
def test_messages_are_those_that_the_library_alone_would_read_in_their_order(
    data: bytes, cuts: list[float]
) -> None:
    library = Library()
    library.feed(data)
    assert cut([data]) == library.messages
    assert cut(pieces(data, cuts)) == library.messages
    assert cut([data], is_cutting=False) == library.messages


# What the TCP-level fuzzer sends, to a server over memory streams.


async def put_to_server(plans: Sequence[Plan]) -> None:
    """Send the sessions at the same time; judge what the server says, and that nothing is left of them."""
    app = make_app(sleep=lambda seconds: None)
    async with open_test_server(app, load_config(environ={}, overrides=dict(SETTINGS))) as server:
        run_pool_in(server, in_loop, "worker", threads=2)
        await trio.testing.wait_all_tasks_blocked()
        before = server.statistics()
        async with trio.open_nursery() as nursery:
            for plan in plans:
                nursery.start_soon(put_one_to_server, server, plan)
        await ended(server)
        await trio.testing.wait_all_tasks_blocked()
        after = server.statistics()
    assert after.metrics.internal_errors == 0
    assert after.metrics.subscriptions == after.metrics.handlers_running == 0
    assert after.tasks == before.tasks


async def put_one_to_server(server: TestServer, plan: Plan) -> None:
    ours: Any = server.connect()  # a StapledStream can do a half-close
    data, end = await converse(ours, plan, partial(trio.aclose_forcefully, ours))
    why = judge(plan, data, end=end)
    assert why is None, f"{why}: {plan}"


def run(plans: Sequence[Plan]) -> None:
    trio.run(put_to_server, plans, clock=MockClock(autojump_threshold=0))


@examples(60)
@given(st.integers(0, 1 << 32))
def test_no_session_is_left_without_an_answer_and_nothing_is_left_of_it(seed: int) -> None:
    run([make_plan(Random(f"{seed}/{number}"), number) for number in range(5)])


def faulty(fault: bytes, wants: str) -> Plan:
    lines = [b"GET /ws HTTP/1.1", b"Host: h", b"Upgrade: websocket", b"Connection: Upgrade"]
    lines += [b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    return Plan((Send(head(lines)), Wait(UPGRADED), Send(fault)), "fault", (wants,))


CONNECTING = Ws(Stomp(b"CONNECT", [(b"accept-version", b"1.2"), (b"host", b"h")]).encode()).encode()


@pytest.mark.parametrize("name", HEAD_FAULTS)
def test_a_faulty_head_gets_its_status(name: str) -> None:
    data, status = HEAD_FAULTS[name]
    run([Plan((Send(data),), name, (status,))])


@pytest.mark.parametrize("name", CONNECT_FAULTS)
def test_a_fault_before_connected_gets_error(name: str) -> None:
    run([faulty(CONNECT_FAULTS[name], "error")])


@pytest.mark.parametrize("name", STOMP_FAULTS)
def test_a_fault_in_stomp_gets_error(name: str) -> None:
    run([faulty(CONNECTING + STOMP_FAULTS[name], "error")])


@pytest.mark.parametrize("name", WEBSOCKET_FAULTS)
def test_a_fault_in_websocket_gets_its_close_code(name: str) -> None:
    data, close = WEBSOCKET_FAULTS[name]
    run([faulty(CONNECTING + data, close)])


# What judges the answers.

UPGRADE_ANSWER = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
SENT = Plan((Send(b"x"),), "any")


@pytest.mark.parametrize(
    ("data", "end", "why"),
    [
        (b"", "eof", "without a word"),
        (b"", "silence", "no end until the deadline"),
        (UPGRADE_ANSWER, "eof", "without a word"),
        (UPGRADE_ANSWER + b"\x88\x02\x03\xe8", "silence", "no end until the deadline"),
        (b"HTTP/1.1 400 Bad\r\n\r\n", "eof", "no Content-Length"),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\nab", "eof", "2 bytes follow"),
        (b"hello\r\n\r\n", "eof", "no status line"),
        (UPGRADE_ANSWER + b"\x83\x00", "eof", "begins with 0x83"),
        (UPGRADE_ANSWER + b"\x81\x80", "eof", "a masked frame"),
        (UPGRADE_ANSWER + b"\x88\x02\x03\xed", "eof", "close code 1005"),
        (UPGRADE_ANSWER + b"\x88\x02\x03\xe8\x81\x01\n", "eof", "after the Close"),
        (UPGRADE_ANSWER + b"\x81\x01\xff", "eof", "not UTF-8"),
        (UPGRADE_ANSWER + b"\x81\x02hi", "eof", "no STOMP frame"),
        (UPGRADE_ANSWER + b"\x81\x08ERROR\n\n\0" + b"\x81\x08ERROR\n\n\0", "eof", "after ERROR"),
        (UPGRADE_ANSWER + b"\x81\x1cERROR\ncontent-length:2\n\nabc\0", "eof", "content-length"),
    ],
)
def test_the_judge_sees_what_is_wrong(data: bytes, end: str, why: str) -> None:
    assert why in (judge(SENT, data, end=end) or "nothing")


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\na", "eof"),
        (UPGRADE_ANSWER + b"\x81\x08ERROR\n\n\0", "eof"),
        (UPGRADE_ANSWER + b"\x81\x01\n\x89\x01x\x88\x02\x03\xe8", "reset"),
        (UPGRADE_ANSWER + b"\x81", "ours"),
    ],
)
def test_the_judge_lets_pass_what_is_right(data: bytes, end: str) -> None:
    assert judge(SENT, data, end=end) is None


def test_the_judge_misses_the_answer_that_is_wanted() -> None:
    plan = Plan((Send(b"x"),), "fault", ("close 1002",))
    data = UPGRADE_ANSWER + b"\x88\x02\x03\xe8"
    assert "expected close 1002" in (judge(plan, data, end="eof") or "nothing")


def test_the_same_seed_makes_the_same_session() -> None:
    assert [make_plan(Random("1/7"), 7) for _ in range(2)] == [make_plan(Random("1/7"), 7)] * 2
