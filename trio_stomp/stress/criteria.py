"""What a run is held to: ``p99<250ms,errors<=1%`` as values, for ``--target`` and ``--fail-if``.

Rule: what is not known (no ``/metrics``, nothing answered) never satisfies a target, and never passes unsaid.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from trio_stomp.errors import ConfigError
from trio_stomp.stress import units
from trio_stomp.stress.results import Latency, Run


@attrs.frozen
class Criterion:
    """One comparison, as ``p99<250ms``; its ``str`` parses back to the same.

    Attributes:
        name: a measure of a run, one of `MEASURES`.
        relation: ``<``, ``<=``, ``>``, ``>=`` or ``=``.
        amount, unit: the limit as it was written.
    """

    name: str
    relation: str
    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.name}{self.relation}{self.amount:.15g}{self.unit}"

    @property
    def limit(self) -> float:
        """The limit in seconds, bytes, cores, per second, as a count, or as a share of 1."""
        return self.amount * MEASURES[self.name].factors[self.unit]

    @property
    def is_share(self) -> bool:
        """Whether a count is held against the requests that were sent."""
        return self.unit == "%" and MEASURES[self.name].factors is _COUNT


@attrs.frozen
class Measure:
    """What a criterion may name.

    Attributes:
        factors: its units, each with the number of base units in it.
        expected: the units in words, for an error.
        read: takes it from a run; None when it is not known.
        show: makes text of it.
    """

    factors: Mapping[str, float]
    expected: str
    read: Callable[[Run], float | None]
    show: Callable[[float], str]


_TIME: Final = MappingProxyType({"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6})
_RATE: Final = MappingProxyType({"": 1.0, "/s": 1.0})
_COUNT: Final = MappingProxyType({"": 1.0, "%": 0.01})
_CORES: Final = MappingProxyType({"": 1.0, "%": 0.01})
_BYTES: Final = MappingProxyType({"": 1.0, "B": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3})


def _time(read: Callable[[Run], float | None]) -> Measure:
    return Measure(_TIME, "a time with its unit, as 250ms, 1.5s or 800us", read, units.duration)


def _latency(name: str, which: str) -> Measure:
    def read(run: Run) -> float | None:
        latency: Latency = getattr(run, which)
        value: float = getattr(latency, name)
        return value if latency.count else None

    return _time(read)


def _count(name: str) -> Measure:
    def read(run: Run) -> float:
        value: int = getattr(run, name)
        return value

    return Measure(_COUNT, "a count, or a share of what was sent, as 1%", read, lambda n: units.count(int(n)))


def _used(name: str) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        if run.server is None:
            return None
        value: float = getattr(run.server, name)
        return value

    return read


def _per_second(read: Callable[[Run], float]) -> Measure:
    return Measure(_RATE, "a number per second, as 480 or 480/s", read, units.rate)


_PERCENTILES: Final = MappingProxyType(
    {"p50": "p50", "p90": "p90", "p99": "p99", "p99.9": "p999", "max": "max", "mean": "mean"}
)

_COUNTED: Final = (
    *("sent", "answered", "rejected", "errors", "lost", "unanswered"),
    *("duplicates", "disconnects"),
)

MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        **{name: _latency(attribute, "corrected") for name, attribute in _PERCENTILES.items()},
        **{f"raw_{name}": _latency(attribute, "raw") for name, attribute in _PERCENTILES.items()},
        "rate": _per_second(lambda run: run.rate),
        "achieved": _per_second(lambda run: run.achieved),
        **{name: _count(name) for name in _COUNTED},
        "cpu": Measure(_CORES, "cores, as 0.9 or 90%", _used("cpu"), lambda cores: f"{cores:.2f} cores"),
        "cpu_per_message": _time(_used("cpu_per_message")),
        "rss": Measure(_BYTES, "a size, as 200MiB", _used("rss"), units.size),
        "loop_lag": _time(_used("loop_lag_p99")),
    }
)
"""By name; the percentiles are of the corrected latency, those with ``raw_`` of the other."""

_RELATIONS: Final[Mapping[str, Callable[[float, float], bool]]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq}
)
_PARTS: Final = re.compile(r"\s*([^<>=\s]*)\s*(<=|>=|==|<|>|=)\s*(\d+(?:\.\d*)?|\.\d+)?\s*([^<>=\s]*)\s*")


def parse_criteria(text: str) -> tuple[Criterion, ...]:
    """Return what ``text`` lists, separated by commas, as ``p99<250ms,errors<=1%``.

    Raises:
        ConfigError: naming the part that is wrong, what is known, and the nearest name.
    """
    return tuple(_parsed(part) for part in text.split(","))


def _parsed(part: str) -> Criterion:
    found = _PARTS.fullmatch(part)
    if found is None:
        raise ConfigError(f"{part.strip()!r} is no criterion, expected NAME, one of < <= > >= =, and a limit")
    name, relation, amount, unit = found.groups()
    name = _known(name, part)
    measure = MEASURES[name]
    if amount is None or unit not in measure.factors:
        raise ConfigError(
            f"{part.strip()!r}: {amount or ''}{unit!s} is no limit, expected {measure.expected}"
        )
    return Criterion(name, "=" if relation == "==" else relation, float(amount), unit)


def _known(name: str, part: str) -> str:
    if name.replace("999", "99.9") in MEASURES:  # p999 is how many tools write it
        return name.replace("999", "99.9")
    nearest = difflib.get_close_matches(name, MEASURES, n=1, cutoff=0.0)
    hint = f"; the nearest is {nearest[0]!r}" if name and nearest else ""
    raise ConfigError(
        f"{part.strip()!r}: nothing measured is called {name!r}{hint} (known: {', '.join(MEASURES)})"
    )


def value_of(criterion: Criterion, run: Run) -> float | None:
    """Return what the criterion looks at, in the unit of its `limit`; None when it is not known."""
    value = MEASURES[criterion.name].read(run)
    if value is not None and criterion.is_share:
        return value / run.sent if run.sent else None
    return value


def holds(criterion: Criterion, run: Run) -> bool | None:
    """Return whether the comparison is true of this run; None when its value is not known."""
    value = value_of(criterion, run)
    return None if value is None else _RELATIONS[criterion.relation](value, criterion.limit)


def meets(target: Iterable[Criterion], run: Run) -> bool:
    """Return whether every criterion holds; one whose value is not known does not. True without any."""
    return all(holds(criterion, run) for criterion in target)


def shown(criterion: Criterion, run: Run) -> str:
    """Return name and value as text: ``p99 412 ms``, ``errors 1.20 %``."""
    value = value_of(criterion, run)
    if value is None:
        return f"{criterion.name} not known"
    text = units.share(value) if criterion.is_share else MEASURES[criterion.name].show(value)
    return f"{criterion.name} {text}"


def misses(target: Iterable[Criterion], run: Run) -> tuple[str, ...]:
    """Return a phrase for each criterion that does not hold: ``p99 412 ms, not p99<250ms``."""
    return tuple(
        f"{shown(criterion, run)}, not {criterion}" for criterion in target if not holds(criterion, run)
    )


def failures(criteria: Sequence[Criterion], runs: Iterable[Run]) -> tuple[str, ...]:
    """Return a sentence for each criterion of ``--fail-if`` that fails a run; empty: all is well.

    What is not known fails as well: a check that cannot be made has not been passed.
    """
    found = []
    for run in runs:
        for criterion in criteria:
            is_true = holds(criterion, run)
            if is_true:
                found.append(f"{run.label}: {shown(criterion, run)} ({criterion})")
            elif is_true is None:
                found.append(f"{run.label}: cannot tell {criterion}: {_why_unknown(criterion, run)}")
    return tuple(found)


def _why_unknown(criterion: Criterion, run: Run) -> str:
    if criterion.is_share:
        return "nothing was sent"
    if criterion.name in _PERCENTILES:
        return "nothing was sent"
    return "nothing was answered" if criterion.name.startswith("raw_") else "no /metrics of the server"
