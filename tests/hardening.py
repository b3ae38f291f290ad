"""What a server must withstand on a WebSocket, as cases that any server can be put to (DESIGN section 6).

`CASES` are run against ours, with the fast path and without, over memory streams and on real
sockets, and against the naive server, where each has to fail, and for the reason that it names.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import trio
from peer import Gate, Peer, stomp
from streams import Recording
from trio.testing import wait_all_tasks_blocked
from wire import BINARY, CLOSE, PING, PONG, TEXT, Wire, client_frame, close_frame, handshake

from trio_stomp import Message, ServerConfig, StatisticsConfig, StompApp, StompConfig, WebSocketConfig
from trio_stomp.app.session import ConnectRequest
from trio_stomp.messages.message import User
from trio_stomp.server.serve import open_server, serve

BODY_BYTES = MESSAGE_BYTES = 1024
"""Of a frame's body, and of a WebSocket message: small, so that two too large ones come in one read."""
FRAGMENTS = 16
HEAD_SECONDS = 5.0
PATIENCE = 200.0
"""Seconds (of a clock that jumps) until a server that keeps silent has failed a case."""

Wrap = Callable[[trio.abc.Stream], trio.abc.Stream]


class CaseFailed(AssertionError):
    """A server did not withstand; the text says what it did."""


def claim(condition: object, otherwise: str) -> None:
    """Fail the case unless the condition holds."""
    if not condition:
        raise CaseFailed(otherwise)


@attrs.frozen
class Seen:
    """What a server's handler was told of a handshake."""

    headers: Mapping[str, str]
    remote: str


@attrs.define(eq=False)
class Subject:
    """A server under test.

    Attributes:
        connector: opens a connection; a memory server's end can be wrapped.
        seen: what its handler was told of each handshake.
        gate: lets its handler of ``/app/hold`` go.
        cushion: real seconds after which nothing more is on its way; 0.0 over memory streams.
        died: what it died of.
    """

    connector: Callable[[Wrap | None], Awaitable[trio.abc.Stream]]
    seen: list[Seen]
    gate: trio.Event
    cushion: float = 0.0
    died: BaseException | None = None
    streams: list[trio.abc.Stream] = attrs.field(factory=list)

    async def connect(self, wrap: Wrap | None = None) -> Wire:
        """A connection before its handshake; closed after the case at the latest."""
        stream = await self.connector(wrap)
        self.streams.append(stream)
        return Wire(stream)

    async def peer(self, wrap: Wrap | None = None) -> Peer:
        """A connected STOMP client."""
        wire = await self.connect(wrap)
        peer = Peer(wire.stream)
        connected = await peer.connect()
        claim(connected.command == "CONNECTED", f"CONNECT was answered by {connected.command}")
        return peer

    async def settle(self) -> int:
        """Let everybody do what can be done without time passing; how many tasks live then."""
        await wait_all_tasks_blocked(self.cushion)
        return trio.lowlevel.current_statistics().tasks_living

    async def watch(
        self, run: Callable[..., Awaitable[object]], *, task_status: trio.TaskStatus[Any]
    ) -> None:
        """Run the server, and note what it dies of."""
        try:
            await run(task_status=task_status)
        except* Exception as group:
            self.died = _leaf(group)


@attrs.frozen
class Case:
    """One thing to withstand.

    Attributes:
        bites: what the naive server does instead, as `CaseFailed` has it; None where it is as
            good as ours.
        wraps: it needs the server's end of a memory stream, so it is not for sockets.
    """

    name: str
    run: Callable[[Subject], Awaitable[None]]
    bites: str | None
    wraps: bool = False

    def __str__(self) -> str:
        return self.name


async def put_to(
    case: Case, opening: contextlib.AbstractAsyncContextManager[Subject], wanted: str | None = None
) -> None:
    """Put a server to a case.

    Raises:
        CaseFailed: it did not withstand, or did no longer serve another client, or had tasks
            left. With ``wanted``, only if that is in the text.
        RuntimeError: it failed in another way than it was known to.
    """
    failure: CaseFailed | None = None
    async with opening as subject:
        try:
            with trio.fail_after(5 * PATIENCE):
                before = await subject.settle()
                await _run(case, subject)
                await _check_well(subject, before)
        except CaseFailed as found:
            failure = found
        finally:
            for stream in subject.streams:
                await trio.aclose_forcefully(stream)
    if subject.died is not None:
        failure = CaseFailed(f"the server died of {subject.died!r}")
    if failure is not None:
        if wanted is not None and wanted not in str(failure):
            raise RuntimeError(f"{case} was expected to fail by {wanted!r}, not by {str(failure)!r}")
        raise failure


