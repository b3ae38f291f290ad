"""Numbers as people read them: three significant digits, a unit, thousands set apart.

Rule 1: what goes in is seconds, bytes and counts.  Rule 2: what is not known (None) is shown as "-".
"""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "-"


def number(value: float | None) -> str:
    """Return three significant digits, no exponent: ``0.012``, ``1.23``, ``12.3``, ``1,230``."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    if size == 0:
        return "0"
    if round(size, 1) >= 100:
        return f"{value:,.0f}"
    digits = 1 if round(size, 2) >= 10 else 2 if round(size, 3) >= 1 else 3
    shown = f"{value:.{digits}f}"
    # Below a thousandth of the unit nothing is worth telling, save that it is not nothing.
    return shown if float(shown) else "<0.001"


def count(value: int | None) -> str:
    """Return ``12,345``."""
    return UNKNOWN if value is None else f"{value:,}"


def milliseconds(seconds: float | None) -> str:
    """Return the number alone, in ms, for a column whose head says so."""
    return UNKNOWN if seconds is None else number(seconds * 1000)


def duration(seconds: float | None) -> str:
    """Return a time with the unit that suits it: ``850 µs``, ``12.3 ms``, ``2.50 s``."""
    if seconds is None:
        return UNKNOWN
    if seconds == 0:
        return "0 ms"
    if abs(seconds) < 0.000_999_5:
        return f"{number(seconds * 1e6)} µs"
    return f"{number(seconds * 1000)} ms" if abs(seconds) < 0.9995 else f"{number(seconds)} s"


def rate(per_second: float | None) -> str:
    """Return ``1,234/s``."""
    return UNKNOWN if per_second is None else f"{number(per_second)}/s"


def share(part: float | None) -> str:
    """Return a share of 1 in percent: ``12.3 %``."""
    return UNKNOWN if part is None else f"{number(part * 100)} %"


def size(byte_count: float | None) -> str:
    """Return ``85.2 MiB``, ``512 KiB``."""
    if byte_count is None:
        return UNKNOWN
    if byte_count < 1024:
        return f"{byte_count:.0f} B"
    if byte_count < 1024**2:
        return f"{number(byte_count / 1024)} KiB"
    is_below = byte_count < 1024**3
    return f"{number(byte_count / 1024**2)} MiB" if is_below else f"{number(byte_count / 1024**3)} GiB"


def round_duration(seconds: float) -> str:
    """Return a round time (an axis's tick) without digits that say nothing: ``20 ms``, ``2.5 s``."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor * 0.9999:
            return f"{seconds / factor:,.6g} {unit}"
    return "0"


def round_number(value: float) -> str:
    """Return a round number (an axis's tick) without digits that say nothing: ``2.5``, ``1,500``."""
    return f"{value:,.6g}"
