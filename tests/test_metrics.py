"""The numbers of a server and their text for Prometheus."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import attrs
import pytest

import trio_stomp
from trio_stomp.config import limits
from trio_stomp.metrics import Counter, Metrics, render

PACKAGE = Path(trio_stomp.__file__).parent


def series(text: str) -> dict[str, str]:
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_fresh_metrics_are_all_zero() -> None:
    assert set(series(render(Metrics())).values()) == {"0"}


def test_two_servers_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.frames_in += 1
    one.http_requests["200"] += 1
    assert other.frames_in == 0
    assert other.http_requests == {}


def test_counters_end_in_total_and_gauges_do_not() -> None:
    lines = render(Metrics()).splitlines()
    assert "# TYPE trio_stomp_frames_in_total counter" in lines
    assert "# TYPE trio_stomp_subscriptions gauge" in lines
    assert "trio_stomp_subscriptions 0" in lines


def test_every_series_has_help_and_type_before_its_values() -> None:
    described: set[str] = set()
    for line in render(Metrics()).splitlines():
        if line.startswith("# HELP "):
            assert re.fullmatch(r"# HELP trio_stomp_[a-z_]+ [^\\]+\.", line), line
            described.add(line.split()[2])
        elif line.startswith("# TYPE "):
            assert line.split()[2] in described
        else:
            assert re.fullmatch(r'([a-z_]+)(\{[a-z]+="[a-z0-9_.]+"\})? [0-9]+', line), line
            assert re.split(r"[{ ]", line)[0] in described


def test_labels_are_sorted_whatever_the_order_of_counting() -> None:
    metrics = Metrics()
    metrics.http_requests["404"] += 1
    metrics.http_requests["200"] += 2
    lines = [line for line in render(metrics).splitlines() if line.startswith("trio_stomp_http_requests")]
    assert lines == [
        'trio_stomp_http_requests_total{status="200"} 2',
        'trio_stomp_http_requests_total{status="404"} 1',
    ]


def test_text_ends_with_a_line_end() -> None:
    assert render(Metrics()).endswith("\n")


def test_current_numbers_are_what_began_less_what_ended() -> None:
    metrics = Metrics()
    metrics.connections_opened, metrics.connections_closed = 5, 3
    metrics.sessions_connected, metrics.sessions_ended = 4, 1
    assert (metrics.connections_current, metrics.sessions_current) == (2, 3)
    values = series(render(metrics))
    assert values["trio_stomp_connections_current"] == "2"
    assert values["trio_stomp_sessions_current"] == "3"


def test_every_limit_is_shown_from_the_start() -> None:
    values = series(render(Metrics()))
    for limit in limits():
        assert values[f'trio_stomp_limit_hits_total{{limit="{limit}"}}'] == "0"


def test_limit_counts_by_setting() -> None:
    metrics = Metrics()
    metrics.limit("stomp.body")
    metrics.limit("stomp.body")
    assert metrics.limit_hits["stomp.body"] == 2


def test_limits_that_the_package_counts_are_settings() -> None:
    """A typing error in a name would otherwise make a series of its own."""
    counted = {
        node.args[0].value
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "limit"
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant)
    }
    assert counted <= set(limits())


def test_close_codes_of_a_peers_own_invention_are_one_series() -> None:
    metrics = Metrics()
    for code in (1000, 4500, *range(3000, 4000)):
        metrics.close_code(code)
    assert metrics.close_codes == {"1000": 1, "4500": 1, "other": 1000}


def test_snapshot_does_not_change_with_the_numbers() -> None:
    metrics = Metrics()
    metrics.frames_in += 1
    metrics.limit("stomp.body")
    before = metrics.statistics()
    metrics.frames_in += 1
    metrics.limit("stomp.body")
    assert (before.frames_in, before.limit_hits["stomp.body"]) == (1, 1)
    assert (metrics.frames_in, metrics.limit_hits["stomp.body"]) == (2, 2)


def test_snapshot_has_every_number_and_renders_the_same() -> None:
    metrics = Metrics()
    names = [attribute.name for attribute in attrs.fields(Metrics)]
    for at, name in enumerate(names):
        if isinstance(getattr(metrics, name), int):
            setattr(metrics, name, at + 1)
    assert render(metrics.statistics()) == render(metrics)


def test_snapshot_cannot_be_assigned_to() -> None:
    snapshot = Metrics().statistics()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        snapshot.frames_in = 1  # type: ignore[misc]  # that is the test


def test_misspelt_number_is_refused() -> None:
    metrics = Metrics()
    with pytest.raises(AttributeError):
        metrics.frame_in = 1  # type: ignore[attr-defined]  # that is the test


def test_counter_of_what_never_happened_is_zero_and_keeps_nothing() -> None:
    counter = Counter()
    assert counter["200"] == 0
    assert len(counter) == 0
