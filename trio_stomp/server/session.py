"""One client's session: a reader, a writer, and whatever they start; nothing outlives it.

Rule 1: only the writer sends, and it alone closes.  Rule 2: frames are seen through one at a
time, in arrival order.  Rule 3: what the client is sent goes through the broker's inbox, so it
is in order with the effects it tells of.  Rule 4: a session ends by one command, `Detach`,
behind everything it has asked for.
"""

from __future__ import annotations

import logging
import secrets
import weakref
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs
import trio

from trio_stomp.app.session import ConnectRequest, Session
from trio_stomp.broker.commands import Detach, PublishToUser, Reply, Request, Subscriber
from trio_stomp.broker.users import USER_PREFIX
from trio_stomp.channels.outbox import Outbox
from trio_stomp.errors import ConnectRefused, RemoteProtocolError, TrioStompError
from trio_stomp.messages.message import User
from trio_stomp.server.heartbeat import Watch
from trio_stomp.server.progress import Progress
from trio_stomp.server.transaction import Transaction
from trio_stomp.stomp.frames import HEART_BEAT, Frame
from trio_stomp.stomp.protocol import ServerProtocol
from trio_stomp.transport.flag import Flag
from trio_stomp.transport.interface import Transport

if TYPE_CHECKING:
    from trio_stomp.server.core import Core

logger = logging.getLogger("trio_stomp.session")

OVERFLOW_CODE = 4500
"""Close code of a client that did not keep up; Spring's SESSION_NOT_RELIABLE."""
_EARLY = 0.9
"""A heart-beat goes out after this share of what was promised: it is due at the peer by then."""

_BEFORE: Final[Mapping[str, str]] = MappingProxyType({"stomp.body": "stomp.body_before_connected"})
"""Limits that have another name before CONNECTED."""


@attrs.frozen
class Origin:
    """Where a session comes from: what the front door knows of it."""

    path: str
    query: str
    http_headers: Mapping[str, str]
    remote: str
    subprotocol: str | None


@attrs.frozen
class _Ending:
    """Why a session ends: close code, the ERROR before it if one goes, whether handlers must hurry."""

    code: int
    reason: str = ""
    error: RemoteProtocolError | None = None
    in_time: bool = True


