"""What is learnt from runs: the size, the next one to measure, the breaking point, doubts."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from stress_values import NOTHING, Service, a_latency, a_report, a_run, a_server, a_split

from trio_stomp.stress.advice import (
    breaking_point,
    judged_runs,
    littles_law,
    next_size,
    recommend,
    warnings,
)
from trio_stomp.stress.criteria import parse_criteria
from trio_stomp.stress.results import GeneratorUse, Recommendation, Run

TARGET = parse_criteria("p99<250ms")
SLOW = a_latency(1.0)
LIST = (2, 4, 8, 16, 32, 64)


def found(runs: Sequence[Run], goal: str = "") -> Recommendation:
    recommendation = recommend(runs, parse_criteria(goal) if goal else ())
    assert recommendation is not None
    return recommendation


def curve(*achieved: tuple[int, float], **changes: Any) -> list[Run]:
    """Runs of these (size, throughput), all offered more than they can carry."""
    return [a_run(threads, rate=5000.0, achieved=rate, **changes) for threads, rate in achieved]


def swept(service: Service, rate: float, listed: Sequence[int] = LIST) -> list[Run]:
    """Measure the list, then what the advice asks for."""
    runs = [a_run(n, rate=rate, achieved=service.achieved(n, rate)) for n in listed]
    while (threads := next_size(runs, (), listed)) is not None:
        assert threads not in {run.threads for run in runs}
        runs.append(a_run(threads, rate=rate, achieved=service.achieved(threads, rate)))
    return runs


@pytest.mark.parametrize("decline", [0.0, 0.05])
@pytest.mark.parametrize("knee", range(12, 49))
def test_recommended_size_is_within_a_quarter_of_the_knee(knee: int, decline: float) -> None:
    for seed in range(50):
        service = Service(knee, decline=decline, seed=seed)
        runs = swept(service, 1.3 * service.capacity)
        assert 0.75 * knee <= found(runs).threads <= 1.25 * knee, f"seed {seed}"
        assert len(runs) <= len(LIST) + 6


@pytest.mark.parametrize("listed", [(4, 16), (4, 16, 64), (16, 32, 64), (32, 64)])
def test_knee_is_found_outside_of_a_short_list_too(listed: tuple[int, ...]) -> None:
    for seed in range(50):
        service = Service(24, decline=0.02, seed=seed)
        assert 18 <= found(swept(service, 1.3 * service.capacity, listed)).threads <= 30, f"seed {seed}"


def test_one_run_that_something_else_disturbed_does_not_mislead() -> None:
    for disturbed in (8, 16, 23, 25, 32, 64):
        service = Service(24, decline=0.0, noise=0.0)
        runs: list[Run] = []
        while (
            threads := LIST[len(runs)] if len(runs) < len(LIST) else next_size(runs, (), LIST)
        ) is not None:
            achieved = service.achieved(threads, 1500.0) * (0.7 if threads == disturbed else 1.0)
            runs.append(a_run(threads, rate=1500.0, achieved=achieved))
        assert 18 <= found(runs).threads <= 30, disturbed


def test_smallest_within_five_percent_of_the_best_is_recommended() -> None:
    recommendation = found(curve((8, 400.0), (16, 796.0), (32, 800.0), (64, 790.0)))
    assert recommendation.threads == 16
    assert recommendation.reason == "the smallest within 5 % of the best throughput (795/s)."
    assert recommendation.meets_target is None


@pytest.mark.parametrize("pool", ["payments", "external_api", "slow.calls", 'a "b"'])
def test_toml_sets_the_pools_threads(pool: str) -> None:
    runs = [attrs.evolve(run, pool=pool) for run in curve((8, 400.0), (16, 800.0))]
    assert tomllib.loads(found(runs).toml) == {"pools": {pool: {"threads": 16}}}


def test_toml_is_two_lines_to_paste() -> None:
    assert found(curve((8, 400.0), (16, 800.0))).toml == "[pools.payments]\nthreads = 16"


def test_sizes_that_miss_the_target_are_passed_over() -> None:
    runs = [
        *curve((16, 780.0), corrected=SLOW),
        *curve((8, 400.0), (32, 800.0), (64, 790.0)),
    ]
    recommendation = found(runs, "p99<250ms")
    assert (recommendation.threads, recommendation.meets_target) == (32, True)
    assert recommendation.reason == (
        "the smallest within 5 % of the best throughput (790/s) that meets p99<250ms."
    )


def test_a_slower_size_that_meets_the_target_is_better_than_a_fast_one_that_does_not() -> None:
    runs = [*curve((8, 400.0), (16, 650.0)), *curve((32, 800.0), (64, 790.0), corrected=SLOW)]
    recommendation = found(runs, "p99<250ms")
    assert (recommendation.threads, recommendation.meets_target) == (16, True)
    assert recommendation.reason == (
        "the most throughput that meets p99<250ms: 650/s, 81.8 % of the best, which 32 threads reach, but "
        "miss the target (p99 1.90 s)."
    )


def test_when_no_size_meets_the_target_the_smallest_fast_one_is_recommended_and_why_is_said() -> None:
    runs = curve((8, 400.0), (16, 790.0), (32, 800.0), corrected=SLOW)
    recommendation = found(runs, "p99<250ms,lost<1")
    assert (recommendation.threads, recommendation.meets_target) == (16, False)
    assert recommendation.reason.startswith(
        "the smallest within 5 % of the best throughput (795/s); "
        "no size meets p99<250ms,lost<1 (here p99 1.90 s)"
    )
    assert "5,000/s is more than any size carries" in recommendation.reason


def test_target_missed_at_a_rate_that_is_carried_is_not_put_down_to_the_rate() -> None:
    runs = [a_run(threads, rate=500.0, corrected=SLOW) for threads in (8, 16)]
    reason = found(runs, "p99<250ms").reason
    assert "no size meets p99<250ms (here p99 1.90 s); it carries the offered rate" in reason


def test_when_the_offered_rate_was_the_limit_the_smallest_that_carries_it_is_right() -> None:
    runs = [*curve((4, 200.0), (8, 400.0)), *(a_run(n, rate=500.0) for n in (16, 32, 64))]
    recommendation = found(runs)
    assert recommendation.threads == 16
    assert recommendation.reason == (
        "the smallest within 5 % of the best throughput (500/s); it carries the offered rate with 62.5 % of "
        "its threads busy, so the test did not find the service's limit: offer more than 500/s to find it."
    )


def test_threads_in_use_are_left_out_where_they_are_not_known() -> None:
    runs = [a_run(threads, rate=500.0, split=None) for threads in (16, 32)]
    assert "it carries the offered rate, so the test did not find" in found(runs).reason


def test_a_list_that_ends_below_the_knee_is_said() -> None:
    assert found(curve((8, 400.0), (16, 800.0))).reason.endswith(
        "; it is the largest that was measured and throughput still grew: try larger ones."
    )


def test_a_list_that_begins_above_the_knee_is_said() -> None:
    assert found(curve((32, 800.0), (64, 800.0))).reason.endswith(
        "; it is the smallest that was measured: a smaller one may do as well."
    )


def test_nothing_is_recommended_without_sizes_or_answers() -> None:
    assert recommend([]) is None
    assert recommend([a_run()]) is None
    assert recommend([a_run(8, achieved=0.0)]) is None


def test_one_size_is_recommended_as_it_is() -> None:
    assert found(curve((8, 400.0))).threads == 8


def test_runs_of_one_size_count_with_their_mean() -> None:
    assert found(curve((8, 700.0), (16, 500.0), (16, 1000.0), (32, 800.0))).threads == 16


def test_gap_below_the_knee_is_bisected_by_the_geometric_mean() -> None:
    assert next_size(curve((8, 400.0), (16, 640.0), (32, 800.0), (64, 800.0))) == 23


def test_run_in_a_dent_of_the_curve_is_not_believed() -> None:
    runs = curve((8, 400.0), (16, 800.0), (32, 840.0), (64, 1200.0))
    assert next_size(runs) == 33  # 32, the middle of 16 and 64, has been measured
    assert next_size(curve((8, 400.0), (9, 300.0), (10, 800.0))) is None


@pytest.mark.parametrize(("below", "knee"), [(30, 32), (2, 3), (1, 2)])
def test_neighbours_need_no_more_runs(below: int, knee: int) -> None:
    assert next_size(curve((below, 600.0), (knee, 800.0), (64, 800.0))) is None


def test_bisected_size_lies_between_the_two() -> None:
    assert next_size(curve((2, 600.0), (4, 800.0), (8, 800.0))) == 3


def test_target_moves_the_bisection() -> None:
    runs = [*curve((8, 400.0), (16, 790.0), corrected=SLOW), *curve((32, 800.0))]
    assert next_size(runs) == 11
    assert next_size(runs, TARGET) == 23


def test_largest_size_that_still_is_the_limit_is_doubled_at_most_twice() -> None:
    runs = curve((8, 400.0), (16, 800.0))
    assert next_size(runs, (), (8, 16)) == 32
    runs += curve((32, 1600.0))
    assert next_size(runs, (), (8, 16)) == 64
    runs += curve((64, 3200.0))
    assert next_size(runs, (), (8, 16)) == 45  # now only what lies in between


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param(curve((8, 400.0), (16, 410.0)), id="it grows no more"),
        pytest.param(curve((8, 400.0), (16, 800.0), split=a_split(0.001)), id="its threads were idle"),
        pytest.param([*curve((8, 400.0)), a_run(16, rate=800.0)], id="it carried the rate"),
    ],
)
def test_largest_size_is_not_doubled_when_it_was_not_the_limit(runs: list[Run]) -> None:
    assert next_size(runs, (), (8, 16)) in (4, 11)


def test_threads_that_may_be_busy_count_as_the_limit() -> None:
    assert next_size(curve((8, 400.0), (16, 800.0), split=None), (), (8, 16)) == 32


def test_no_size_beyond_what_a_pool_may_have() -> None:
    runs = curve((4000, 2000.0), (8000, 4000.0), split=None)
    assert next_size(runs, (), (4000, 8000)) == 10_000
    assert next_size([*runs, *curve((10_000, 4700.0), split=None)], (), (4000, 8000)) is None


def test_smallest_size_that_is_good_is_halved_at_most_twice() -> None:
    runs = curve((32, 800.0), (64, 800.0))
    assert next_size(runs, (), (32, 64)) == 16
    runs += curve((16, 800.0))
    assert next_size(runs, (), (32, 64)) == 8
    runs += curve((8, 800.0))
    assert next_size(runs, (), (32, 64)) is None


def test_there_is_no_size_below_one() -> None:
    assert next_size(curve((1, 800.0), (2, 800.0)), (), (1, 2)) is None


def test_sizes_outside_of_the_list_are_measured_only_for_a_list() -> None:
    runs = curve((8, 400.0), (16, 800.0))
    assert next_size(runs) == 11
    assert next_size(curve((8, 400.0)), (), (8,)) is None
    assert next_size([]) is None
    assert next_size(curve((8, 0.0), (16, 0.0)), (), (8, 16)) is None


def ramp(*steps: Run) -> tuple[float | None, float | None, str]:
    point = breaking_point(steps, TARGET)
    return point.holds, point.breaks, point.reason


def test_ramp_breaks_at_the_first_rate_that_is_not_carried() -> None:
    steps = [a_run(rate=rate) for rate in (100.0, 200.0)]
    assert ramp(*steps, a_run(rate=300.0, achieved=250.0)) == (
        *(200.0, 300.0),
        "250/s achieved of 300/s (83.3 %)",
    )


def test_ramp_that_nothing_broke() -> None:
    assert ramp(a_run(rate=100.0), a_run(rate=200.0, achieved=190.0)) == (
        *(200.0, None),
        "every rate was carried: ramp further up",
    )
    assert ramp()[:2] == (None, None)


def test_ramp_whose_first_rate_is_too_high() -> None:
    assert ramp(a_run(rate=100.0, achieved=50.0))[:2] == (None, 100.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"rejected": 10, "errors": 20, "lost": 12, "sent": 4000},
            "1.05 % of the requests failed (rejected 10, errors 20, lost 12)",
        ),
        ({"errors": 41, "sent": 4000}, "1.03 % of the requests failed (errors 41)"),
        ({"corrected": SLOW}, "p99 1.90 s, not p99<250ms"),
        (
            {"corrected": SLOW, "generator": GeneratorUse(cpu=1.0, late_p99=0.3, is_bottleneck=True)},
            "p99 1.90 s, not p99<250ms; the generator was too slow itself, the server may carry more",
        ),
    ],
)
def test_ramp_says_what_went_wrong(changes: dict[str, Any], reason: str) -> None:
    assert ramp(a_run(rate=100.0), a_run(rate=200.0, **changes)) == (100.0, 200.0, reason)


def test_ramp_holds_with_one_percent_of_failures() -> None:
    assert ramp(a_run(rate=200.0, errors=40, sent=4000))[1] is None


def test_ramp_that_recovers_is_doubtful() -> None:
    broken = a_run(rate=200.0, achieved=100.0)
    holds, breaks, reason = ramp(
        a_run(rate=100.0), broken, a_run(rate=300.0), a_run(rate=400.0, achieved=1.0)
    )
    assert (holds, breaks) == (100.0, 200.0)
    assert reason.endswith("; 300/s was carried again: something else may have disturbed the test")


def test_what_is_judged_is_what_the_report_stands_for() -> None:
    sweep = a_report(curve((8, 400.0), (16, 790.0), (32, 800.0)))
    assert [run.threads for run in judged_runs(sweep)] == [16]
    steps = [a_run(rate=100.0), a_run(rate=200.0), a_run(rate=300.0, achieved=1.0)]
    assert [run.rate for run in judged_runs(a_report(steps, kind="ramp"))] == [200.0]
    assert [run.rate for run in judged_runs(a_report(steps[2:], kind="ramp"))] == [300.0]
    assert judged_runs(a_report([], kind="ramp")) == ()
    assert judged_runs(a_report(steps, kind="run")) == tuple(steps)


def test_littles_law_is_one_line() -> None:
    run = a_run(16, achieved=640.0, split=a_split(0.0248))
    assert littles_law(run) == "640/s \N{MULTIPLICATION SIGN} 24.8 ms = 15.9 threads busy on average, of 16"
    assert str(littles_law(attrs.evolve(run, threads=None))).endswith("15.9 threads busy on average")
    assert littles_law(attrs.evolve(run, split=None)) is None
    assert littles_law(attrs.evolve(run, split=a_split(None, pool=None))) is None


def test_run_without_trouble_has_no_warnings() -> None:
    assert warnings([a_run(16)]) == ()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"clients": 20},
            "20 clients whose frames take 21.0 ms each, one after the other, carry 952/s, less than the "
            "1,000/s offered: they queue behind themselves; use 21 clients or more.",
        ),
        (
            {"clients": 20, "split": a_split(None, pool=None, rest=0.1)},
            "20 clients whose frames take 100 ms each, one after the other, carry 200/s, less than the "
            "1,000/s offered: they queue behind themselves; use 100 clients or more.",
        ),
        (
            {"generator": GeneratorUse(cpu=0.987, late_p99=0.31, is_bottleneck=True)},
            "the generator was the bottleneck (it used 0.99 cores, sends were late by 310 ms at p99): this "
            "says little about the server.",
        ),
        (
            {"corrected": NOTHING},
            "0 requests are too few for p90, which needs 100: offer more, or for longer.",
        ),
        (
            {"corrected": a_latency(count=999)},
            "999 requests are too few for p99, which needs 1,000: offer more, or for longer.",
        ),
        (
            {"corrected": a_latency(count=9999)},
            "9,999 requests are too few for p99.9, which needs 10,000: offer more, or for longer.",
        ),
        ({"lost": 3}, "3 of 20,000 requests got lost: nobody will answer them."),
        ({"duplicates": 2}, "there were 2 duplicate answers."),
        ({"disconnects": 4}, "the server ended 4 of 200 connections."),
        (
            {"unanswered": 7},
            "7 of 20,000 requests had no answer at the end; they count in the latency with their age.",
        ),
        (
            {"server": a_server(loop_lag_p99=0.051)},
            "the server's event loop was late by 51.0 ms at p99: something blocks it, or its CPU is used up.",
        ),
        (
            {"server": a_server(cpu=0.95)},
            "the server used 0.95 cores: Python runs one thread at a time, so the pool is not "
            "the limit any more.",
        ),
    ],
)
def test_what_makes_the_numbers_doubtful_is_said(changes: dict[str, Any], text: str) -> None:
    assert warnings([a_run(16, **changes)]) == (f"payments=16: {text}",)


@pytest.mark.parametrize(
    "changes",
    [
        {"split": None, "server": None, "clients": 1},
        {"split": a_split(0.0, rest=0.0), "clients": 1},
        {"corrected": a_latency(count=10_000), "server": a_server(cpu=0.9, loop_lag_p99=0.05)},
    ],
)
def test_what_is_not_known_or_just_right_is_not_doubted(changes: dict[str, Any]) -> None:
    assert warnings([a_run(16, **changes)]) == ()


def test_a_warning_that_many_runs_share_is_given_once() -> None:
    runs = [a_run(threads, lost=threads) for threads in (2, 4, 8)]
    assert warnings(runs) == (
        "payments=8: 8 of 20,000 requests got lost: nobody will answer them (and in payments=2, payments=4).",
    )
    (text,) = warnings([a_run(threads, lost=1) for threads in range(1, 8)])
    assert text.endswith("(and in payments=1, payments=2, payments=3, payments=4 and 2 more).")
