"""From what was measured to a run: the parts add up to the mean, and what is not known is None."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from trio_stomp.stress.load import Measured, Reading
from trio_stomp.stress.results import Split
from trio_stomp.stress.schedule import Schedule
from trio_stomp.stress.scrape import Sample
from trio_stomp.stress.summary import make_run
from trio_stomp.stress.tally import Tally

LAG = "trio_stomp_loop_lag_seconds"


def a_sample(*, cpu: float = 0.0, wait: float = 0.0, service: float = 0.0, lag: int = 0) -> Sample:
    return Sample(
        {
            "process_cpu_seconds_total": cpu,
            "process_resident_memory_bytes": 1000.0 + cpu,
            "trio_stomp_pool_wait_seconds_sum": wait,
            "trio_stomp_pool_service_seconds_sum": service,
            f"{LAG}_sum": lag * 0.001,
            f"{LAG}_count": float(lag),
        },
        {LAG: [(0.001, float(lag)), (math.inf, float(lag))]},
    )


def a_tally(latency: float = 0.1, *, late: float = 0.0, session: float = 0.0, count: int = 10) -> Tally:
    """All answered, each so long after it was sent."""
    schedule = Schedule(begin=100.0, rate=count, duration=1, warm_up=0, clients=2)
    tally = Tally(schedule)
    for k in range(count):
        sent = schedule.due(k) + late
        tally.sent(k, sent)
        tally.answered(k, sent + latency, sent + session)
    tally.close(104.0)
    return tally


def measured(tally: Tally | None = None, **changes: Any) -> Measured:
    """Two seconds between the readings, and 10 answers."""
    whole = Measured(
        tally=a_tally() if tally is None else tally,
        first=Reading(at=100.0, answers=5, served=5, sample=a_sample(lag=10)),
        last=Reading(
            at=102.0, answers=15, served=15, sample=a_sample(cpu=0.5, wait=0.2, service=0.6, lag=30)
        ),
        cpu=0.2,
        lag_p99=0.001,
    )
    return attrs.evolve(whole, **changes)


def parts(split: Split | None) -> tuple[float | None, ...]:
    assert split is not None
    return split.late, split.session, split.pool, split.call, split.rest


def test_the_parts_add_up_to_the_mean_latency() -> None:
    run = make_run(measured(a_tally(0.1, late=0.02, session=0.01)), label="x")
    assert parts(run.split) == pytest.approx((0.02, 0.01, 0.02, 0.06, 0.01))
    assert run.corrected.mean == pytest.approx(0.12)


@pytest.mark.parametrize(
    ("latency", "session", "expected"),
    [
        (0.085, 0.01, (0.0, 0.005, 0.02, 0.06, 0.0)),
        (0.07, 0.01, (0.0, 0.0, 0.01, 0.06, 0.0)),
        (0.05, 0.01, (0.0, 0.0, 0.0, 0.05, 0.0)),
    ],
    ids=["session", "pool", "call"],
)
def test_what_the_servers_means_are_too_much_is_taken_from_the_coarsest_part(
    latency: float, session: float, expected: tuple[float, ...]
) -> None:
    run = make_run(measured(a_tally(latency, session=session)), label="x")
    assert parts(run.split) == pytest.approx(expected, abs=1e-9)
    assert sum(expected) == pytest.approx(run.corrected.mean)


@pytest.mark.parametrize("missing", ["first", "last"])
def test_without_the_servers_numbers_the_rest_holds_pool_and_call(missing: str) -> None:
    run = make_run(measured(a_tally(0.1, session=0.01), **{missing: None}), label="x")
    assert parts(run.split) == pytest.approx((0.0, 0.01, None, None, 0.09))
    assert run.server is None


def test_a_session_wait_beyond_the_mean_leaves_no_rest() -> None:
    run = make_run(measured(a_tally(0.1, session=0.15), first=None), label="x")
    assert parts(run.split) == pytest.approx((0.0, 0.1, None, None, 0.0))


def test_a_server_without_pools_has_no_pool_and_call() -> None:
    sample = Sample({"trio_stomp_pool_wait_seconds_sum": 1.0}, {})
    run = make_run(
        measured(
            first=Reading(at=100.0, answers=0, served=0, sample=sample),
            last=Reading(at=101.0, answers=9, served=9, sample=sample),
        ),
        label="x",
    )
    assert parts(run.split)[2:4] == (None, None)
    assert run.server is None


def test_when_nothing_was_served_meanwhile_pool_and_call_are_not_known() -> None:
    last = Reading(at=102.0, answers=5, served=5, sample=a_sample(cpu=0.5, service=1.0, lag=30))
    run = make_run(measured(last=last), label="x")
    assert parts(run.split)[2:4] == (None, None)
    assert run.server is not None
    assert run.server.cpu_per_message == 0.0


def test_nothing_answered_has_no_split() -> None:
    tally = Tally(Schedule(begin=100.0, rate=1, duration=1, warm_up=0, clients=1))
    tally.sent(0, 100.0)
    tally.close(104.0)
    run = make_run(measured(tally), label="x")
    assert run.split is None
    assert (run.sent, run.unanswered, run.raw.count, run.corrected.max) == (1, 1, 0, 4.0)


def test_the_servers_use_is_per_second_and_per_message() -> None:
    server = make_run(measured(), label="x").server
    assert server is not None
    assert server.cpu == pytest.approx(0.25)
    assert server.cpu_per_message == pytest.approx(0.05)
    assert server.rss == 1000
    assert server.loop_lag_mean == pytest.approx(0.001)
    assert server.loop_lag_p99 == pytest.approx(0.00099)


def test_an_unmeasured_event_loop_leaves_the_servers_use_unknown() -> None:
    last = Reading(at=102.0, answers=15, served=15, sample=a_sample(cpu=0.5, lag=10))
    assert make_run(measured(last=last), label="x").server is None


def test_readings_at_one_moment_say_nothing() -> None:
    whole = measured()
    assert make_run(attrs.evolve(whole, first=whole.last), label="x").server is None


@pytest.mark.parametrize(
    ("late", "latency", "cpu", "lag", "is_bottleneck"),
    [
        (0.02, 0.05, 0.9, 0.001, True),
        (0.02, 0.05, 0.2, 0.02, True),
        (0.02, 0.05, 0.2, 0.001, False),  # a full connection held it up
        (0.004, 0.001, 1.0, 0.02, False),  # what the timers are exact to
        (0.02, 2.0, 1.0, 0.02, False),  # nothing beside the latency
    ],
)
def test_the_generator_is_the_bottleneck_when_it_is_late_by_its_own_doing(
    late: float, latency: float, cpu: float, lag: float, is_bottleneck: bool
) -> None:
    run = make_run(measured(a_tally(latency, late=late), cpu=cpu, lag_p99=lag), label="x")
    assert run.generator.late_p99 == pytest.approx(late)
    assert run.generator.is_bottleneck is is_bottleneck


def test_counts_and_names_are_taken_over() -> None:
    schedule = Schedule(begin=100.0, rate=10, duration=1, warm_up=0, clients=4)
    tally = Tally(schedule)
    for k in range(9):
        tally.sent(k, schedule.due(k))
    for k in range(4):
        tally.answered(k, 100.9, -math.inf)
    tally.refused(4, 100.9, "overloaded", "no room")
    tally.refused(5, 100.9, "timeout", "")
    tally.lost(6)
    tally.lost(7)
    tally.duplicate(3)
    tally.disconnect("gone")
    tally.close(104.0)
    run = make_run(measured(tally), label="a=2", pool="a", threads=2)
    assert (run.label, run.pool, run.threads) == ("a=2", "a", 2)
    assert (run.rate, run.duration, run.clients, run.achieved) == (10, 1, 4, 4.0)
    assert run.sent == 9 == run.answered + run.rejected + run.errors + run.lost + run.unanswered
    assert (run.answered, run.rejected, run.errors, run.lost, run.unanswered) == (4, 1, 1, 2, 1)
    assert (run.duplicates, run.disconnects, run.corrected.count, run.raw.count) == (3, 1, 9, 4)
    assert dict(run.failures)["overloaded: no room"] == 1
    assert len(run.timeline) == 10
