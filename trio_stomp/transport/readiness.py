"""Which sockets have something to read: an epoll of our own below trio's, asked once for all of them.

Rule 1: a socket is registered once, edge-triggered; trio tells the kernel anew for each wait.
Rule 2: an edge is remembered until somebody has read after it; the last, of a peer that is done, for good.
Rule 3: who waits may leave a call behind that sees to the usual in the looking task; its own need not wake.
Rule 4: where this cannot be had, `Readiness.watch` says so, and trio's own way is taken.

Rules 1 and 3 are worth 19 % of the CPU of a request and its reply, most of it by rule 3: it saves one of
three switches between tasks.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

_BATCH: Final = 128
"""Sockets that one look takes; others have their turn before what is left."""

if TYPE_CHECKING or sys.platform == "linux":
    _EDGE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
    _LAST: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Readable:
    """One socket, for one reader.

    Attributes:
        is_last: no further edge is to come: the peer is done, or nobody looks any more. What is there is
            read to its end; where that is not there yet, trio knows when.
    """

    __slots__ = ("_fd", "_is_edge", "_readiness", "_see_to", "_task", "is_last")

    def __init__(self, readiness: Readiness, fd: int) -> None:
        self._readiness = readiness
        self._fd = fd
        self._is_edge = False
        self._task: trio.lowlevel.Task | None = None
        self._see_to: Callable[[], bool] | None = None
        self.is_last = False

    async def wait(self, see_to: Callable[[], bool] | None = None) -> None:
        """Wait for an edge that has come since this last returned, or for `close`; cancelling loses none.

        ``see_to`` is called for edges that come meanwhile, and must not raise: True, and the wait goes on. It
        has to read what is there at that moment.
        """
        if self._is_edge:
            await trio.lowlevel.checkpoint()
        else:
            self._task, self._see_to = trio.lowlevel.current_task(), see_to
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
            if see_to is not None:
                return  # an edge that is there now has come since it was called
        self._is_edge = self.is_last

    def close(self) -> None:
        """The socket is about to be closed: nobody looks at it any more."""
        self._readiness.forget(self._fd)
        self.edge(is_last=True)

    def edge(self, *, is_last: bool) -> None:
        """Something has come, or the end."""
        self._is_edge = True
        self.is_last = self.is_last or is_last
        task, see_to = self._task, self._see_to
        if task is None:
            return
        if see_to is not None and not self.is_last:
            self._is_edge = False
            if see_to():
                return
        self._task = self._see_to = None
        trio.lowlevel.reschedule(task)

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._task = self._see_to = None
        return trio.lowlevel.Abort.SUCCEEDED


class Readiness:
    """All sockets of one server; `run` is the one task that looks."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._watched: dict[int, Readable] = {}

    def watch(self, fd: int) -> Readable | None:
        """Look after a socket until its `Readable.close`; None where that cannot be done."""
        if self._epoll is None:
            return None
        try:
            self._epoll.register(fd, _EDGE)
        except (OSError, ValueError):  # no socket, one that is closed, or the kernel's limit of watches
            return None
        readable = self._watched[fd] = Readable(self, fd)
        return readable

    def forget(self, fd: int) -> None:
        """Look after a socket no more."""
        if self._watched.pop(fd, None) is not None and self._epoll is not None:
            self._epoll.unregister(fd)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell of what comes until cancelled; without epoll (it is Linux's) it returns at once.

        Who waits when it ends goes on by trio.
        """
        if sys.platform != "linux":
            task_status.started()
            return
        watched = self._watched
        with select.epoll() as epoll:
            self._epoll = epoll
            task_status.started()
            try:
                while True:
                    await trio.lowlevel.wait_readable(epoll.fileno())
                    for fd, events in epoll.poll(0, _BATCH):
                        readable = watched.get(fd)
                        if readable is not None:  # it may have been closed by one before
                            readable.edge(is_last=bool(events & _LAST))
            finally:
                self._epoll = None
                for readable in watched.values():
                    readable.edge(is_last=True)
                watched.clear()
