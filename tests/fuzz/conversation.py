"""One session with a server, step by step, over any stream."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable

import trio
from fuzz.heard import Malformed, take_apart
from fuzz.sessions import BINARY, Acknowledge, HalfClose, Pause, Plan, Reset, Send, Step, Stomp, Wait, Ws

PATIENCE = 40.0
"""Seconds that a session may last after its last step: all of the server's limits together are below 20."""
_MARK_PATIENCE = 0.3
"""Seconds that a mutated session waits for what may never come."""

_ACK = re.compile(rb"\nack:([^\n]+)\n")


async def converse(
    stream: trio.abc.HalfCloseableStream, plan: Plan, reset: Callable[[], Awaitable[None]]
) -> tuple[bytes, str]:
    """Do a plan's steps; what the server said, and how it ended, as `judge` wants it. Closes the stream."""
    conversation = _Conversation(stream, plan)
    pauses = sum(step.seconds for step in plan.steps if isinstance(step, Pause))
    with trio.move_on_after(PATIENCE + pauses + plan.stall):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conversation.listen, nursery.cancel_scope)
            await conversation.speak()
            if conversation.end == "ours":
                nursery.cancel_scope.cancel()
    if conversation.end == "ours":
        await reset()
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)
    return bytes(conversation.data), conversation.end


class _Conversation:
    """One connection's two directions."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, plan: Plan) -> None:
        self._stream = stream
        self._plan = plan
        self._news = trio.Event()
        self.data = bytearray()
        self.end = "silence"

    async def listen(self, scope: trio.CancelScope) -> None:
        """Read to the end, then let the nursery end."""
        await trio.sleep(self._plan.stall)
        end = "eof"
        try:
            while piece := await self._stream.receive_some(65536):
                self.data += piece
                self._news.set()
                self._news = trio.Event()
        except trio.BrokenResourceError:
            end = "reset"
        if self.end == "silence":
            self.end = end
        scope.cancel()

    async def speak(self) -> None:
        """Do the steps; then wait for the answer that is wanted, and hang up."""
        try:
            for step in self._plan.steps:
                await self._do(step)
                if self.end == "ours":
                    return
            while self._plan.wants and not self._has_answered():
                await self._news.wait()
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the server has hung up: what it said before is being read

    async def _do(self, step: Step) -> None:
        match step:
            case Send(data):
                await self._stream.send_all(data)
            case Pause(seconds):
                await trio.sleep(seconds)
            case Wait(mark):
                # As long as it takes where the session is valid so far; else the mark may never come.
                with trio.move_on_after(PATIENCE if self._plan.wants else _MARK_PATIENCE):
                    while mark not in self.data:
                        await self._news.wait()
            case Acknowledge(command, times):
                asked = _ACK.findall(bytes(self.data))
                frames = [Ws(Stomp(command, [(b"id", id)]).encode(), BINARY).encode() * times for id in asked]
                await self._stream.send_all(b"".join(frames))
            case HalfClose():
                await self._stream.send_eof()
            case Reset():
                self.end = "ours"

    def _has_answered(self) -> bool:
        with contextlib.suppress(Malformed, UnicodeDecodeError):
            heard = take_apart(bytes(self.data))
            is_over = heard.is_told and heard.answers[-1] != "error"
            return is_over or any(want in heard.answers for want in self._plan.wants)
        return True  # malformed: `judge` will say so
