"""The soak test's conclusions: each check finds what it is there for."""

from __future__ import annotations

import attrs
import pytest

from bench.soak_checks import MIB, Latencies, Outcome, Queue, Sample, Stream, slope


def sample(at: float, **values: int) -> Sample:
    known = {"resident": 100 * MIB, "tasks": 14, "sessions": 0, "descriptors": 10}
    return Sample(at=at, cpu=at / 4, **{**known, **values})


def outcome(**values: object) -> Outcome:
    good = Outcome(
        seconds=100.0,
        samples=[sample(float(at)) for at in range(100)],
        before=sample(0.0),
        after=sample(110.0),
        drift=(0.010, 0.014),
        lateness=(0.001, 0.004),
        lost=0,
        twice=0,
        early=0,
        unmarked=0,
        internal_errors=0,
        leftovers={},
        surprises=[],
        log="a warning\n",
    )
    return attrs.evolve(good, **values)


def test_a_good_run_has_no_fault() -> None:
    assert [*outcome().faults(), *outcome().doubts()] == []


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"lost": 1}, "1 messages lost"),
        ({"twice": 2}, "2 messages that came twice or out of order"),
        ({"early": 3}, "3 messages of aborted transactions"),
        ({"unmarked": 4}, "4 messages given out again without"),
        ({"internal_errors": 5}, "5 internal errors"),
        ({"after": sample(110.0, tasks=15)}, "15 tasks at the end, 14 at the start"),
        ({"after": sample(110.0, descriptors=11)}, "11 descriptors at the end"),
        ({"leftovers": {"trio_stomp_subscriptions": 1}}, "trio_stomp_subscriptions is 1 at the end"),
        ({"surprises": ["consumer 1: closed"]}, "consumer 1: closed"),
        ({"log": "Traceback (most recent call last):"}, "traceback"),
        ({"drift": (0.010, 0.016)}, "p99 went from 10.0 to 16.0 ms"),
        (
            {"samples": [sample(float(at), resident=100 * MIB + at * 80 * 1024) for at in range(100)]},
            "memory grew by 5.8 MiB after the warm-up, allowed are 5.2",
        ),
    ],
)
def test_what_is_wrong_is_told(values: dict[str, object], fault: str) -> None:
    (found,) = outcome(**values).faults()
    assert fault in found


def test_memory_that_finds_its_level_during_the_warm_up_is_flat() -> None:
    rising = [sample(float(at), resident=min(50 + 2 * at, 100) * MIB) for at in range(100)]
    assert list(outcome(samples=rising).faults()) == []


def test_drift_of_the_machine_is_not_the_servers() -> None:
    excused = outcome(drift=(0.010, 0.029), lateness=(0.010, 0.020))
    assert list(excused.faults()) == []
    (doubt,) = excused.doubts()
    assert "drifted 2.90 times, above 1.5" in doubt
    (fault,) = outcome(drift=(0.010, 0.031), lateness=(0.010, 0.020)).faults()
    assert "allowed is 3.00 times" in fault


def test_one_leap_is_no_slope() -> None:
    assert slope([(float(at), 100.0 if at == 50 else 1.0) for at in range(100)]) == 0.0


def test_drift_below_the_floor_is_none() -> None:
    assert list(outcome(drift=(0.001, 0.005)).faults()) == []


def test_stream_counts_what_is_left_out_what_comes_again_and_what_should_not_come() -> None:
    stream = Stream("/topic/x")
    for number in (1, 2, 4, 4, 3, 0):
        stream.see("x", number)
    assert (stream.lost, stream.twice, stream.early) == (1, 2, 1)
    assert stream.missing({"x": 6}) == 3  # 3 was left out, 5 and 6 have not come


def test_queue_message_may_come_again_until_it_is_settled() -> None:
    queue = Queue(confirmed=3)
    queue.see(1, is_redelivered=False)
    queue.see(1, is_redelivered=True)
    assert (queue.again, queue.twice, queue.unmarked, queue.missing) == (1, 0, 0, 2)
    queue.settled.add(1)
    queue.see(1, is_redelivered=False)
    assert (queue.twice, queue.unmarked) == (1, 1)


def test_a_thirds_p99_is_the_median_of_its_windows() -> None:
    latencies = Latencies()
    for window, seconds in enumerate((0.01, 0.9, 0.02, 1.0, 0.03, 1.0, 0.04, 0.05, 0.06)):
        latencies.record(5.0 * window + 1, seconds)
    assert latencies.thirds() == (0.02, 0.05)
