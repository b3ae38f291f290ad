"""How many threads a pool should have: found from how long its calls hold them.

Rule 1: sans-I/O: no task, no clock; whoever calls says what time it is.
Rule 2: the size grows only when it was used, and only while calls don't wait for each other in the service.
Rule 3: slower calls are our own queue only if they get faster with fewer threads; else the service is slower.

A service serves so many calls at once (its knee) without one slowing the other. Beyond, calls queue inside
it: they take longer, and no more of them get done. As TCP Vegas does it (Brakmo and Peterson, 1995), the
queue is estimated from the mean time of a window of calls and from the base, the time when there is no
queue, as ``threads * (1 - base / mean)``; and as FAST TCP does it (Jin, Wei and Low, 2004), the size that
leaves a small queue is taken at once. The base comes from probes: one window with a fifth fewer threads.
If its calls are faster there was a queue, and the next window has fewer still; if not, what they take is
the base. It is learned so at the start, whenever a queue shows, and again every minute.
"""

from __future__ import annotations

import enum
import math
from typing import Final

_CALLS: Final = 10
"""A window has at least so many calls, and two rounds of all threads."""

_SHORT: Final = 0.25
_LONG: Final = 1.0
_LONGEST: Final = 2.0
"""Seconds of a window: while the size is sought; once it is found; and when a mean of calls that differ
much is waited for (a window goes on after that only until it has its calls)."""

_PRECISION: Final = 0.03
"""Standard error that a window's mean may have, as a share of it: less than a queue as it is kept."""

_SETTLE: Final = 1.5
"""A window after a change of size begins so many mean times later: calls of the old size have ended then."""

_HANGING: Final = 5.0
"""A call counts with at most so many times the mean before it: one that hangs is no queue."""

_USED: Final = 0.9
"""Share of the threads that must have been busy at once before more are worth anything."""

_CLIMB: Final = 1.5
_CUT: Final = 0.8
"""What the size is multiplied by: upwards while there is no queue; downwards for a probe and for failures."""

_CALM: Final = 3
"""Windows without a queue after which a settled size climbs again: one may be chance, and it overshoots."""

_QUESTION: Final = 0.9
"""Before going below this share of the size it had settled at, a probe: is it our queue, or is the service
slower?"""

_OURS: Final = 0.7
_SCALES: Final = 0.25
"""The power of the size that the mean time goes with: 1 if all that threads are added for is to wait, 0
without a queue. In a probe, from the one on there was a queue before and after; in a climb, up to the other
the service gets so much more done that its calls may be a little slower."""

_FIRST_PROBE: Final = 5.0
_LAST_PROBE: Final = 60.0
_PROBE_TIMES: Final = 100.0
"""The base is forgotten: it is probed after so many seconds, each time after twice as many, up to the last;
but not before so many mean times, that slow calls may have some windows in between."""

_FEW: Final = 5
_UNUSUAL: Final = 0.1
_USUAL: Final = 30.0
_REST: Final = 10.0
"""Failures matter from so many in a window, if their share is so far above the usual one, which is that of
about so many seconds; after them the size does not grow for so many seconds."""


def spare(threads: float) -> float:
    """Return how many calls may queue inside the service: 1.5 for 4 threads, 4 for 32, 12 for 256.

    Some have to, so that it never runs dry and a higher knee shows; each makes all calls slower.
    """
    return 0.75 * math.sqrt(threads)


class _Phase(enum.Enum):
    STEADY = enum.auto()
    CLIMBING = enum.auto()  # no queue yet: half as many again, each time
    PROBING = enum.auto()  # one window of the present size, then one of fewer
    FALLING = enum.auto()  # the probe found a queue: fewer again, until they show none