class SessionTask:
    """Runs one session over an accepted transport.

    Attributes:
        public: what handlers get when they ask for the `Session`.
        subscriber: what the broker knows of it.
        protocol: the STOMP state machine.
        nursery: the connection's; the session's tasks run in it.
    """

    __slots__ = (
        "__weakref__",
        "_all_done",
        "_core",
        "_ending",
        "_frame_progress",
        "_is_connected",
        "_is_waiting",
        "_message_progress",
        "_origin",
        "_running",
        "_scope",
        "_streams",
        "_transport",
        "_turns",
        "_watches",
        "_writer_done",
        "id",
        "nursery",
        "outbox",
        "protocol",
        "public",
        "subscriber",
        "transactions",
    )

    def __init__(self, core: Core, transport: Transport, origin: Origin, nursery: trio.Nursery) -> None:
        config = core.config
        self._core = core
        self._transport = transport
        self._origin = origin
        self.id = secrets.token_urlsafe(18)  # 144 bits: not guessable, and no ':' in it
        self.protocol = ServerProtocol(
            limits_before=core.limits_before,
            limits=core.limits,
            max_subscriptions=config.stomp.subscriptions,
            max_transactions=config.stomp.transactions,
            heart_beat=core.heart_beat,
            server_name=core.server_name,
        )
        self.outbox = Outbox(config.outbox, transport.send_now)
        self.subscriber = Subscriber(
            session_id=self.id,
            user_name=self.id,
            encoding=core.encoding(self.protocol.version, transport.frame_head),
            outbox=self.outbox,
            overflowed=self._overflowed,
            refused=self._refused,
        )
        self.transactions: dict[str, Transaction] = {}
        self.public: Session
        self.nursery = nursery
        self._writer_done = Flag()
        self._scope = trio.CancelScope()
        self._ending: _Ending | None = None
        self._is_connected = False
        self._is_waiting = False
        self._turns = 1
        timeout, rate = config.stomp.frame_timeout, config.stomp.frame_rate
        self._frame_progress = Progress(timeout=timeout, rate=rate)
        self._message_progress = Progress(timeout=timeout, rate=rate)
        self._running = 0
        self._all_done: trio.Event | None = None
        self._streams: dict[str, trio.CancelScope] = {}
        self._watches: list[Watch] = []

    async def run(self) -> None:
        """Serve the client until it or we have had enough; returns when everything is over.

        Cancelling closes the connection at once.
        """
        core = self._core
        self._transport.at_end(self._start_lingering)
        ending = _Ending(1001, "the server is closing")
        try:
            self.nursery.start_soon(self._write)
            ending = await self._read()
            core.broker.put(Detach(self.subscriber, ending.code, ending.reason))
            await self._writer_done.wait()
        finally:
            for watch in self._watches:
                watch.cancel()
            if self.subscriber.is_attached:  # cancelled before it came to its end
                core.broker.put(Detach(self.subscriber, ending.code, ending.reason))
            self.outbox.finish(ending.code, ending.reason)  # of no effect unless this was cancelled
            self.outbox.close()
            self.subscriber.let_go()
            core.metrics.close_code(self.outbox.close_code)

    # What others may ask of a session.

    def hears(self, queue: str) -> bool:
        """Whether it has subscribed to its own ``queue``, as ``/queue/errors``, below ``/user``."""
        return USER_PREFIX + queue in self.protocol.subscriptions.values()

    def stop(self, code: int, reason: str = "", *, in_time: bool = True) -> None:
        """See through what has been read, then close with ``code``. Does not wait.

        Args:
            in_time: handlers in tasks of their own have ``stomp.linger`` seconds; False: as long as they
                take, the caller sees to the end.
        """
        self._end(_Ending(code, reason, in_time=in_time))

    def tell(self, queue: str, body: bytes) -> None:
        """Send JSON to its own ``queue``, behind what is on its way to it."""
        self._core.broker.put(
            PublishToUser(
                self.subscriber.user_name, queue, body, {"content-type": "application/json"}, self.id
            )
        )

    def start_handler(self, run: Callable[[], Awaitable[None]], *, stream_key: str | None = None) -> None:
        """Run something in a task of this session; the session ends after it.

        With ``stream_key`` it is a subscription's stream: `stop_stream` and the session's end
        cancel it.
        """
        self._running += 1
        scope = trio.CancelScope()
        if stream_key is not None:
            self._streams[stream_key] = scope
        self.nursery.start_soon(self._run_handler, run, scope, stream_key)

    def stop_stream(self, key: str) -> None:
        """Cancel the stream that answers a subscription, if there is one."""
        scope = self._streams.pop(key, None)
        if scope is not None:
            scope.cancel()

    def fail(self, error: RemoteProtocolError) -> None:
        """Send ERROR and close, from a task other than the reader."""
        self._end(_Ending(error.close_code, "", error))

    def send_receipt(self, frame: Frame) -> None:
        """Queue the RECEIPT behind the effects of the frame, if it asked for one."""
        receipt = frame.headers.get("receipt")
        if receipt is not None:
            self._core.broker.put(Reply(self.subscriber, self._wire(self.protocol.receipt(receipt))))

    def request(self, frame: Frame) -> Request:
        """A frame for the broker to answer: with its RECEIPT, if it asked for one, or a refusal."""
        receipt = frame.headers.get("receipt")
        answer = None if receipt is None else self._wire(self.protocol.receipt(receipt))
        return Request(self.subscriber, frame, answer)

    # The reader.

    async def _read(self) -> _Ending:
        core = self._core
        ending = _Ending(1001, "the session did not come to its end in time")
        with self._scope:
            try:
                if await self._connect():
                    await self._serve()
                ending = self._ending or _Ending(1000)
            except RemoteProtocolError as error:
                ending = _Ending(error.close_code, "", error.with_traceback(None))  # which holds this frame
            except Exception:
                core.metrics.internal_errors += 1
                logger.exception("session %s: unexpected exception", self.id)
                ending = _Ending(1011, "", RemoteProtocolError("internal error", close_code=1011))
            for key in list(self._streams):
                self.stop_stream(key)
            if self._running:
                if ending.in_time:
                    self._start_lingering()
                self._all_done = trio.Event()
                await self._all_done.wait()
        if self._scope.cancelled_caught:
            core.metrics.limit("stomp.linger")
            self.nursery.cancel_scope.cancel()
        if ending.error is not None:
            self._say_error(ending.error)
        elif ending.code != 1000 and not self._transport.has_close_codes:
            said = self.protocol.error(ending.reason or "the server closes this session")
            core.broker.put(Reply(self.subscriber, self._wire(said)))
        return ending

    async def _connect(self) -> bool:
        """From the first byte to CONNECTED; False: the client left before that."""
        core, protocol = self._core, self.protocol
        timeout = core.config.stomp.connect_timeout
        frame: Frame | None = None
        with trio.move_on_after(timeout) as waiting:
            while (frame := protocol.next_frame()) is None:
                chunks = await self._transport.receive()
                if not chunks:
                    return False
                protocol.receive_data(b"".join(chunks))
        if waiting.cancelled_caught or frame is None:
            core.metrics.connect_timeouts += 1
            core.metrics.limit("stomp.connect_timeout")
            raise RemoteProtocolError(f"no CONNECT within {timeout:g} seconds", close_code=1008)
        core.metrics.frames_in += 1
        request = self._connect_request(frame)
        try:
            user = await core.authenticate(request)
        except ConnectRefused as refusal:
            core.metrics.connects_refused += 1
            raise RemoteProtocolError(str(refusal), frame=frame, close_code=1008) from refusal
        self._attach(request, user)
        return True

    def _connect_request(self, frame: Frame) -> ConnectRequest:
        origin, headers = self._origin, frame.headers
        virtual_host = self._core.config.stomp.virtual_host
        if virtual_host is not None and headers.get("host") != virtual_host:
            raise RemoteProtocolError(
                f"no virtual host {headers.get('host')!r} here", frame=frame, close_code=1008
            )
        return ConnectRequest(
            login=headers.get("login"),
            passcode=headers.get("passcode"),
            host=headers.get("host"),
            headers=headers,
            http_headers=origin.http_headers,
            remote=origin.remote,
            path=origin.path,
            query=origin.query,
            subprotocol=origin.subprotocol,
            session_id=self.id,
        )

    def _attach(self, request: ConnectRequest, user: User | None) -> None:
        core, protocol = self._core, self.protocol
        version = protocol.version
        self.subscriber.encoding = core.encoding(version, self._transport.frame_head)
        if user is not None:
            self.subscriber.user_name = user.name
        self.public = Session(
            id=self.id,
            user=user,
            remote=request.remote,
            version=version.value,
            headers=request.http_headers,
            close=_closing(weakref.ref(self)),
        )
        connected = protocol.accept(session=self.id, user_name=user.name if user is not None else None)
        self._transport.limit_messages(core.config.websocket.message)
        self._is_connected = True
        core.metrics.sessions_connected += 1
        core.metrics.frames_out += 1
        self.outbox.offer(self._wire(connected))
        self.outbox.flush()
        wire, beat = self._transport.wire, protocol.heart_beat
        if beat.send:
            self._watches.append(core.heart_beats.watch(wire.last_written + beat.send * _EARLY, self._beat))
        if beat.receive:
            allowed = beat.receive * core.config.stomp.heart_beat_tolerance
            self._watches.append(core.heart_beats.watch(trio.current_time() + allowed, self._listen))
        soon = trio.current_time() + core.config.stomp.frame_timeout / 2
        self._watches.append(core.heart_beats.watch(soon, self._look_for_drips))

    async def _serve(self) -> None:
        """See through frame after frame until there are no more."""
        protocol, transport, metrics = self.protocol, self._transport, self._core.metrics
        next_frame, dispatch = protocol.next_frame, self._core.dispatcher.dispatch
        broker = self._core.broker
        try:
            while True:
                has_moved = False
                while (frame := next_frame()) is not None:
                    has_moved = True
                    metrics.frames_in += 1
                    if broker.inbox.is_full:
                        await broker.room()
                    todo = dispatch(self, frame)
                    if todo is not None:
                        await todo
                if protocol.is_closed:  # DISCONNECT
                    return
                if has_moved:
                    self._turns += 1  # what is under way now is another frame
                self._is_waiting = True
                chunks = await transport.receive()
                self._is_waiting = False
                if not chunks:
                    return
                protocol.receive_data(b"".join(chunks))  # of one it is that one
        finally:
            metrics.sessions_ended += 1
            metrics.transactions_aborted += len(self.transactions)

    # The writer.

    async def _write(self) -> None:
        outbox, transport = self.outbox, self._transport
        try:
            while data := await outbox.take():
                await transport.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            outbox.discard(1006)
            self._start_lingering()
        finally:
            outbox.finish(1001, "the server is closing")  # of no effect unless this was cancelled
            try:
                await transport.aclose(outbox.close_code, outbox.close_reason)
            finally:
                self._writer_done.set()

    # Endings.

    def _end(self, ending: _Ending) -> None:
        if self._ending is None:
            self._ending = ending
        self._transport.stop_receiving()

    def _start_lingering(self) -> None:
        """The transport has come to its end: what has been read may still be seen through, in time."""
        deadline = trio.current_time() + self._core.config.stomp.linger
        self._scope.deadline = min(self._scope.deadline, deadline)

    def _overflowed(self, limit: str) -> None:
        """Too much waits for it: disconnect, the slow-consumer policy. The broker's task calls this."""
        if limit == "broker.session_unacked_bytes":
            most = self._core.config.broker.session_unacked_bytes
            text = f"too slow: more than {most} bytes of topics' messages were not acknowledged"
        else:
            most_bytes, most_messages = self.outbox.max_bytes, self.outbox.max_messages
            text = f"too slow: more than {most_bytes} bytes or {most_messages} messages waited"
        self._core.metrics.limit(limit)
        logger.warning("session %s: %s", self.id, text)
        last_words = self._wire(self.protocol.error(text))
        self.outbox.discard(OVERFLOW_CODE, "too slow", last_words=last_words)
        self._end(_Ending(OVERFLOW_CODE, "too slow"))
        self._start_lingering()

    def _refused(self, frame: Frame, error: TrioStompError) -> None:
        """A frame of its own had no effect. The broker's task calls this."""
        if self.subscriber.is_attached:
            self._core.dispatcher.refused(self, frame, error)

    def _say_error(self, error: RemoteProtocolError) -> None:
        metrics = self._core.metrics
        metrics.protocol_errors += 1
        if error.limit is not None:
            metrics.limit(error.limit if self._is_connected else _BEFORE.get(error.limit, error.limit))
        logger.info("session %s: %s", self.id, error)
        frame = error.frame
        receipt_id = None if frame is None else frame.headers.get("receipt")
        said = self.protocol.error(error.message, receipt_id=receipt_id, headers=error.headers)
        self._core.broker.put(Reply(self.subscriber, self._wire(said)))

    async def _run_handler(
        self, run: Callable[[], Awaitable[None]], scope: trio.CancelScope, stream_key: str | None
    ) -> None:
        try:
            with scope:
                await run()
        except RemoteProtocolError as error:
            self.fail(error)
        except Exception:
            self._core.metrics.internal_errors += 1
            logger.exception("session %s: unexpected exception", self.id)
            self.fail(RemoteProtocolError("internal error", close_code=1011))
        finally:
            if stream_key is not None and self._streams.get(stream_key) is scope:
                del self._streams[stream_key]
            self._running -= 1
            if not self._running and self._all_done is not None:
                self._all_done.set()

    # Heart-beats, called by the server's one heart-beat task.

    def _beat(self, now: float) -> float:
        every = self.protocol.heart_beat.send * _EARLY
        due = self._transport.wire.last_written + every
        if now < due:
            return due
        if self.outbox.is_idle:  # else data is on its way, which counts as well
            self._core.metrics.heart_beats_sent += 1
            self.outbox.offer(self._transport.frame_head(len(HEART_BEAT), True) + HEART_BEAT)
            self.outbox.flush()
        return now + every

    def _listen(self, now: float) -> float:
        allowed = self.protocol.heart_beat.receive * self._core.config.stomp.heart_beat_tolerance
        silence = self._transport.wire.silence(now) if self._is_waiting else 0.0
        if silence < allowed:
            return now + allowed - silence
        self._core.metrics.heart_beats_missed += 1
        self._core.metrics.limit("stomp.heart_beat_tolerance")
        self.fail(RemoteProtocolError(f"no heart-beat for {silence:.1f} seconds", close_code=1002))
        return now + allowed

    def _look_for_drips(self, now: float) -> float:
        """Give up a frame that has begun and does not come to its end, though its bytes are signs of life."""
        stomp, read = self._core.config.stomp, self._transport.wire.bytes_read
        is_waiting = self._is_waiting  # else it is we who take the time
        frame = self._turns if is_waiting and self.protocol.is_within else 0
        message = self._transport.begun if is_waiting else 0
        due = min(
            self._frame_progress.deadline(frame, now, read),
            self._message_progress.deadline(message, now, read),
        )
        if now >= due:
            self._core.metrics.limit("stomp.frame_timeout")
            text = (
                f"a frame has not come to its end: it has {stomp.frame_timeout:g} seconds, "
                f"and one more for each {stomp.frame_rate} bytes"
            )
            self.fail(RemoteProtocolError(text, close_code=1008))
            due = now + stomp.frame_timeout
        return min(due, now + stomp.frame_timeout / 2)

    def _wire(self, frame: bytes) -> bytes:
        return self._transport.frame_head(len(frame), True) + frame


def _closing(session: weakref.ref[SessionTask]) -> Callable[[str, int], None]:
    """What closes a session, and does not hold it: an app may keep it for as long as it likes."""

    def close(reason: str = "", code: int = 1008) -> None:
        found = session()
        if found is not None:
            found.stop(code, reason)

    return close