async def _run(case: Case, subject: Subject) -> None:
    try:
        with trio.fail_after(PATIENCE):
            await case.run(subject)
    except trio.TooSlowError:
        raise CaseFailed("the server kept silent") from None
    except EOFError:
        raise CaseFailed("the server hung up without a word") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise CaseFailed("the connection broke") from None


async def _check_well(subject: Subject, before: int) -> None:
    """It serves another client, and has nothing left of those before."""
    await subject.settle()
    if subject.died is not None:
        return
    for stream in subject.streams:
        await trio.aclose_forcefully(stream)
    await trio.sleep(100)  # more than every deadline of ours
    left = await subject.settle() - before
    claim(left == 0, f"{left} tasks are left")
    try:
        with trio.fail_after(PATIENCE):
            peer = await subject.peer()
            await peer.subscribe("/topic/well")
            await peer.say("SEND", b"?", destination="/topic/well")
            claim((await peer.frame()).body == b"?", "another client is not served")
    except (trio.TooSlowError, EOFError):
        raise CaseFailed("another client is not served") from None


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# Our server.


def make_app(seen: list[Seen], gate: trio.Event) -> StompApp:
    """An app whose handlers hold and crash, beside a plain broker's destinations."""
    app = StompApp()
    app.allow_send("/topic/**")

    @app.on_connect
    async def look(request: ConnectRequest) -> User:
        seen.append(Seen(request.http_headers, request.remote))
        return User("guest")

    @app.on_message("/app/hold")
    async def hold(message: Message) -> None:
        await gate.wait()

    @app.on_message("/app/crash")
    async def crash(message: Message) -> None:
        raise RuntimeError("a handler's bug")

    return app


def make_config(*, is_fast: bool = True, **more: Any) -> ServerConfig:
    """Small limits, and no timers that run all the time: each would stop a jump of the clock."""
    return ServerConfig(
        stomp=StompConfig(heart_beat_send=0, heart_beat_receive=0, body=BODY_BYTES),
        websocket=WebSocketConfig(fast_path=is_fast, message=MESSAGE_BYTES, fragments=FRAGMENTS),
        statistics=StatisticsConfig(log_interval=0, lag_interval=0),
        **more,
    )


@contextlib.asynccontextmanager
async def open_ours(*, is_fast: bool = True) -> AsyncIterator[Subject]:
    """Our server over memory streams."""
    seen: list[Seen] = []
    gate = trio.Event()
    async with (
        open_server(make_app(seen, gate), make_config(is_fast=is_fast)) as server,
        trio.open_nursery() as nursery,
    ):

        async def connect(wrap: Wrap | None) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            end = theirs if wrap is None else wrap(theirs)
            nursery.start_soon(server.serve_stream, end, "10.1.2.3:4567")
            return ours

        yield Subject(connect, seen=seen, gate=gate)
        errors = server.statistics().metrics.internal_errors
        nursery.cancel_scope.cancel()
    claim(errors == 0, f"{errors} unexpected exceptions")


@contextlib.asynccontextmanager
async def open_ours_on_a_socket(*, is_fast: bool = True) -> AsyncIterator[Subject]:
    """Our server on a real socket."""
    seen: list[Seen] = []
    gate = trio.Event()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, make_app(seen, gate), make_config(is_fast=is_fast, port=0))
        port = server.listeners[0].socket.getsockname()[1]

        async def connect(wrap: Wrap | None) -> trio.abc.Stream:
            assert wrap is None, "a socket is not wrapped"
            return await trio.open_tcp_stream("127.0.0.1", port)

        yield Subject(connect, seen=seen, gate=gate, cushion=0.005)
        errors = server.statistics().metrics.internal_errors
        nursery.cancel_scope.cancel()
    claim(errors == 0, f"{errors} unexpected exceptions")


# Handshakes.


def handshake_with(name: str, value: bytes) -> bytes:
    """A correct upgrade request but for one header."""
    wanted = name.lower().encode() + b":"
    lines = [line for line in handshake().split(b"\r\n") if line and not line.lower().startswith(wanted)]
    return b"\r\n".join([*lines, name.encode() + b": " + value]) + b"\r\n\r\n"


