"""The tally: every request ends in one way, and the numbers are exact."""

from __future__ import annotations

import math

import pytest

from trio_stomp.stress.schedule import Schedule
from trio_stomp.stress.tally import KINDS, OTHERS, Tally, summarize


def a_tally(count: int = 10, *, duration: float = 1.0, warm_up: float = 1.0) -> Tally:
    """A tally of so many requests in a second that begins at 100."""
    schedule = Schedule(begin=100.0, rate=count / duration, duration=duration, warm_up=warm_up, clients=1)
    return Tally(schedule)


def all_sent(tally: Tally, late: float = 0.0) -> Tally:
    for k in range(tally.schedule.count):
        tally.sent(k, tally.schedule.due(k) + late)
    return tally


def outcomes(tally: Tally) -> dict[str, int]:
    return {
        "answered": tally.count_answered,
        "rejected": tally.count_rejected,
        "errors": tally.count_errors,
        "lost": tally.count_lost,
        "open": tally.count_open,
    }


# How each request ends


def test_every_request_that_was_sent_ends_in_exactly_one_way() -> None:
    tally = a_tally(10)
    for k in range(6):  # four were never sent
        tally.sent(k, tally.schedule.due(k))
    tally.answered(0, 100.5, -math.inf)
    tally.answered(1, 100.5, 100.5)
    tally.refused(2, 100.5, "overloaded", "no room")
    tally.refused(3, 100.5, "timeout", "too long")
    tally.lost(4)
    tally.close(103.0)
    assert outcomes(tally) == {"answered": 2, "rejected": 1, "errors": 1, "lost": 1, "open": 1}
    assert tally.count_sent == 6


def test_the_first_end_counts() -> None:
    tally = all_sent(a_tally())
    tally.answered(0, 100.1, -math.inf)
    tally.refused(0, 100.2, "timeout", "")
    tally.lost(0)
    assert outcomes(tally) == {"answered": 1, "rejected": 0, "errors": 0, "lost": 0, "open": 9}
    assert tally.failures == ()


def test_once_closed_nothing_changes() -> None:
    tally = all_sent(a_tally())
    tally.close(103.0)
    before = (outcomes(tally), tally.failures)
    tally.sent(1, 200.0)
    tally.unsent(1)
    tally.answered(0, 103.1, -math.inf)
    tally.refused(1, 103.1, "timeout", "")
    tally.lost(2, "why")
    tally.duplicate()
    tally.disconnect("gone")
    assert (outcomes(tally), tally.failures) == before
    assert (tally.duplicates, tally.disconnects, tally.answers, tally.served) == (0, 0, 0, 0)
    assert max(tally.late()) == 0.0


def test_the_warm_up_is_not_counted() -> None:
    tally = a_tally()
    for k in (-1, -2, -3):
        tally.sent(k, 99.0)
    tally.refused(-1, 99.5, "overloaded", "no room")
    tally.lost(-2, "why")
    tally.unsent(-3)
    assert tally.count_sent == 0
    assert outcomes(tally) == {"answered": 0, "rejected": 0, "errors": 0, "lost": 0, "open": 0}
    assert tally.failures == ()


def test_it_tells_once_when_all_have_ended() -> None:
    told = []
    schedule = Schedule(begin=0.0, rate=4, duration=1, warm_up=1, clients=1)
    tally = Tally(schedule, lambda: told.append(1))
    for k in (-1, 0, 1, 2):
        tally.sent(k, 0.0)
    tally.answered(-1, 0.0, 0.0)
    tally.answered(0, 0.0, 0.0)
    tally.refused(1, 0.0, "timeout", "")
    tally.lost(2)
    assert told == []
    tally.unsent(3)
    tally.lost(2)
    assert told == [1]


# Answers by when they came


def test_what_arrives_in_the_measured_time_is_achieved_whoever_asked() -> None:
    tally = all_sent(a_tally())
    tally.answered(-1, 99.9, -math.inf)  # the warm-up's, before
    tally.answered(-1, 100.0, -math.inf)  # the warm-up's, within
    tally.answered(0, 100.99, -math.inf)
    tally.answered(1, 101.0, -math.inf)  # after it
    assert tally.arrived == 2
    assert tally.answers == tally.served == 4


def test_a_failed_request_was_served_and_a_rejected_one_was_not() -> None:
    tally = all_sent(a_tally())
    tally.refused(0, 100.5, "timeout", "")
    tally.refused(1, 100.5, "overloaded", "")
    tally.refused(-1, 100.5, "timeout", "")
    assert (tally.answers, tally.served, tally.arrived) == (0, 2, 0)


# Latencies


def test_latency_counts_from_when_it_was_due_and_raw_from_when_it_was_sent() -> None:
    tally = a_tally(10)
    tally.sent(0, 100.0)
    tally.sent(1, 100.6)  # half a second late
    tally.answered(0, 100.25, -math.inf)
    tally.answered(1, 100.7, -math.inf)
    tally.close(103.0)
    assert list(tally.corrected()) == pytest.approx([0.25, 0.6])
    assert list(tally.raw()) == pytest.approx([0.25, 0.1])
    assert list(tally.late()) == pytest.approx([0.0, 0.5])
    assert tally.late_of_answered() == pytest.approx(0.5)


