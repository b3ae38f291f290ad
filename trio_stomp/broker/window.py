"""What one subscription has been given and has not acknowledged yet.

Rule 1: a message is in one place: in a queue, behind a window, or in it.  Rule 2: whatever leaves a window
without an acknowledgement is given back, in its order.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from trio_stomp.broker.delivery import Delivery
from trio_stomp.stomp.frames import Version

if TYPE_CHECKING:
    from trio_stomp.broker.queues import Queue


@attrs.define(eq=False)
class Parcel:
    """One message that is held for somebody.

    Attributes:
        size: bytes of body and headers.
        queue: where it came from; None for a topic's.
        number: its place in its queue.
        is_redelivered: it was given to somebody before.
    """

    delivery: Delivery
    size: int
    queue: Queue | None = None
    number: int = 0
    is_redelivered: bool = False


class Window:
    """The unacknowledged messages of one subscription, and of a topic's what waits behind them.

    Args:
        name: which no other window of the broker has; begins the ids that it gives.
        opening: what a MESSAGE of this subscription begins with.
        is_cumulative: ACK and NACK are about all up to the one named (ack mode ``client``).
        prefetch: how many may be unacknowledged.
        max_bytes: how many bytes may be; one larger message passes alone.

    Attributes:
        unacked: by the id that an ACK names, in the order given out.
        behind: a topic's messages for which there was no room.
        behind_bytes: their size.
    """

    __slots__ = (
        "_bytes",
        "_given",
        "_max_bytes",
        "_prefetch",
        "behind",
        "behind_bytes",
        "is_cumulative",
        "name",
        "opening",
        "unacked",
        "version",
    )

    def __init__(
        self,
        name: str,
        opening: bytes,
        version: Version,
        *,
        is_cumulative: bool,
        prefetch: int,
        max_bytes: int,
    ) -> None:
        self.name = name
        self.opening = opening
        self.version = version
        self.is_cumulative = is_cumulative
        self.unacked: dict[str, Parcel] = {}
        self.behind: deque[Parcel] = deque()
        self.behind_bytes = 0
        self._prefetch = prefetch
        self._max_bytes = max_bytes
        self._bytes = 0
        self._given = 0

    @property
    def is_open(self) -> bool:
        """Whether there is room for one more."""
        return len(self.unacked) < self._prefetch and self._bytes < self._max_bytes

    def held(self) -> Iterator[Parcel]:
        """All messages in it and behind it, oldest first."""
        return itertools.chain(self.unacked.values(), self.behind)

    def give(self, parcel: Parcel) -> bytes:
        """Note a message as given out; returns the lines that its MESSAGE begins with."""
        self._bytes += parcel.size
        lines = self.opening
        key = parcel.delivery.message_id
        if self.version is Version.V1_2:  # the others name the message and the subscription
            self._given += 1
            key = f"{self.name}-{self._given}"
            lines += b"ack:%s\n" % key.encode()
        self.unacked[key] = parcel
        return lines + b"redelivered:true\n" if parcel.is_redelivered else lines

    def covered(self, key: str) -> list[str]:
        """Return which an ACK or NACK of ``key`` is about, oldest first; ``key`` is one of `unacked`."""
        if not self.is_cumulative:
            return [key]
        found = []
        for each in self.unacked:
            found.append(each)
            if each == key:
                break
        return found

    def settle(self, key: str) -> list[Parcel]:
        """Take out what an ACK or NACK of ``key`` is about, oldest first."""
        parcels = [self.unacked.pop(each) for each in self.covered(key)]
        self._bytes -= sum(parcel.size for parcel in parcels)
        return parcels

    def hold(self, parcel: Parcel) -> None:
        """Put one behind those that wait already."""
        self.behind.append(parcel)
        self.behind_bytes += parcel.size

    def give_back(self, parcels: list[Parcel]) -> None:
        """Put some before those that wait, as given once before."""
        for parcel in parcels:
            parcel.is_redelivered = True
        self.behind.extendleft(reversed(parcels))
        self.behind_bytes += sum(parcel.size for parcel in parcels)

    def next_held(self) -> Parcel | None:
        """Take the one that has waited longest, if there is one and room for it."""
        if not self.behind or not self.is_open:
            return None
        parcel = self.behind.popleft()
        self.behind_bytes -= parcel.size
        return parcel
