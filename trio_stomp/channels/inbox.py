"""A bounded many-to-one channel that hands over everything at once.

Rule 1: one task takes; anybody puts.  Rule 2: whoever feeds it asks for room first.

A memory channel moves one value per task switch; this one moves what has gathered (DESIGN
rule 4: batches, not messages, cross task boundaries).  The bound is soft by design: `put`
never waits, so that a frame's commands stay together, and a feeder awaits `room` before its
next frame.  It is exceeded by one frame's worth for each feeder at most.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Inbox(Generic[T]):
    """What has been put and not yet taken, in order.

    Args:
        capacity: the weight at which feeders wait; items weigh 1 unless they say otherwise.
    """

    __slots__ = ("_capacity", "_closed", "_feeders", "_items", "_taker", "full_waits", "weight")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: list[T] = []
        self._taker: trio.lowlevel.Task | None = None
        self._feeders: trio.lowlevel.ParkingLot | None = None  # made for the first that waits
        self._closed = False
        self.weight = 0
        self.full_waits = 0
        """How often a feeder had to wait."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def is_full(self) -> bool:
        """Whether a feeder has to wait now."""
        return self.weight >= self._capacity

    def put(self, item: T, weight: int = 1) -> None:
        """Append one item, also to a full or closed inbox."""
        self._items.append(item)
        self.weight += weight
        if self._taker is not None:
            self._wake()

    def extend(self, items: list[T], weight: int) -> None:
        """Append several items that weigh ``weight`` together."""
        self._items += items
        self.weight += weight
        if self._taker is not None:
            self._wake()

    async def room(self) -> None:
        """Wait until it is not full or is closed; does not yield when there is room."""
        if self.weight >= self._capacity and not self._closed:
            self.full_waits += 1
            if self._feeders is None:
                self._feeders = trio.lowlevel.ParkingLot()
            while self.weight >= self._capacity and not self._closed:
                await self._feeders.park()

    async def take(self) -> list[T]:
        """All that is there, waiting for something; an empty list once closed and empty.

        Does not yield when something is there. Cancelling takes nothing.
        """
        while not self._items and not self._closed:
            self._taker = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
        return self.take_nowait()

    def take_nowait(self) -> list[T]:
        """All that is there; perhaps nothing."""
        items = self._items
        if items:
            self._items = []
            self.weight = 0
            if self._feeders is not None:
                self._feeders.unpark_all()
        return items

    def close(self) -> None:
        """Nothing more is to come: `take` gives what is left, then empty lists."""
        self._closed = True
        if self._feeders is not None:
            self._feeders.unpark_all()
        if self._taker is not None:
            self._wake()

    def _wake(self) -> None:
        task, self._taker = self._taker, None
        assert task is not None
        trio.lowlevel.reschedule(task)

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._taker = None
        return trio.lowlevel.Abort.SUCCEEDED