def test_errors_count_with_their_time_and_silent_ones_with_their_age() -> None:
    tally = a_tally(10)
    for k in range(4):
        tally.sent(k, tally.schedule.due(k))
    tally.refused(0, 100.2, "timeout", "")
    tally.refused(1, 100.15, "overloaded", "")
    tally.lost(2)
    tally.close(103.0)
    assert list(tally.corrected()) == pytest.approx([0.2, 0.05, 2.8, 2.7])
    assert list(tally.raw()) == []


def test_a_send_that_took_long_is_put_right() -> None:
    tally = a_tally()
    tally.sent(0, 100.0)
    tally.sent(0, 100.4)
    tally.close(101.0)
    assert tally.count_sent == 1
    assert list(tally.late()) == pytest.approx([0.4])


def test_session_wait_is_the_time_that_the_answer_before_came_after_the_send() -> None:
    tally = all_sent(a_tally())
    tally.answered(0, 100.3, -math.inf)
    tally.answered(1, 100.4, 100.3)  # sent at 100.1
    tally.answered(5, 100.6, 100.4)  # sent at 100.5
    assert tally.session_wait == pytest.approx(0.2)


def test_numbers_are_asked_for_at_the_end_only() -> None:
    with pytest.raises(AssertionError, match="not closed"):
        all_sent(a_tally()).corrected()


# Percentiles


@pytest.mark.parametrize(
    ("count", "p50", "p90", "p99", "p999"),
    [
        (1, 1, 1, 1, 1),
        (2, 1, 2, 2, 2),
        (10, 5, 9, 10, 10),
        (100, 50, 90, 99, 100),
        (1000, 500, 900, 990, 999),
    ],
)
def test_percentiles_are_of_the_nearest_rank(count: int, p50: int, p90: int, p99: int, p999: int) -> None:
    whole = summarize(float(value) for value in range(count, 0, -1))
    assert (whole.count, whole.p50, whole.p90, whole.p99, whole.p999, whole.max) == (
        *(count, p50, p90, p99, p999, count),
    )
    assert whole.mean == pytest.approx((count + 1) / 2)


def test_nothing_has_no_percentiles() -> None:
    whole = summarize([])
    assert (whole.count, whole.mean, whole.p50, whole.max) == (0, 0.0, 0.0, 0.0)


# The timeline


def test_a_short_run_has_ten_moments_and_a_long_one_a_moment_a_second() -> None:
    for duration, moments, seconds in (
        (1.0, 10, 0.1),
        (10.0, 10, 1.0),
        (20.0, 20, 1.0),
        (12.5, 13, 12.5 / 13),
    ):
        tally = a_tally(100, duration=duration)
        tally.close(0.0)
        timeline = tally.timeline()
        assert len(timeline) == moments
        assert timeline[0].seconds == pytest.approx(seconds)
        assert timeline[-1].at + seconds == pytest.approx(duration)


def test_requests_count_when_due_and_answers_when_they_come() -> None:
    tally = all_sent(a_tally(20))
    tally.answered(0, 100.95, -math.inf)
    tally.answered(1, 100.15, -math.inf)
    for k in range(2, 20):
        tally.refused(k, tally.schedule.due(k), "timeout", "")
    tally.close(103.0)
    timeline = tally.timeline()
    assert [moment.sent for moment in timeline] == [2] * 10
    assert [moment.answered for moment in timeline] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert (timeline[0].p50, timeline[0].p99) == pytest.approx((0.1, 0.95))


def test_a_moment_without_requests_is_empty() -> None:
    tally = a_tally(2)
    tally.sent(0, 100.0)
    tally.answered(0, 100.05, -math.inf)
    tally.close(103.0)
    assert [moment.sent for moment in tally.timeline()] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert tally.timeline()[5].p99 == 0.0


# Texts of failures


def test_failures_are_counted_the_most_frequent_first() -> None:
    tally = all_sent(a_tally())
    tally.refused(0, 100.0, "timeout", "too long")
    tally.refused(1, 100.0, "overloaded", "no room")
    tally.refused(2, 100.0, "overloaded", "no room")
    tally.refused(3, 100.0, "error", "")
    tally.lost(4, "RECEIPT without a MESSAGE")
    tally.disconnect("connection lost")
    assert tally.failures == (
        ("overloaded: no room", 2),
        ("timeout: too long", 1),
        ("error", 1),
        ("RECEIPT without a MESSAGE", 1),
        ("connection lost", 1),
    )
    assert tally.disconnects == 1


def test_texts_that_all_differ_are_told_apart_only_so_far() -> None:
    tally = a_tally()
    for number in range(KINDS + 20):
        tally.failure(f"text {number} {'x' * 1000}")
    assert dict(tally.failures)[OTHERS] == 20
    assert len(tally.failures) == KINDS + 1
    assert max(len(text) for text, _ in tally.failures) == 200


def test_requests_that_were_not_sent_are_told() -> None:
    tally = a_tally(10)
    tally.sent(0, 100.0)
    for k in range(1, 4):
        tally.unsent(k)
    tally.close(103.0)
    assert tally.count_sent == 1
    assert tally.failures == (
        ("not sent: the connection took no more bytes", 6),
        ("not sent: the connection had ended", 3),
    )