class Sizer:
    """Watches the calls of one pool and says which size it should have.

    The pool may follow or not; the size in force, which it tells with every call, is where all goes on from.
    Once it has not followed it is only told what would be right, and not asked to probe any more.

    Args:
        threads: the size in force.
        minimum: the fewest threads that it says.
        maximum: the most.
    """

    __slots__ = (
        "_asked",
        "_base",
        "_begin",
        "_calls",
        "_calm",
        "_end",
        "_error",
        "_failures",
        "_gave_up",
        "_is_followed",
        "_known_at",
        "_longest",
        "_maximum",
        "_mean",
        "_minimum",
        "_peak",
        "_phase",
        "_previous",
        "_probe_after",
        "_rest_until",
        "_seen",
        "_settled_at",
        "_squares",
        "_sum",
        "_threads_in_force",
        "_usual",
        "_wanted",
        "threads",
    )

    _calls: int
    _failures: int
    _gave_up: int
    _peak: int
    _sum: float
    _squares: float

    def __init__(self, threads: int, *, minimum: int, maximum: int) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self.threads = threads
        """What it would choose now, whether or not a probe has just other ones in force."""
        self._asked = threads
        self._threads_in_force = 0
        self._is_followed = True
        self._phase = _Phase.PROBING
        self._calm = _CALM  # windows without a queue; the first climb needs no more of them
        self._base = 0.0  # unknown; all of a call's time could be our queue
        self._known_at = -math.inf
        self._settled_at = 0
        self._probe_after = _FIRST_PROBE
        self._previous: tuple[int, float] | None = None
        self._mean = math.inf
        self._error = 0.0
        self._usual = 0.0
        self._seen = 0
        self._rest_until = -math.inf
        self._open_window(math.inf, threads)

    def ended(self, now: float, seconds: float, *, busy: int, threads: int, is_failure: bool) -> int | None:
        """Take note that a call's thread has ended; return the size to take if that ends a window, else None.

        Most calls only add to the window: about 0.2 µs.

        Args:
            now: seconds by a clock that never goes back.
            seconds: how long the call held its thread.
            busy: calls that held a thread just before, this one included.
            threads: the size in force; 0 while the pool is paused, then nothing is decided.
            is_failure: whether it failed.
        """
        if threads != self._threads_in_force:
            self._change_threads(now, threads)
        if now < self._begin:
            return None
        if busy > self._peak:
            self._peak = busy
        self._calls += 1
        if is_failure:
            self._failures += 1
        else:
            if seconds > self._longest:
                seconds = self._longest
            self._sum += seconds
            self._squares += seconds * seconds
        if self._calls < self._wanted or now < self._end:
            return None
        return self._end_window(now, threads)

    def gave_up(self, now: float) -> None:
        """Take note that a call timed out, though its thread goes on: a failure.

        When the thread ends, `ended` hears of it as of any other.
        """
        if now >= self._begin:
            self._gave_up += 1

    def _open_window(self, begin: float, threads: int) -> None:
        self._begin = begin
        self._end = begin + (_LONG if self._phase is _Phase.STEADY else _SHORT)
        # The very first is only there for the time to settle: the service fills up in it.
        self._wanted = max(_CALLS, 2 * threads) if self._mean < math.inf else threads
        self._longest = _HANGING * self._mean or math.inf
        self._calls = self._failures = self._gave_up = self._peak = 0
        self._sum = self._squares = 0.0

    def _change_threads(self, now: float, threads: int) -> None:
        """Others are in force than at the call before: as asked, or as an operator wants it."""
        self._threads_in_force = threads
        if not threads:
            self._begin = math.inf
            return
        if threads == self._asked:
            self._is_followed = True
        else:
            self._asked = self.threads = threads
            self._phase = _Phase.STEADY if self._base else _Phase.PROBING
            self._previous = None
            self._settled_at = 0
        self._open_window(now + self._settle(), threads)

    def _settle(self) -> float:
        return _SETTLE * self._mean if self._mean < math.inf else 0.0

    def _end_window(self, now: float, threads: int) -> int | None:
        succeeded = self._calls - self._failures  # the time until a failure says nothing of the service's
        if succeeded:
            is_first, self._mean = self._mean == math.inf, self._sum / succeeded
            if is_first:
                self._open_window(now, threads)
                return None
            variance = self._squares / succeeded - self._mean**2
            self._error = math.sqrt(max(variance, 0.0) / succeeded) / self._mean if self._mean else 0.0
            lacking = succeeded * ((self._error / _PRECISION) ** 2 - 1)
            if lacking > 0 and now - self._begin < _LONGEST:
                self._wanted = self._calls + math.ceil(min(lacking, self._calls))
                return None
        size = self._decide(now, threads, is_known=succeeded >= _CALLS // 2)
        self._asked = size = min(max(_round(size), self._minimum), self._maximum)
        is_probing = self._phase in (_Phase.PROBING, _Phase.FALLING)
        if not is_probing:
            self.threads = size
        self._open_window(now + self._settle() if is_probing else now, threads)
        return size

    def _decide(self, now: float, threads: int, *, is_known: bool) -> float:
        """Return the size that the window speaks for, unrounded and unbounded."""
        if threads != self._asked:
            self._is_followed = False
        phase, self._phase = self._phase, _Phase.STEADY
        before, self._previous = self._previous, None
        if self._has_failed(now):
            self._settled_at = 0
            return _CUT * threads
        if not is_known:  # nearly all failed: the times of the others say nothing
            return threads if self._is_followed else self.threads
        here = self._previous = (threads, self._mean)
        if self._peak < _USED * threads:
            self._learn_from_light_load(now, here)
            if not self._is_followed:
                return self.threads
            is_probe = before is not None and phase in (_Phase.PROBING, _Phase.FALLING)
            return self._size_for(before) if before is not None and is_probe else threads
        if not self._is_followed:
            self._base = self._base or self._mean
            return self._size_for(here)
        if phase in (_Phase.PROBING, _Phase.FALLING):
            return self._go_on_probing(now, here, before, phase)
        return self._follow_queue(now, here, before, is_climbing=phase is _Phase.CLIMBING)

    def _has_failed(self, now: float) -> bool:
        """Return whether the window's failures are far more than usual, and learn what is usual."""
        calls = self._calls + self._gave_up
        failures = self._failures + self._gave_up
        share, usual, seen = failures / calls, self._usual, self._seen
        self._seen += calls
        # Four standard deviations between two shares of the same: by chance once in 30,000 windows.
        chance = 4 * math.sqrt(usual * (1 - usual) * (1 / calls + 1 / seen)) if seen else 1.0
        if failures >= _FEW and share - usual > max(_UNUSUAL, chance):
            # If fewer threads don't help, it is usual after three or four times.
            self._usual += 0.5 * (share - usual)
            self._rest_until = now + _REST
            return True
        weight = max(calls / self._seen, (now - self._begin) / _USUAL)
        self._usual += min(1.0, weight) * (share - usual)
        if share > 0.5:  # more of them would not be served better
            self._rest_until = now + _REST
        return False

    def _learn_from_light_load(self, now: float, here: tuple[int, float]) -> None:
        _, mean = here
        if mean > self._base > 0:  # colder caches, a slower service, or a queue after all: not at once
            self._base += 0.1 * (mean - self._base)
        else:
            self._base = mean
        if mean <= (1 + _PRECISION) * self._base:
            self._known_at = now

    def _go_on_probing(
        self, now: float, here: tuple[int, float], before: tuple[int, float] | None, phase: _Phase
    ) -> float:
        threads, mean = here
        is_queue = before is not None and _power(before, here) >= _OURS
        if threads > self._minimum and (before is None or is_queue):
            self._phase = _Phase.PROBING if before is None else _Phase.FALLING
            return min(int(_CUT * threads), threads - 1)
        self._base, self._known_at = mean, now
        self._settled_at = 0
        above = before or here
        if phase is _Phase.FALLING:
            self._calm = 0
        elif self._calm >= _CALM:
            self._phase = _Phase.CLIMBING
        self._previous = None
        target = self._size_for(above)
        return target if now >= self._rest_until else min(target, above[0])

    def _follow_queue(
        self, now: float, here: tuple[int, float], before: tuple[int, float] | None, *, is_climbing: bool
    ) -> float:
        threads, _ = here
        power = _power(here, before) if is_climbing and before is not None else 0.0
        if before is not None and is_climbing and power <= _SCALES:
            self._base = max(self._base, before[1])  # slower than with few, but much more gets done
        target, queue, room = self._size_for(here), self._queue(here), spare(threads)
        may_grow = now >= self._rest_until and threads < self._maximum
        self._calm = self._calm + 1 if queue <= (0.75 if is_climbing else 0.25) * room else 0
        if may_grow and self._calm >= _CALM:
            self._phase = _Phase.CLIMBING
            return max(_CLIMB * threads, threads + 1)
        if power > _SCALES:
            return target  # the last step made the queue: no need to ask
        self._settled_at = max(self._settled_at, threads)
        if _round(target) < _QUESTION * self._settled_at or self._is_probe_due(now):
            self._phase = _Phase.PROBING
            self._previous = None
            return threads
        return target if may_grow else min(target, threads)

    def _queue(self, window: tuple[int, float]) -> float:
        """Return how many calls of such a window waited inside the service, as far as the base is known."""
        threads, mean = window
        return threads * (1 - self._base / mean) if mean > self._base else 0.0

    def _size_for(self, window: tuple[int, float]) -> float:
        """Return the size that leaves just a small queue, if the service queues as in such a window.

        A mean below the base is a better base: at once if by more than chance, else a part of the way.
        """
        threads, mean = window
        if mean < (1 - 3 * self._error) * self._base:
            self._base = mean
            self._probe_after = _FIRST_PROBE  # the service has got faster, and part of the mean may be queue
        elif mean < self._base:
            self._base += 0.25 * (mean - self._base)
        return threads - self._queue(window) + spare(threads)

    def _is_probe_due(self, now: float) -> bool:
        after = max(self._probe_after, _PROBE_TIMES * self._mean)
        if now - self._known_at < after:
            return False
        self._probe_after = min(2 * self._probe_after, _LAST_PROBE)
        return True


def _round(size: float) -> int:
    return math.floor(size + 0.5)


def _power(high: tuple[int, float], low: tuple[int, float]) -> float:
    """Return p if the mean time goes with the p-th power of the size between two windows (threads, mean).

    0: no queue; 1: so much queue that more threads get nothing more done.
    """
    if low[0] >= high[0] or not low[1] or not high[1]:
        return 0.0
    return math.log(high[1] / low[1]) / math.log(high[0] / low[0])
