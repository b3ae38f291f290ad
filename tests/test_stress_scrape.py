"""Reading /metrics: what the page says, and that nothing comes of what cannot be read."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_stomp import StompApp
from trio_stomp.errors import ConnectionLost
from trio_stomp.stress.endpoint import Endpoint
from trio_stomp.stress.scrape import Sample, grown, parse, quantile, scrape
from trio_stomp.testing import open_test_server

PAGE = """
# HELP process_cpu_seconds_total CPU seconds of the process.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
trio_stomp_pool_threads{pool="a"} 4
trio_stomp_pool_threads{pool="b"} 8
w_bucket{pool="a",le="0.1"} 1
w_bucket{pool="a",le="+Inf"} 2
w_bucket{pool="b",le="0.1"} 10
w_bucket{pool="b",le="+Inf"} 20
w_sum{pool="a"} 0.5
stamped{x="with } and \\" in it",le="7"} 3 1700000000000
"""


def test_samples_are_added_up_over_their_labels() -> None:
    sample = parse(PAGE)
    assert sample.totals == {
        "process_cpu_seconds_total": 1.5,
        "trio_stomp_pool_threads": 12.0,
        "w_sum": 0.5,
        "stamped": 3.0,
    }
    assert sample.buckets == {"w": [(0.1, 11.0), (math.inf, 22.0)]}


@pytest.mark.parametrize(
    "nonsense",
    ["", "<html>", "name", "name value", "{} 1", 'w_bucket{le="x"} 1', "\0", "a b c d", "x{ 1", "9x 1"],
)
def test_nonsense_is_left_out(nonsense: str) -> None:
    assert parse(f"{nonsense}\nok 1\n") == Sample({"ok": 1.0}, {})


def test_growth_is_known_when_both_ends_are() -> None:
    first, last = Sample({"a": 1.0, "gone": 1.0}, {}), Sample({"a": 4.0, "new": 1.0}, {})
    assert grown("a", first, last) == 3.0
    assert grown("gone", first, last) is None
    assert grown("new", first, last) is None
    assert grown("a", None, last) is None
    assert grown("a", first, None) is None


def sample_of(*counts: tuple[float, float]) -> Sample:
    return Sample({}, {"h": counts})


def test_a_quantile_is_of_what_came_in_between() -> None:
    first = sample_of((0.1, 100), (0.2, 100), (math.inf, 100))
    last = sample_of((0.1, 100), (0.2, 200), (math.inf, 200))
    assert quantile("h", 0.5, first, last) == pytest.approx(0.15)
    assert quantile("h", 0.99, first, last) == pytest.approx(0.199)


def test_a_quantile_above_the_last_bound_is_that_bound() -> None:
    first, last = sample_of((0.1, 0), (math.inf, 0)), sample_of((0.1, 1), (math.inf, 10))
    assert quantile("h", 0.99, first, last) == 0.1


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (sample_of((0.1, 5), (math.inf, 5)), sample_of((0.1, 5), (math.inf, 5))),
        (Sample({}, {}), sample_of((0.1, 5), (math.inf, 5))),
        (sample_of((0.1, 5), (math.inf, 5)), Sample({}, {})),
        (sample_of((0.1, 0)), sample_of((0.1, -1), (math.inf, 5), (math.inf, -7), (math.inf, 1))),
    ],
    ids=["nothing", "not before", "not after", "falling"],
)
def test_no_histogram_has_no_quantile(first: Sample, last: Sample) -> None:
    assert quantile("h", 1.0 if len(last.buckets.get("h", ())) < 4 else 6.0, first, last) is None


# Over a connection


def endpoint(stream: trio.abc.Stream) -> Endpoint:
    async def dial() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return stream

    return Endpoint(dial=dial, host="h", authority="h:80", resource="/ws")


async def test_a_server_of_ours_tells_all_that_the_report_wants(autojump_clock: MockClock) -> None:
    app = StompApp()
    app.pool("payments", threads=3)
    async with open_test_server(app) as server:
        sample = await scrape(endpoint(server.connect()))
    assert sample is not None
    for name in (
        *("process_cpu_seconds_total", "process_resident_memory_bytes", "trio_stomp_loop_lag_seconds_sum"),
        *("trio_stomp_pool_wait_seconds_sum", "trio_stomp_pool_service_seconds_sum"),
    ):
        assert name in sample.totals
    assert "trio_stomp_loop_lag_seconds" in sample.buckets


async def answered(answer: bytes) -> Sample | None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(answer)
    await theirs.send_eof()
    return await scrape(endpoint(ours))


async def test_the_request_is_one_that_any_server_takes() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n")
    assert await scrape(endpoint(ours)) == Sample({"a": 1.0}, {})
    request = bytes(await theirs.receive_some(4096))
    assert request.startswith(b"GET /metrics HTTP/1.1\r\n")
    assert b"Host: h:80\r\n" in request


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\na 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (5 << 20),
    ],
    ids=["nothing", "garbage", "404", "cut off", "no text", "too long"],
)
async def test_what_cannot_be_read_is_none(answer: bytes) -> None:
    assert await answered(answer) is None


async def test_a_server_that_does_not_answer_is_given_up(autojump_clock: MockClock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()
    started = trio.current_time()
    assert await scrape(endpoint(ours)) is None
    assert trio.current_time() - started == pytest.approx(5.0)


@pytest.mark.parametrize("error", [OSError("refused"), ConnectionLost("TLS")])
async def test_a_server_that_cannot_be_reached_is_none(error: Exception) -> None:
    async def dial() -> trio.abc.Stream:
        raise error

    assert await scrape(Endpoint(dial=dial, host="h", authority="h", resource="/")) is None
