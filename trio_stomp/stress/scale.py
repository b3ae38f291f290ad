"""A chart's axes: round ticks, and values mapped onto pixels, linear and logarithmic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs


@attrs.frozen(kw_only=True)
class Axis:
    """What runs along one side.

    Attributes:
        title: with the unit, unless ``show`` gives it.
        scale: "linear", "log10", or "log2" (ticks at powers of two).
        show: makes a tick's text.
        low, high: what it reaches at least; a y axis that is linear begins at 0 unless ``low`` is given.
    """

    title: str
    scale: str = "linear"
    show: Callable[[float], str] = "{:g}".format
    low: float | None = None
    high: float | None = None


def nice_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return at most ``most`` (2 or more) round numbers, evenly spaced, from ``low`` to ``high``."""
    span = high - low
    if span <= 0:
        return (low,)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(
        step
        for step in (factor * power for factor in (1, 2, 2.5, 5, 10, 20, 25, 50, 100))
        if math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) < most
    )
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def log_ticks(low: float, high: float, most: int, base: int = 10) -> tuple[float, ...]:
    """Return at most ``most`` round numbers: 1-2-5 steps on a logarithm's scale, or whole powers."""
    exponents = range(math.floor(math.log(low, base) - 1e-9), math.ceil(math.log(high, base) + 1e-9) + 1)
    finer = [(1, 2, 5), (1, 3)] if base == 10 else []
    for factors in (*finer, (1,)):
        ticks = [factor * float(base) ** exponent for exponent in exponents for factor in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= most:
            return tuple(float(f"{tick:.12g}") for tick in ticks)
    return tuple(ticks[:: math.ceil(len(ticks) / most)])


def rounded_outwards(value: float, *, up: bool) -> float:
    """Return the nearest 1, 2 or 5 times a power of ten that is not below (``up``) or above ``value``."""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    part = value / power
    if up:
        return power * min(factor for factor in (1, 2, 5, 10) if factor >= part - 1e-9)
    return power * max(factor for factor in (1, 2, 5) if factor <= part + 1e-9)


@attrs.frozen
class Scale:
    """Maps an axis's values onto pixels."""

    axis: Axis
    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
        """Return the scale that has room for all the values that it can show."""
        is_log = axis.scale != "linear"
        wanted = [*values, *(bound for bound in (axis.low, axis.high) if bound is not None)]
        shown = [value for value in wanted if math.isfinite(value) and (value > 0 or not is_log)]
        low = min(shown, default=1.0 if is_log else 0.0)
        high = max(shown, default=10.0 if is_log else 1.0)
        if low >= high:
            low, high = (low / 2, low * 2) if is_log else (min(low, 0.0), max(low, 0.0) or 1.0)
        return cls(axis, low, high, start, end)

    def rounded(self, steps: int) -> Scale:
        """Return the scale from one round number to another; a linear one in at most ``steps`` steps."""
        if self.axis.scale != "linear":
            low, high = rounded_outwards(self.low * 0.9, up=False), rounded_outwards(self.high * 1.1, up=True)
            return attrs.evolve(self, low=low, high=high)
        ticks = nice_ticks(self.low, self.high, steps)
        step = ticks[1] - ticks[0] if len(ticks) > 1 else self.high - self.low
        low, high = math.floor(self.low / step + 1e-9) * step, math.ceil(self.high / step - 1e-9) * step
        return attrs.evolve(self, low=low, high=high)

    def at(self, value: float) -> float:
        """Return the pixel; ``value`` is one that it can show."""
        if self.axis.scale == "linear":
            part = (value - self.low) / (self.high - self.low)
        else:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)

    def can_show(self, value: float | None) -> bool:
        """Return whether there is a pixel for it: it is finite, and above 0 where the axis is logarithmic."""
        return value is not None and math.isfinite(value) and (value > 0 or self.axis.scale == "linear")

    def ticks(self, most: int) -> tuple[float, ...]:
        """Return at most ``most`` (2 or more) round numbers on the axis."""
        if self.axis.scale == "linear":
            return nice_ticks(self.low, self.high, most)
        ticks = log_ticks(self.low, self.high, most, 2 if self.axis.scale == "log2" else 10)
        return ticks if len(ticks) > 1 else nice_ticks(self.low, self.high, most)