async def answer_to(subject: Subject, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to a request; the server must hang up after it."""
    wire = await subject.connect()
    await wire.stream.send_all(request)
    with trio.move_on_after(HEAD_SECONDS / 2) as scope:
        head = await wire.read_until(b"\r\n\r\n")
        claim(not head.startswith(b"HTTP/1.1 101"), "it was upgraded")
        body = await wire.read_to_end()
    claim(not scope.cancelled_caught, "no answer")
    return int(head.split()[1]), body


async def refused(subject: Subject, *, request: bytes, status: int) -> None:
    """A request gets its status and a body that says why, at once."""
    got, body = await answer_to(subject, request)
    claim(got == status, f"status {got}, expected {status}")
    claim(body, "no body says why")


async def slow_head(subject: Subject, *, drips: bool) -> None:
    """A head that does not come to its end is given up."""
    wire, head = await subject.connect(), handshake(extra=["X-Long: " + "x" * 1000])

    async def drip() -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for byte in head if drips else head[:20]:
                await wire.stream.send_all(bytes((byte,)))
                if drips:
                    await trio.sleep(0.5)

    answer = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        with trio.move_on_after(2 * HEAD_SECONDS + 1) as scope:
            answer = await wire.read_to_end()
        nursery.cancel_scope.cancel()
    claim(not scope.cancelled_caught, "it waits for ever")
    claim(answer.startswith(b"HTTP/1.1 408 "), "no answer")


async def leaves_no_task(subject: Subject, *, data: bytes, is_half: bool = False) -> None:
    """After a peer that is no WebSocket client has gone nothing is left, at once."""
    before = await subject.settle()
    wire = await subject.connect()
    if data:
        await wire.stream.send_all(data)
        await subject.settle()
    await wire.stream.aclose()
    left = await subject.settle() - before
    claim(left == 0, f"{left} tasks wait on")


async def hidden_headers(subject: Subject) -> None:
    """Host, extensions and sub-protocols reach the handler."""
    wire = await subject.connect()
    peer = Peer(wire.stream)
    await wire.stream.send_all(handshake(extra=["Sec-WebSocket-Extensions: foo", "Cookie: a=b"]))
    await peer.wire.read_until(b"\r\n\r\n")
    await peer.say("CONNECT", accept_version="1.2", host="h")
    await peer.frame()
    told = subject.seen[-1].headers
    for name, value in (
        ("cookie", "a=b"),
        ("host", "testserver"),
        ("sec-websocket-extensions", "foo"),
        ("sec-websocket-protocol", "v12.stomp"),
    ):
        claim(told.get(name) == value, f"{name} does not reach the handler")


async def remote_is_an_address(subject: Subject) -> None:
    """The handler is told who it is, also when the stream is wrapped."""
    await subject.peer(Recording)
    remote = subject.seen[-1].remote
    claim(" object at " not in remote, "the remote is a repr")


# Around the 101.


async def pipelined(subject: Subject) -> None:
    """What comes in one write with the handshake is not lost."""
    peer = Peer((await subject.connect()).stream)
    await peer.wire.shake_hands(then=stomp("CONNECT", accept_version="1.2", host="h"))
    claim((await peer.frame()).command == "CONNECTED", "no CONNECTED")


async def unread_before_accept(subject: Subject) -> None:
    """Until the 101 is out the server reads no more than the head's read."""
    recorded: list[Recording] = []

    def wrap(stream: trio.abc.Stream) -> trio.abc.Stream:
        gate = Gate(stream)
        gate.shut()
        recorded.append(Recording(gate))
        return recorded[0]

    wire = await subject.connect(wrap)
    await wire.stream.send_all(handshake())
    await subject.settle()
    for _ in range(100):
        await wire.stream.send_all(client_frame(bytes(1000), BINARY))
        await subject.settle()
    read = sum(recorded[0].read)
    claim(read < 2000, f"{read} bytes were read before the handshake was accepted")


async def reads_are_large(subject: Subject) -> None:
    """One read asks for 64 KiB."""
    recorded: list[Recording] = []

    def wrap(stream: trio.abc.Stream) -> trio.abc.Stream:
        recorded.append(Recording(stream))
        return recorded[0]

    peer = await subject.peer(wrap)
    await peer.subscribe("/topic/a")
    asked = recorded[0].asked[-1]
    claim(asked == 65536, f"it asks for {asked} bytes at a time")


# Messages.


TOO_BIG = stomp("SEND", b"x" * (BODY_BYTES + 500), destination="/topic/a")


async def closed_with(subject: Subject, *, data: bytes, code: int) -> None:
    """What breaks a rule is answered by a Close with the right code, on the wire before the end."""
    peer = await subject.peer()
    await peer.send(data)
    frames = await peer.wire.frames_to_end()
    claim(frames and frames[-1].opcode == CLOSE, "it hung up without a Close")
    claim(frames[-1].close_code == code, f"close code {frames[-1].close_code}, expected {code}")


async def refused_twice(subject: Subject, *, after: bytes) -> None:
    """A message that is too big, and more in the same read."""
    await closed_with(subject, data=TOO_BIG + after, code=1009)


async def ping_while_closing(subject: Subject, *, then: bytes) -> None:
    """A ping between the server's Close and the peer's is nothing special."""
    peer = await subject.peer()
    await peer.say("UNSUBSCRIBE", id="unknown")
    while (await peer.wire.frame()).opcode != CLOSE:
        pass
    await peer.send(client_frame(b"?", PING), then)
    if then:
        claim(await peer.wire.read_to_end() == b"", "something came after the Close")


async def counted_in_bytes(subject: Subject) -> None:
    """A message's size is in bytes, whatever its characters."""
    text = "\u2603" * (BODY_BYTES // 2)
    await closed_with(subject, data=stomp("SEND", text.encode(), destination="/topic/a"), code=1009)


async def endless_fragments(subject: Subject) -> None:
    """A message of empty fragments comes to an end."""
    empty = client_frame(b"", 0, final=False)
    await closed_with(subject, data=client_frame(b"", final=False) + empty * 1000, code=1008)


async def pong_behind_a_full_list(subject: Subject, *, frames: Sequence[bytes]) -> None:
    """A ping is answered while a handler holds up the messages before it."""
    peer = await subject.peer()
    await peer.say("SEND", destination="/app/hold")
    await subject.settle()
    await peer.send(*frames, client_frame(b"alive?", PING))
    with trio.move_on_after(10) as scope:
        found = await peer.wire.frame()
    claim(not scope.cancelled_caught, "no pong")
    claim((found.opcode, found.payload) == (PONG, b"alive?"), "something else than a pong")
    subject.gate.set()


async def read_ahead_is_bounded(subject: Subject, *, frames: bytes) -> None:
    """While a handler holds up a session the server reads little more, however small the messages."""
    recorded: list[Recording] = []

    def wrap(stream: trio.abc.Stream) -> trio.abc.Stream:
        recorded.append(Recording(stream))
        return recorded[0]

    peer = await subject.peer(wrap)
    await peer.say("SEND", destination="/app/hold")
    await subject.settle()
    before = sum(recorded[0].read)
    for _ in range(250_000 // len(frames)):
        await peer.send(frames)
        await subject.settle()
    read = sum(recorded[0].read) - before
    claim(read < 150_000, f"{read} bytes were read ahead")
    subject.gate.set()


async def handler_crash(subject: Subject) -> None:
    """A handler's bug is its client's trouble only."""
    peer = await subject.peer()
    await peer.say("SEND", destination="/app/crash")
    await subject.settle()


async def blocked_send(subject: Subject, *, closes: bool) -> None:
    """A peer that no longer reads is given up, whatever is being sent."""
    gates: list[Gate] = []

    def wrap(stream: trio.abc.Stream) -> trio.abc.Stream:
        gates.append(Gate(stream))
        return gates[0]

    before = await subject.settle()
    peer = await subject.peer(wrap)
    await peer.subscribe("/topic/a")
    gates[0].shut()
    await peer.say("SEND", b"x", destination="/topic/a")
    await subject.settle()
    if closes:
        await peer.say("DISCONNECT")
        await peer.send(close_frame())
    await trio.sleep(60)
    left = await subject.settle() - before
    claim(left == 0, f"{left} tasks wait for ever")


def _cases() -> Sequence[Case]:
    found: list[Case] = []

    def add(name: str, run: Any, bites: str | None, *, wraps: bool = False, **arguments: Any) -> None:
        found.append(Case(name, partial(run, **arguments) if arguments else run, bites, wraps))

    # One request without authentication ends a naive server.
    for name, value in (
        ("Connection", b"Upgrade, \xff"),
        ("Sec-WebSocket-Protocol", b"v12.stomp, \xe9"),
        ("Sec-WebSocket-Extensions", b"\xff"),
        ("Host", b"xn--0"),
        ("Host", b"\xff"),
        ("Host", b"xn--" + b"a" * 66),
    ):
        label = value.decode("latin-1").encode("ascii", "backslashreplace").decode()[:12]
        request = handshake_with(name, value)
        add(f"{name} of {label}", refused, "died of Unicode", request=request, status=400)
    add("head of 50 KB", refused, "status 400", request=handshake(extra=["X: " + "x" * 50_000]), status=431)
    add(
        "upgrade with a body",
        refused,
        "upgraded",
        status=400,
        request=handshake(extra=["Content-Length: 4"]) + b"body",
    )
    add(
        "foreign origin",
        refused,
        "upgraded",
        request=handshake(extra=["Origin: http://evil.example"]),
        status=403,
    )
    add("unknown path", refused, "status 400", request=b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n", status=404)
    add("no upgrade", refused, "status 400", request=b"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n", status=426)
    add("garbage", refused, "no body", request=b"\x16\x03\x01\x02\x00\x01\x00", status=400)
    add("half a head", slow_head, "waits for ever", drips=False)
    add("a head in drips", slow_head, "waits for ever", drips=True)
    add("connect and close", leaves_no_task, "wait on", data=b"")
    add("plain GET and close", leaves_no_task, "wait on", data=b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
    add("garbage and close", leaves_no_task, "wait on", data=b"\x16\x03\x01\x02\x00\x01\x00")
    add("half a head and close", leaves_no_task, "wait on", data=handshake()[:40])
    add("headers that the library hides", hidden_headers, "host does not reach")
    add("remote over a wrapped stream", remote_is_an_address, "remote is a repr", wraps=True)

    # Around the 101.
    add("frames behind the handshake", pipelined, "kept silent")
    add("bytes before the 101", unread_before_accept, "were read before", wraps=True)
    add("64 KiB a read", reads_are_large, "4096", wraps=True)

    # After it.
    add("too big and a ping", refused_twice, "died of LocalProtocolError", after=client_frame(b"?", PING))
    add("too big twice", refused_twice, "died of LocalProtocolError", after=TOO_BIG)
    add("ping while closing", ping_while_closing, "died of LocalProtocolError", then=close_frame())
    add("ping while closing, then nothing", ping_while_closing, "died of LocalProtocolError", then=b"")
    add("too big in bytes", counted_in_bytes, "kept silent")
    add("empty fragments without end", endless_fragments, "kept silent")
    small = stomp("SEND", b"x", destination="/topic/a")
    add("ping behind messages", pong_behind_a_full_list, "no pong", frames=[small] * 50)
    parts = [client_frame(b"", final=False), small.replace(b"\x81", b"\x80", 1)]
    add("ping behind fragmented messages", pong_behind_a_full_list, "no pong", frames=parts * 20)
    for name, frames in (
        ("empty messages", client_frame(b"") * 500),
        ("small messages", client_frame(b"\n") * 500),
        ("messages of empty fragments", (client_frame(b"", final=False) + client_frame(b"", 0)) * 250),
        (
            "messages that grow late",
            (client_frame(b"", final=False) + client_frame(b"\n" * 900, 0)) * 20,
        ),
    ):
        name = f"{name} behind a held handler"
        add(name, read_ahead_is_bounded, None, wraps=True, frames=frames)
    add("handler's bug", handler_crash, "died of RuntimeError")
    add("blocked send", blocked_send, "wait for ever", wraps=True, closes=False)
    add("close behind a blocked send", blocked_send, "wait for ever", wraps=True, closes=True)
    hung = "hung up without a Close"
    for name, data, code, bites in (
        ("text that is not UTF-8", client_frame(b"\xff\xfe"), 1007, hung),
        (
            "text that is not UTF-8, in pieces",
            client_frame(b"\xc3", final=False) + client_frame(b"(", 0),
            1007,
            hung,
        ),
        ("unmasked", client_frame(b"\n", masked=False), 1002, hung),
        ("reserved bit", client_frame(b"\n", rsv=4), 1002, hung),
        ("unknown opcode", client_frame(b"\n", 3), 1002, hung),
        ("unknown control opcode", client_frame(b"", 11), 1002, hung),
        ("fragmented ping", client_frame(b"", PING, final=False), 1002, hung),
        ("long ping", client_frame(b"x" * 126, PING), 1002, hung),
        ("continuation of nothing", client_frame(b"x", 0), 1002, hung),
        ("text within a message", client_frame(b"\n", final=False) + client_frame(b"\n", TEXT), 1002, hung),
        ("length not minimal", b"\x81\xfe\x00\x05" + bytes(9), 1002, hung),
        ("close code 1005", close_frame(1005), 1002, hung),
        ("close code 999", close_frame(999), 1002, hung),
        ("close code of one byte", client_frame(b"\x03", CLOSE), 1002, hung),
        ("close reason not UTF-8", close_frame(1000, b"\xff"), 1007, hung),
        ("too big", TOO_BIG, 1009, None),
        ("64 KiB too big", stomp("SEND", bytes(1 << 17), destination="/topic/a"), 1009, None),
        ("announced too big", b"\x82\xff" + struct.pack("!Q", 1 << 40) + bytes(4), 1009, "kept silent"),
    ):
        add(name, closed_with, bites, data=data, code=code)
    return found


CASES = _cases()
