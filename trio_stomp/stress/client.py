"""One connection of the load generator: it introduces itself, sends on schedule, and notes what comes back.

Rule 1: a send never waits for an answer; one that is late goes out at once. A connection that takes no more
bytes delays its own sends alone, for each connection has a task that sends.
Rule 2: a connection's end is its own: what it had sent is lost, what it was to send is not sent.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Final

import trio

from trio_stomp.config import ClientConfig, WebSocketConfig
from trio_stomp.errors import ConnectionLost, ServerError, TrioStompError
from trio_stomp.groups import bare_errors
from trio_stomp.metrics import Metrics
from trio_stomp.stomp.client import ClientProtocol
from trio_stomp.stomp.frames import Frame, Limits, Version, encode
from trio_stomp.stomp.protocol import HeartBeat
from trio_stomp.stress.endpoint import Endpoint
from trio_stomp.stress.matching import ERRORS_ID, REPLY_ID, Session
from trio_stomp.stress.plan import ERROR_QUEUE, Plan
from trio_stomp.stress.schedule import Schedule
from trio_stomp.stress.tally import Tally
from trio_stomp.stress.tap import TappedStream, masked_frame
from trio_stomp.transport.flag import Flag
from trio_stomp.transport.http import SUBPROTOCOLS
from trio_stomp.transport.stream import WireStream
from trio_stomp.transport.websocket import ClientTransport, connect_websocket

_SETTLING: Final = 0.5
"""Seconds for subscriptions to take effect at a server that does not confirm them."""
_CLOSING: Final = 1.0
"""Seconds for the farewell."""
_VERSIONS: Final = "1.1,1.2"
"""Of STOMP: 1.0 does not say which subscription a MESSAGE is for."""
_MARK: Final = b"trio-stomp-stress-receipt"
"""Where the number goes; the first place that has it, for the body comes after it."""


class SendFrame:
    """A SEND frame that is encoded once; only the receipt's number differs.

    Raises:
        LocalProtocolError: a header cannot be said in this version of STOMP.
    """

    def __init__(self, plan: Plan, version: Version) -> None:
        headers = {"destination": plan.destination}
        if plan.content_type is not None:
            headers["content-type"] = plan.content_type
        for name, value in plan.headers:
            headers[name] = value
        if plan.receipts:
            headers["receipt"] = _MARK.decode()
        whole = encode(Frame("SEND", headers, plan.body), version)
        try:
            whole.decode()
            self._is_text = True
        except UnicodeDecodeError:
            self._is_text = False
        self._has_receipt = plan.receipts
        self._before, _, self._after = whole.partition(_MARK)

    def encode(self, number: int) -> bytes:
        """Return the frame with this receipt, as a masked WebSocket frame."""
        payload = b"%b%d%b" % (self._before, number, self._after) if self._has_receipt else self._before
        return masked_frame(payload, is_text=self._is_text)


class Client:
    """One connection.

    Args:
        tally: gives the run that goes on, if one does.

    Attributes:
        failure: why it ended; None while it lives.
    """

    def __init__(
        self, plan: Plan, endpoint: Endpoint, metrics: Metrics, tally: Callable[[], Tally | None]
    ) -> None:
        self.failure: Exception | None = None
        self._plan = plan
        self._endpoint = endpoint
        self._metrics = metrics
        self._tally = tally
        config = ClientConfig()
        limits = Limits(header_line=config.header_line, headers=config.headers, body=config.body)
        self._protocol = ClientProtocol(limits=limits, heart_beat=HeartBeat(0.0, 0.0))
        self._session = Session(plan.reply, receipts=plan.receipts)
        self._frame: SendFrame | None = None
        self._wire: WireStream | None = None
        self._to_confirm: set[str] = set()
        self._is_leaving = False
        self._is_writing = False
        self._welcome = Flag()
        self._confirmed = Flag()
        self._ended = Flag()

    async def run(self, turn: trio.CapacityLimiter, on_ready: Callable[[], None]) -> None:
        """Connect, subscribe, take what comes until the connection ends or `leave`. Raises nothing.

        ``on_ready`` is called once it can send, or has failed.
        """
        try:
            with bare_errors():
                await self._run(turn, on_ready)
        except (TrioStompError, OSError) as error:
            self._end(error)
            on_ready()

    def leave(self) -> None:
        """Close the connection, with a farewell."""
        self._is_leaving = True
        self._ended.set()

    async def send(self, schedule: Schedule, tally: Tally, index: int) -> None:
        """Send this client's share of a run, each request when it is due or as soon after as it can be."""
        session, frame, wire = self._session, self._frame, self._wire
        for k in schedule.of(index):
            due = schedule.due(k)
            if due > trio.current_time():
                await trio.sleep_until(due)
            else:
                await trio.lowlevel.checkpoint()  # a write that goes at once does not yield
            if self.failure is not None:
                tally.unsent(k)
                continue
            assert frame is not None
            assert wire is not None
            number = session.send(tally, k, trio.current_time())
            self._is_writing = True
            try:
                await wire.send_all(frame.encode(number))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                with trio.move_on_after(_CLOSING):  # the reader may still find out why
                    await self._ended.wait()
                self._end(ConnectionLost("connection lost"))
            else:
                session.sent(number, trio.current_time())
            self._is_writing = False

    def settle(self, tally: Tally) -> None:
        """The wait for this run's answers is over, and `send` is about to be cancelled.

        A frame that is held up midway is the last one: what came after it could not be understood.
        """
        self._session.settle(tally)
        if self._is_writing:
            self._end(ConnectionLost("cut by us: it took no more bytes"), is_ours=True)

    async def _run(self, turn: trio.CapacityLimiter, on_ready: Callable[[], None]) -> None:
        plan, endpoint, config = self._plan, self._endpoint, ClientConfig()
        async with contextlib.AsyncExitStack() as stack:
            async with turn:
                stream = await endpoint.dial()
                # No limit: how long a server takes no bytes is one of the things to be measured.
                self._wire = WireStream(stream, write_timeout=math.inf, metrics=self._metrics)
                transport = await stack.enter_async_context(
                    connect_websocket(
                        TappedStream(self._wire, self._take),
                        host=endpoint.authority,
                        resource=endpoint.resource,
                        subprotocols=SUBPROTOCOLS[:2],
                        headers=(),
                        timeout=config.connect_timeout,
                        write_timeout=math.inf,
                        config=WebSocketConfig(
                            message=config.body + config.header_line, close_timeout=_CLOSING
                        ),
                        metrics=self._metrics,
                    )
                )
                nursery = await stack.enter_async_context(trio.open_nursery())
                nursery.start_soon(self._read, transport)
                with trio.move_on_after(config.connect_timeout) as waiting:
                    await self._introduce()
                if waiting.cancelled_caught:
                    raise ConnectionLost(f"no answer to CONNECT within {config.connect_timeout:g} seconds")
            self._frame = SendFrame(plan, self._protocol.version)
            on_ready()
            await self._ended.wait()
            if self.failure is None:
                with trio.move_on_after(_CLOSING), contextlib.suppress(ConnectionLost):
                    await self._write(self._protocol.disconnect())
                await transport.aclose()
            nursery.cancel_scope.cancel()

    async def _introduce(self) -> None:
        """CONNECT and SUBSCRIBE; return when the server has confirmed both."""
        plan, protocol, endpoint = self._plan, self._protocol, self._endpoint
        await self._write(
            protocol.connect(
                host=endpoint.host,
                login=plan.login,
                passcode=plan.passcode,
                headers={"accept-version": _VERSIONS},
            )
        )
        await self._welcome.wait()
        self._check()
        wanted = {ERRORS_ID: ERROR_QUEUE} | ({} if plan.reply is None else {REPLY_ID: plan.reply})
        self._to_confirm = set(wanted)
        for id, destination in wanted.items():
            headers = {"receipt": id} if plan.receipts else {}
            await self._write(protocol.subscribe(id, destination, headers=headers))
        if plan.receipts:
            await self._confirmed.wait()
            self._check()
        else:
            await trio.sleep(_SETTLING)

    async def _write(self, frame: bytes) -> None:
        assert self._wire is not None
        try:
            await self._wire.send_all(masked_frame(frame, is_text=True))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionLost("connection lost") from None

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _read(self, transport: ClientTransport) -> None:
        """Take the messages that were not cut out, and learn of the end."""
        try:
            while True:
                self._take(await transport.receive())
        except ConnectionLost as error:
            told = error.code != 1006
            self._end(ConnectionLost(f"closed with {error.code}: {error}" if told else "connection lost"))

    def _take(self, data: bytes) -> None:
        """See one WebSocket message's frames."""
        now, protocol = trio.current_time(), self._protocol
        try:
            protocol.receive_data(data)
            while (frame := protocol.next_frame()) is not None:
                self._see(frame, now)
        except TrioStompError as error:
            self._end(error)

    def _see(self, frame: Frame, now: float) -> None:
        command = frame.command
        if command == "ERROR":
            self._end(ServerError(frame.headers.get("message", "ERROR without a message"), frame))
        elif command == "CONNECTED":
            self._welcome.set()
        elif command == "RECEIPT" and frame.headers["receipt-id"] in self._to_confirm:
            self._to_confirm.discard(frame.headers["receipt-id"])
            if not self._to_confirm:
                self._confirmed.set()
        else:
            self._session.take(frame, now, self._tally())

    def _end(self, error: Exception, *, is_ours: bool = False) -> None:
        """Note the connection's end, once."""
        if self.failure is not None or self._is_leaving:
            return
        self.failure = error
        self._session.end()
        tally = self._tally()
        if tally is not None:
            text = f"ERROR: {error}" if isinstance(error, ServerError) else str(error)
            if is_ours:
                tally.failure(text)
            else:
                tally.disconnect(text)
        for flag in (self._welcome, self._confirmed, self._ended):
            flag.set()
