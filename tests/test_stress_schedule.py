"""The schedule: when each request is due, and whose it is."""

from __future__ import annotations

import itertools

import pytest

from trio_stomp.stress.schedule import Schedule


def a_schedule(rate: float = 10, duration: float = 1, warm_up: float = 0, clients: int = 3) -> Schedule:
    return Schedule(begin=100.0, rate=rate, duration=duration, warm_up=warm_up, clients=clients)


def test_requests_are_evenly_spaced_from_the_start() -> None:
    schedule = a_schedule()
    assert [schedule.due(k) for k in (-1, 0, 1, 9)] == [99.9, 100.0, 100.1, 100.9]
    assert schedule.end == 101.0


def test_each_client_has_its_own_evenly_spaced_share() -> None:
    schedule = a_schedule()
    assert [list(schedule.of(client)) for client in range(3)] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize("warm_up", [0, 0.1, 0.35, 0.4, 1])
@pytest.mark.parametrize("clients", [1, 3, 7, 40])
def test_every_request_belongs_to_exactly_one_client(clients: int, warm_up: float) -> None:
    schedule = a_schedule(warm_up=warm_up, clients=clients)
    dealt = sorted(itertools.chain.from_iterable(schedule.of(client) for client in range(clients)))
    assert dealt == list(range(dealt[0], schedule.count))
    assert dealt[0] == -int(warm_up * 10)
    assert schedule.due(dealt[0]) >= schedule.begin - warm_up


@pytest.mark.parametrize(
    ("rate", "duration", "count"), [(10, 1, 10), (0.1, 30, 3), (700, 4, 2800), (3, 0.5, 2), (1 / 3, 30, 10)]
)
def test_the_measured_time_holds_rate_times_duration_requests(
    rate: float, duration: float, count: int
) -> None:
    assert a_schedule(rate, duration).count == count
