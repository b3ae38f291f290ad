"""Axes: round ticks, and values on pixels."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from trio_stomp.stress.scale import Axis, Scale, log_ticks, nice_ticks, rounded_outwards


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0, 10, 6, (0, 2, 4, 6, 8, 10)),
        (0, 1163, 6, (0, 200, 400, 600, 800, 1000)),
        (0, 0.035, 5, (0, 0.01, 0.02, 0.03)),
        (3, 17, 4, (5, 10, 15)),
        (-4, 4, 5, (-4, -2, 0, 2, 4)),
        (0, 0.3, 4, (0, 0.1, 0.2, 0.3)),
        (7, 7, 5, (7,)),
    ],
)
def test_linear_ticks_are_round(low: float, high: float, most: int, ticks: tuple[float, ...]) -> None:
    assert nice_ticks(low, high, most) == ticks


def test_linear_ticks_are_few_within_the_range_and_evenly_spaced() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        low = chance.uniform(-1, 1) * 10 ** chance.uniform(-6, 6)
        high = low + 10 ** chance.uniform(-3, 6)
        most = chance.randint(2, 12)
        ticks = nice_ticks(low, high, most)
        slack = (high - low) * 1e-6
        assert 1 <= len(ticks) <= most
        assert low - slack <= ticks[0]
        assert ticks[-1] <= high + slack
        pairs = itertools.pairwise(ticks)
        assert len({round((after - before) / (high - low), 6) for before, after in pairs}) <= 1


@pytest.mark.parametrize(
    ("low", "high", "most", "base", "ticks"),
    [
        (1, 10, 5, 10, (1, 2, 5, 10)),
        (0.01, 1, 5, 10, (0.01, 0.03, 0.1, 0.3, 1)),
        (0.01, 100, 5, 10, (0.01, 0.1, 1, 10, 100)),
        (0.001, 1000, 4, 10, (0.001, 0.1, 10, 1000)),
        (2, 64, 8, 2, (2, 4, 8, 16, 32, 64)),
        (3, 20, 8, 2, (4, 8, 16)),
        (2, 64, 3, 2, (2, 8, 32)),
    ],
)
def test_logarithmic_ticks(low: float, high: float, most: int, base: int, ticks: tuple[float, ...]) -> None:
    assert log_ticks(low, high, most, base) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "below", "above"),
    [(1, 1, 1), (1.5, 1, 2), (3, 2, 5), (7, 5, 10), (0.03, 0.02, 0.05), (99, 50, 100)],
)
def test_bounds_are_rounded_outwards(value: float, below: float, above: float) -> None:
    assert rounded_outwards(value, up=False) == pytest.approx(below)
    assert rounded_outwards(value, up=True) == pytest.approx(above)


@pytest.mark.parametrize(
    ("kind", "low", "high", "ticks"),
    [("log2", 23, 25, (23, 24, 25)), ("log10", 22, 28, (22, 24, 26, 28)), ("log2", 3, 9, (4, 8))],
)
def test_short_logarithmic_axis_has_ticks_too(
    kind: str, low: float, high: float, ticks: tuple[float, ...]
) -> None:
    assert Scale.over(Axis(title="x", scale=kind), [low, high], 0, 100).ticks(4) == ticks


def test_values_lie_between_the_ends() -> None:
    linear = Scale.over(Axis(title="x"), [10, 20], 100, 200)
    assert [linear.at(value) for value in (10, 15, 20)] == [100, 150, 200]
    log = Scale.over(Axis(title="x", scale="log2"), [2, 32], 100, 200)
    assert [log.at(value) for value in (2, 8, 32)] == pytest.approx([100, 150, 200])


def test_axis_reaches_what_it_is_told_to() -> None:
    scale = Scale.over(Axis(title="x", low=0, high=20), [5, 10], 0, 100)
    assert (scale.low, scale.high) == (0, 20)


@pytest.mark.parametrize(
    ("kind", "values", "low", "high"),
    [
        ("linear", [], 0, 1),
        ("linear", [0], 0, 1),
        ("linear", [5], 0, 5),
        ("linear", [-5], -5, 1),
        ("log10", [], 1, 10),
        ("log10", [8], 4, 16),
        ("log10", [0, -1, 8, math.inf, math.nan], 4, 16),
    ],
)
def test_axis_of_few_values_still_has_a_length(
    kind: str, values: list[float], low: float, high: float
) -> None:
    scale = Scale.over(Axis(title="x", scale=kind), values, 0, 100)
    assert (scale.low, scale.high) == (low, high)
    assert scale.ticks(5)


@pytest.mark.parametrize(
    ("kind", "values", "low", "high"),
    [
        ("linear", [0, 1163], 0, 1250),
        ("linear", [3, 9], 2, 10),
        ("linear", [0, 0.034], 0, 0.04),
        ("log10", [0.021, 3.1], 0.01, 5),
    ],
)
def test_axis_ends_at_round_numbers(kind: str, values: list[float], low: float, high: float) -> None:
    scale = Scale.over(Axis(title="x", scale=kind), values, 0, 100).rounded(5)
    assert (scale.low, scale.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(("kind", "shown"), [("linear", (True, True, True)), ("log10", (False, False, True))])
def test_logarithmic_axis_shows_only_what_is_above_zero(kind: str, shown: tuple[bool, ...]) -> None:
    scale = Scale.over(Axis(title="x", scale=kind), [1, 2], 0, 100)
    assert tuple(scale.can_show(value) for value in (-1, 0, 1)) == shown
    assert not any(scale.can_show(value) for value in (None, math.nan, math.inf))
