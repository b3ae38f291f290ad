"""What a subscription gives, and which of it can still be acknowledged.

Rule 1: a message is acknowledged once; a server would end the connection, so it is refused here.
Rule 2: in mode ``client`` an ACK or NACK is about all that came up to it.  Rule 3: what a transaction
holds can be acknowledged again once that is aborted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from trio_stomp.errors import LocalProtocolError
from trio_stomp.messages.conversion import Reader
from trio_stomp.messages.message import Message
from trio_stomp.stomp.frames import Frame


@attrs.define(eq=False)
class Arrival:
    """One MESSAGE as it came.

    Attributes:
        origin: the connection, as something to compare: on another one its ids mean nothing.
        ledger: its subscription's.
        number: its place in the order of arrival, from 1.
        is_settled: whether an ACK or NACK has been about it; not kept in mode ``client``.
    """

    frame: Frame
    origin: object
    ledger: Ledger
    number: int
    is_settled: bool = False


class Ledger:
    """Which messages of one subscription are acknowledged, and which are to be with a transaction.

    Args:
        is_cumulative: an acknowledgement is about all that came before as well (mode ``client``).
    """

    def __init__(self, *, is_cumulative: bool) -> None:
        self._is_cumulative = is_cumulative
        self._last = 0
        self._up_to: dict[str | None, int] = {}  # transaction → number; None: those acknowledged for good
        self._held: dict[str, list[Arrival]] = {}  # transaction → what it is to acknowledge

    def enter(self, frame: Frame, origin: object) -> Arrival:
        """Note the next message."""
        self._last += 1
        return Arrival(frame, origin, self, self._last)

    @contextmanager
    def settling(self, arrival: Arrival, transaction: str | None) -> Iterator[None]:
        """Take a message for acknowledged, by a transaction if one is named; not so if the context fails.

        Raises:
            LocalProtocolError: it is already.
        """
        before = self._up_to.get(transaction, 0)
        self._check(arrival)
        self._settle(arrival, transaction)
        try:
            yield
        except BaseException:
            self._unsettle(arrival, transaction, before)
            raise

    def commit(self, transaction: str) -> None:
        """What it holds is acknowledged for good."""
        self._held.pop(transaction, None)
        self._up_to[None] = max(self._up_to.get(None, 0), self._up_to.pop(transaction, 0))

    def abort(self, transaction: str) -> None:
        """What it holds is not acknowledged."""
        for arrival in self._held.pop(transaction, ()):
            arrival.is_settled = False
        self._up_to.pop(transaction, None)

    def _check(self, arrival: Arrival) -> None:
        if self._is_cumulative:
            if arrival.number <= max(self._up_to.values(), default=0):
                raise LocalProtocolError(
                    f"{_name(arrival)} is acknowledged already, or one that came after it (ack 'client')"
                )
        elif arrival.is_settled:
            raise LocalProtocolError(f"{_name(arrival)} is acknowledged already")

    def _settle(self, arrival: Arrival, transaction: str | None) -> None:
        if self._is_cumulative:
            self._up_to[transaction] = arrival.number
            return
        arrival.is_settled = True
        if transaction is not None:
            self._held.setdefault(transaction, []).append(arrival)

    def _unsettle(self, arrival: Arrival, transaction: str | None, before: int) -> None:
        if self._is_cumulative:
            if self._up_to.get(transaction) == arrival.number:
                self._up_to[transaction] = before
            return
        arrival.is_settled = False
        if transaction is not None and arrival in self._held.get(transaction, ()):
            self._held[transaction].remove(arrival)


@attrs.define(eq=False)
class ReceivedMessage(Message):
    """One message of a subscription; `Client.ack` and `Client.nack` take it."""

    arrival: Arrival = attrs.field(kw_only=True, repr=False)
    """What the client needs in order to acknowledge it."""
    _read: Reader | None = attrs.field(kw_only=True, repr=False)

    @property
    def redelivered(self) -> bool:
        """Whether somebody has had it before and not acknowledged it."""
        return self.headers.get("redelivered") == "true"

    @property
    def payload(self) -> Any:
        """The body as what the subscription's type says; bytes if it has none.

        Raises:
            ConversionError: it does not fit.
        """
        return self.body if self._read is None else self._read(self.body, self.content_type)


def _name(arrival: Arrival) -> str:
    return f"message {arrival.frame.headers.get('message-id', '')!r}"
