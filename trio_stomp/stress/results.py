"""What a stress test measures, as values: made by the load, read by the advice and the reports.

Rule 1: times are seconds, sizes bytes; the reports choose the unit that is shown.
Rule 2: what is not known is None, never 0.
Rule 3: a report is saved as JSON with `SCHEMA`; an added field has a default: older files load.
"""

from __future__ import annotations

from typing import Final

import attrs

SCHEMA: Final = 1
"""Of a saved report; raised when a field changes its meaning or goes."""


@attrs.frozen(kw_only=True)
class Latency:
    """How long requests took, in seconds; requests that were never answered count with their age at the end.

    Attributes:
        count: requests behind the numbers. 0: the numbers are 0 and mean nothing.
    """

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


@attrs.frozen(kw_only=True)
class Moment:
    """One interval of a run's timeline; requests belong to the interval in which they were to be sent.

    Attributes:
        at: seconds from the start of the measured time to the start of the interval.
        seconds: its length.
        sent: requests that were to be sent in it, and were.
        answered: answers that arrived in it, whenever their requests were sent.
        p50, p99: corrected latency of its requests, in seconds.
    """

    at: float
    seconds: float
    sent: int
    answered: int
    p50: float
    p99: float


@attrs.frozen(kw_only=True)
class Split:
    """Where an answered request's time went: means in seconds that add up to the mean latency.

    Attributes:
        late: from the intended to the real sending: the generator or a full connection held it up.
        session: waited for its session's earlier frames, which are handled in order.
        pool: waited for a thread. None: the server's ``/metrics`` could not be read.
        call: held a thread: the external call. None as above.
        rest: everything else: network, frames, broker. With None above it holds those as well.
    """

    late: float
    session: float
    pool: float | None
    call: float | None
    rest: float


@attrs.frozen(kw_only=True)
class ServerUse:
    """What the server's process used while it was measured.

    Attributes:
        cpu: cores: CPU seconds per second.
        cpu_per_message: CPU seconds per answered request.
        rss: bytes of resident memory at the end.
        loop_lag_mean, loop_lag_p99: seconds by which its event loop was late.
    """

    cpu: float
    cpu_per_message: float
    rss: int
    loop_lag_mean: float
    loop_lag_p99: float


@attrs.frozen(kw_only=True)
class GeneratorUse:
    """Whether the measuring side kept up.

    Attributes:
        cpu: cores: CPU seconds per second of this process.
        late_p99: seconds by which sends were later than intended.
        is_bottleneck: it was too slow itself, so that the run says little about the server.
    """

    cpu: float
    late_p99: float
    is_bottleneck: bool


@attrs.frozen(kw_only=True)
class Run:
    """One measured run: one size of a pool, one step of a ramp, or the only run.

    Attributes:
        label: as ``"external_api=16"`` or ``"300/s"`` or the target's name.
        pool, threads: what was swept; None for a run that is not part of a sweep.
        rate: requests per second offered, as asked for.
        duration: seconds measured, the warm-up before it not included.
        clients: connections.
        sent: requests that were sent while it was measured. Every one of them is counted once in
            ``answered + rejected + errors + lost + unanswered``.
        answered: those that got what was asked of them, also when late.
        achieved: answers that arrived in the measured time, per second.
        rejected: those refused as overloaded.
        errors: those answered with any other error.
        lost: those that nobody will answer: a later one of their session is answered, or it has ended.
        unanswered: those without an answer when the wait for the last ones was over.
        duplicates: answers beyond the first.
        disconnects: connections that the server ended.
        corrected: latency from the intended send time (no coordinated omission) of all that were sent.
        raw: from the real send time, of those that were answered.
        split: None when nothing was answered.
        server: None when its ``/metrics`` could not be read.
        timeline: in order.
        failures: codes and texts of errors with how often each came, the most frequent first.
    """

    label: str
    pool: str | None
    threads: int | None
    rate: float
    duration: float
    clients: int
    sent: int
    answered: int
    achieved: float
    rejected: int
    errors: int
    lost: int
    unanswered: int
    duplicates: int
    disconnects: int
    corrected: Latency
    raw: Latency
    split: Split | None
    server: ServerUse | None
    generator: GeneratorUse
    timeline: tuple[Moment, ...]
    failures: tuple[tuple[str, int], ...] = ()


@attrs.frozen(kw_only=True)
class Recommendation:
    """The size to take.

    Attributes:
        toml: the lines to paste into the settings file.
        reason: one sentence: why this one.
        meets_target: whether it meets the target; False when no size does. None without a target.
    """

    pool: str
    threads: int
    toml: str
    reason: str
    meets_target: bool | None


@attrs.frozen(kw_only=True)
class BreakingPoint:
    """Where a ramp broke.

    Attributes:
        holds: the highest rate per second that the server carried; None: not even the first.
        breaks: the first that it did not; None: it carried all.
        reason: what went wrong there, or that nothing did.
    """

    holds: float | None
    breaks: float | None
    reason: str


@attrs.frozen(kw_only=True)
class Report:
    """A whole stress test.

    Attributes:
        version: of trio-stomp.
        started: UTC, ISO 8601.
        command: the command line, passcodes left out.
        machine: what it ran on, one line.
        target: the app or URL.
        kind: "run", "sweep" or "ramp".
        goal: the criteria of ``--target``, as given; None without.
        runs: a sweep's in order of size, a ramp's in order of rate.
        warnings: what makes the numbers doubtful, a sentence each.
    """

    schema: int = SCHEMA
    version: str
    started: str
    command: str
    machine: str
    target: str
    destination: str
    reply: str | None
    kind: str
    goal: str | None
    runs: tuple[Run, ...]
    recommendation: Recommendation | None = None
    breaking_point: BreakingPoint | None = None
    warnings: tuple[str, ...] = ()
