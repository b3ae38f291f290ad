"""A WebSocket client that puts an echo server to one case at a time, and judges as Autobahn does.

A case is what is written and what must come back; `put_to_case` runs it over any stream. The
words of the verdict are those of Autobahn's reports.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Sequence

import attrs
import trio
from trio.testing import wait_all_tasks_blocked
from wire import BINARY, CLOSE, PONG, TEXT, Wire, close_frame

PATIENCE = 1.0
"""Seconds until what has not come is taken not to come, as in most of Autobahn's cases."""


class Pause(enum.Enum):
    """Among what is written: wait for a second. Among what comes: the server kept still meanwhile."""

    QUIET = enum.auto()


QUIET = Pause.QUIET
Step = bytes | Pause
Event = tuple[str, bytes] | Pause
_KINDS = {TEXT: "text", BINARY: "binary", PONG: "pong"}


class Closer(enum.Enum):
    """Where the first Close comes from."""

    SERVER = enum.auto()
    CLIENT = enum.auto()
    """From the client, with code 1000, once everything wanted has come."""
    STEPS = enum.auto()
    """From the client: it is among the steps."""


class Behavior(enum.StrEnum):
    """Autobahn's verdicts, the best first."""

    OK = "OK"
    INFORMATIONAL = "INFORMATIONAL"
    NON_STRICT = "NON-STRICT"
    FAILED_BY_CLIENT = "FAILED BY CLIENT"
    UNCLEAN = "UNCLEAN"
    WRONG_CODE = "WRONG CODE"
    FAILED = "FAILED"

    @property
    def rank(self) -> int:
        """How bad it is, from 0."""
        return list(Behavior).index(self)


@attrs.frozen
class Case:
    """One case.

    Attributes:
        id: Autobahn's.
        title: what is sent.
        steps: what is written, each at once.
        wants: what must come back, in order.
        tolerates: what may come back instead, NON-STRICT then; None: nothing.
        closer: where the first Close comes from.
        codes: what the server's Close may have as its code.
        is_clean: whether the server has to send a Close, not only to hang up.
        is_free: whether the specification leaves it open what a server does.
    """

    id: str
    title: str
    steps: Sequence[Step]
    wants: Sequence[Event] = ()
    tolerates: Sequence[Event] | None = None
    closer: Closer = Closer.CLIENT
    codes: frozenset[int] = frozenset({1000})
    is_clean: bool = True
    is_free: bool = False

    def __str__(self) -> str:
        return self.id

    @property
    def section(self) -> int:
        """Autobahn's section."""
        return int(self.id.split(".")[0])

    @property
    def is_illegal(self) -> bool:
        """Whether the server has to refuse what it is sent."""
        return self.codes <= {1002, 1007}

    @property
    def is_race(self) -> bool:
        """Whether a server may refuse what is illegal before it has seen to what came before that."""
        return bool(self.wants) and self.tolerates == () and not self.is_free


@attrs.frozen
class Verdict:
    """What came of a case: how it went until the end, how it ended, and the server's close code.

    ``code`` is None without a Close, 1005 for one without a code.
    """

    behavior: Behavior
    close: Behavior
    code: int | None

    @property
    def rank(self) -> tuple[int, int]:
        """How bad it is."""
        return self.behavior.rank, self.close.rank


@attrs.define(eq=False)
class _Conversation:
    """One connection to the server under test."""

    wire: Wire
    case: Case
    received: list[Event] = attrs.field(factory=list)
    code: int | None = None
    has_closed_first: bool = False
    is_over: bool = False
    change: trio.Event = attrs.field(factory=trio.Event)

    async def hold(self) -> Verdict:
        """Write, listen, close, judge."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            await self._write()
            if self.case.closer is Closer.CLIENT:
                await self._until(lambda: len(self.received) >= len(self.case.wants) or self._is_closing)
                if not self._is_closing:
                    self.has_closed_first = True
                    await self._send(close_frame(1000))
            await self._until(lambda: self.is_over)
            was_hung_up = self.is_over
            nursery.cancel_scope.cancel()
        return self._judge(was_hung_up)

    @property
    def _is_closing(self) -> bool:
        return self.is_over or self.code is not None

    async def _write(self) -> None:
        self.has_closed_first = self.case.closer is Closer.STEPS
        for step in self.case.steps:
            if self._is_closing:
                return
            if isinstance(step, Pause):
                await trio.sleep(PATIENCE)
                if not self._is_closing:
                    self.received.append(step)
            else:
                await self._send(step)
                await wait_all_tasks_blocked()  # so that each step is read by itself

    async def _send(self, data: bytes) -> None:
        # A server that has hung up is noticed by the listener.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.wire.send(data)

    async def _listen(self) -> None:
        try:
            while True:
                frame = await self.wire.frame()
                if frame.opcode == CLOSE:
                    self.code = frame.close_code if frame.payload else 1005
                    if not self.has_closed_first:
                        await self._send(close_frame(self.code))
                else:
                    kind = _KINDS[frame.opcode] if frame.final and self.code is None else "stray"
                    self.received.append((kind, frame.payload))
                self._note_change()
        except EOFError:
            self.is_over = True
            self._note_change()

    def _note_change(self) -> None:
        self.change.set()
        self.change = trio.Event()

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Wait until ``holds()``, in patience."""
        with trio.move_on_after(PATIENCE):
            while not holds():
                await self.change.wait()

    def _judge(self, was_hung_up: bool) -> Verdict:
        case = self.case
        if self.received == list(case.wants):
            behavior = Behavior.OK
        elif case.tolerates is not None and self.received == list(case.tolerates):
            behavior = Behavior.NON_STRICT
        else:
            behavior = Behavior.FAILED
        if self.has_closed_first is (case.closer is Closer.SERVER):
            close = Behavior.FAILED
        elif case.is_clean and self.code is None:
            close = Behavior.UNCLEAN
        elif self.code not in {*case.codes, None, 1005}:
            close = Behavior.WRONG_CODE
        elif not was_hung_up:
            close = Behavior.FAILED_BY_CLIENT
        else:
            close = Behavior.OK
        if case.is_free:
            behavior = close = Behavior.INFORMATIONAL
        return Verdict(behavior, close, self.code)


async def put_to_case(stream: trio.abc.Stream, case: Case) -> Verdict:
    """Run one case over a new connection, and close that."""
    wire = Wire(stream)
    try:
        await wire.shake_hands(path="/", protocols="")
        return await _Conversation(wire, case).hold()
    finally:
        await trio.aclose_forcefully(stream)
