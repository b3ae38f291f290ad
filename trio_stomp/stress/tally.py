"""What became of each request of one run: numbers in arrays, no clock and no connection.

Rule 1: a request that was sent ends in exactly one way; the first that is told counts.
Rule 2: requests below 0 (the warm-up's) are not counted; their answers count as arrived when they come
within the measured time, as those of the last requests, which come after it, do not.
Rule 3: once closed nothing changes any more.
"""

from __future__ import annotations

import collections
import math
from array import array
from collections.abc import Callable, Iterable
from typing import Final

from trio_stomp.stress.results import Latency, Moment
from trio_stomp.stress.schedule import Schedule

KINDS: Final = 50
"""Texts of failures that are told apart; a server may put anything into them."""
OTHERS: Final = "others"
_TEXT_LENGTH: Final = 200
"""Characters of a failure's text: a line of a report."""

MOMENTS: Final = 10
"""The timeline has this many intervals at least."""
_MOMENT: Final = 1.0
"""Seconds of an interval, in runs that are long enough."""

_UNSENT, _OPEN, _ANSWERED, _REJECTED, _FAILED, _LOST = range(6)


class Tally:
    """Counts one run.

    Args:
        schedule: when each request is due.
        on_complete: called once, when all requests have been sent and have ended (or cannot be sent).

    Attributes:
        duplicates, disconnects: as in `Run`.
        session_wait: seconds that answered requests waited for earlier ones of their session, all together.
        arrived: answers that have come in the measured time.
        answers, served: answers that have come at any time; with those that say that a handler failed.
    """

    def __init__(self, schedule: Schedule, on_complete: Callable[[], None] = lambda: None) -> None:
        self.schedule = schedule
        self.duplicates = 0
        self.disconnects = 0
        self.session_wait = 0.0
        self.arrived = 0
        self.answers = 0
        self.served = 0
        self._on_complete = on_complete
        self._left = schedule.count
        self._unsent = 0
        self._state = bytearray(schedule.count)
        # 8 bytes a time: a million requests take 17 MB.
        self._sent_at = array("d", [math.nan]) * schedule.count
        self._ended_at = array("d", [math.nan]) * schedule.count
        self._counts = [schedule.count, 0, 0, 0, 0, 0]
        self._failures: collections.Counter[str] = collections.Counter()
        moments = max(MOMENTS, math.ceil(schedule.duration / _MOMENT))
        self._moment = schedule.duration / moments
        self._arrived = [0] * moments
        self._closed_at: float | None = None

    # What happens.

    def sent(self, k: int, at: float) -> None:
        """Request ``k`` has gone out; told again, the time is put right."""
        if k >= 0 and self._closed_at is None:
            if self._state[k] == _UNSENT:
                self._move(k, _OPEN)
            self._sent_at[k] = at

    def unsent(self, k: int) -> None:
        """Request ``k`` will never be sent: its connection has ended."""
        if k >= 0 and self._closed_at is None:
            self._unsent += 1
            self._is_done()

    def answered(self, k: int, at: float, previous: float) -> None:
        """Request ``k`` got what was asked of it; ``previous`` is when its session's last answer came."""
        if self._closed_at is not None:
            return
        self.answers += 1
        self.served += 1
        begin = self.schedule.begin
        if begin <= at < self.schedule.end:
            self.arrived += 1
            self._arrived[min(int((at - begin) / self._moment), len(self._arrived) - 1)] += 1
        if k >= 0 and self._end(k, _ANSWERED, at):
            self.session_wait += max(previous - self._sent_at[k], 0.0)

    def refused(self, k: int, at: float, code: str, text: str) -> None:
        """Request ``k`` was answered with an error; its code ``overloaded`` makes it a rejected one."""
        if self._closed_at is not None:
            return
        is_overload = code == "overloaded"
        self.served += not is_overload
        if k >= 0 and self._end(k, _REJECTED if is_overload else _FAILED, at):
            self.failure(f"{code}: {text}" if text else code)

    def lost(self, k: int, why: str = "") -> None:
        """Nobody will answer request ``k``; ``why``, when nothing else tells it."""
        if self._closed_at is None and k >= 0 and self._end(k, _LOST, math.nan) and why:
            self.failure(why)

    def duplicate(self, count: int = 1) -> None:
        """Answers came beyond the first."""
        if self._closed_at is None:
            self.duplicates += count

    def disconnect(self, text: str) -> None:
        """The server ended a connection."""
        if self._closed_at is None:
            self.disconnects += 1
            self.failure(text)

    def failure(self, text: str, count: int = 1) -> None:
        """Something went wrong that has a text."""
        text = text[:_TEXT_LENGTH]
        if text not in self._failures and len(self._failures) >= KINDS:
            text = OTHERS
        self._failures[text] += count

    def close(self, at: float) -> None:
        """The wait is over: what is open now stays unanswered, at this age."""
        if self._unsent:
            self.failure("not sent: the connection had ended", self._unsent)
        if stuck := self._counts[_UNSENT] - self._unsent:
            self.failure("not sent: the connection took no more bytes", stuck)
        self._closed_at = at

    def _end(self, k: int, state: int, at: float) -> bool:
        if self._state[k] != _OPEN:
            return False
        self._move(k, state)
        self._ended_at[k] = at
        self._is_done()
        return True

    def _move(self, k: int, state: int) -> None:
        self._counts[self._state[k]] -= 1
        self._counts[state] += 1
        self._state[k] = state

    def _is_done(self) -> None:
        self._left -= 1
        if not self._left:
            self._on_complete()

    # What is known, at any time.

    @property
    def count_sent(self) -> int:
        """Return how many were sent."""
        return self.schedule.count - self._counts[_UNSENT]

    @property
    def count_answered(self) -> int:
        """Return how many got what was asked of them."""
        return self._counts[_ANSWERED]

    @property
    def count_rejected(self) -> int:
        """Return how many were refused as overloaded."""
        return self._counts[_REJECTED]

    @property
    def count_errors(self) -> int:
        """Return how many were answered with another error."""
        return self._counts[_FAILED]

    @property
    def count_lost(self) -> int:
        """Return how many nobody will answer."""
        return self._counts[_LOST]

    @property
    def count_open(self) -> int:
        """Return how many have been sent and have not ended."""
        return self._counts[_OPEN]

    @property
    def failures(self) -> tuple[tuple[str, int], ...]:
        """Return texts and how often each came, the most frequent first."""
        return tuple(self._failures.most_common())

    # What is known at the end.

    def corrected(self) -> array[float]:
        """Return how long each request that was sent took, from when it was due, in seconds.

        Those that were never answered count with their age when the wait was over.
        """
        return array("d", (latency for _, latency in self._latencies()))

    def raw(self) -> array[float]:
        """Return how long each answered request took, from when it was sent, in seconds."""
        answered = (k for k, state in enumerate(self._state) if state == _ANSWERED)
        return array("d", (self._ended_at[k] - self._sent_at[k] for k in answered))

    def late(self) -> array[float]:
        """Return by how much each request that was sent went out late, in seconds."""
        due = self.schedule.due
        sent = (k for k, state in enumerate(self._state) if state != _UNSENT)
        return array("d", (max(self._sent_at[k] - due(k), 0.0) for k in sent))

    def late_of_answered(self) -> float:
        """Return by how much the answered requests went out late, in seconds, all together."""
        due = self.schedule.due
        answered = (k for k, state in enumerate(self._state) if state == _ANSWERED)
        return math.fsum(self._sent_at[k] - due(k) for k in answered)

    def timeline(self) -> tuple[Moment, ...]:
        """Return the run in intervals of a second, or of a tenth of a run that is shorter than ten."""
        latencies = [array("d") for _ in self._arrived]
        last = len(latencies) - 1
        for k, latency in self._latencies():
            index = int(round(k / self.schedule.rate / self._moment, 6))  # 0.3 / 0.1 is a little less than 3
            latencies[min(index, last)].append(latency)
        return tuple(
            self._moment_of(index, values, arrived)
            for index, (values, arrived) in enumerate(zip(latencies, self._arrived, strict=True))
        )

    def _moment_of(self, index: int, values: array[float], arrived: int) -> Moment:
        whole = summarize(values)
        return Moment(
            at=index * self._moment,
            seconds=self._moment,
            sent=len(values),
            answered=arrived,
            p50=whole.p50,
            p99=whole.p99,
        )

    def _latencies(self) -> Iterable[tuple[int, float]]:
        due, over = self.schedule.due, self._closed_at
        assert over is not None, "the tally is not closed yet"
        for k, state in enumerate(self._state):
            if state != _UNSENT:
                ended = self._ended_at[k]
                yield k, (over if math.isnan(ended) else ended) - due(k)


def summarize(values: Iterable[float]) -> Latency:
    """Return mean and exact percentiles (nearest rank: the smallest value that so many do not exceed)."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return Latency(count=0, mean=0.0, p50=0.0, p90=0.0, p99=0.0, p999=0.0, max=0.0)

    def at(share: float) -> float:
        return ordered[max(math.ceil(round(share * count, 6)) - 1, 0)]

    return Latency(
        count=count,
        mean=math.fsum(ordered) / count,
        p50=at(0.5),
        p90=at(0.9),
        p99=at(0.99),
        p999=at(0.999),
        max=ordered[-1],
    )
