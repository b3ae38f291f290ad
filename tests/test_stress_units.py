"""Numbers as people read them."""

from __future__ import annotations

import pytest

from trio_stomp.stress import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (0.0001, "<0.001"), (0.0123, "0.012"), (0.9996, "1.00"), (1.234, "1.23")),
        *((9.996, "10.0"), (12.34, "12.3"), (99.96, "100"), (123.4, "123"), (1234.5, "1,234")),
        *((-12.34, "-12.3"), (None, "-")),
    ],
)
def test_number_has_three_significant_digits(value: float | None, text: str) -> None:
    assert units.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 ms"), (0.00085, "850 µs"), (0.0009999, "1.00 ms"), (0.0123, "12.3 ms")),
        *((0.9994, "999 ms"), (0.9996, "1.00 s"), (75.0, "75.0 s"), (None, "-")),
    ],
)
def test_duration_has_the_unit_that_suits_it(seconds: float | None, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        *((0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (80 * 1024**2, "80.0 MiB")),
        *((3 * 1024**3, "3.00 GiB"), (None, "-")),
    ],
)
def test_size_has_a_binary_unit(byte_count: float | None, text: str) -> None:
    assert units.size(byte_count) == text


def test_counts_rates_shares_and_milliseconds() -> None:
    assert (units.count(12345), units.rate(1234.4), units.share(0.0125)) == ("12,345", "1,234/s", "1.25 %")
    assert units.milliseconds(0.0123) == "12.3"
    unknown = (units.count(None), units.rate(None), units.share(None), units.milliseconds(None))
    assert unknown == ("-", "-", "-", "-")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.00005, "50 µs"), (0.02, "20 ms"), (0.0025, "2.5 ms"), (2.5, "2.5 s"), (1000, "1,000 s")],
)
def test_round_duration_has_no_digits_that_say_nothing(seconds: float, text: str) -> None:
    assert units.round_duration(seconds) == text


def test_round_number_has_no_digits_that_say_nothing() -> None:
    assert [units.round_number(value) for value in (0.0, 2.5, 1500.0)] == ["0", "2.5", "1,500"]
