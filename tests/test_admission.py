"""Who is let in: so many at once, of one address, and new ones per second; when others may come again."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock
from wire import Wire, handshake

from trio_stomp import AcceptConfig, ServerConfig
from trio_stomp.metrics import Metrics
from trio_stomp.server.admission import Admission
from trio_stomp.testing import TestServer, open_test_server
from trio_stomp.transport.http import HttpError


def admission(chance: float = 0.0, **limits: float) -> tuple[Admission, Metrics]:
    metrics = Metrics()
    return Admission(AcceptConfig(**limits), metrics, lambda: chance), metrics  # type: ignore[arg-type]


def is_let_in(door: Admission, remote: str = "10.0.0.1:5") -> bool:
    try:
        door.enter(remote)
    except HttpError:
        return False
    return True


async def test_no_more_than_so_many_at_once() -> None:
    door, metrics = admission(connections=2)
    assert [is_let_in(door) for _ in range(3)] == [True, True, False]
    assert metrics.limit_hits["accept.connections"] == 1
    door.leave("10.0.0.1:5")
    assert is_let_in(door)


async def test_no_more_than_so_many_of_one_address() -> None:
    door, metrics = admission(per_address=1)
    assert is_let_in(door, "10.0.0.1:5")
    assert not is_let_in(door, "10.0.0.1:6")
    assert is_let_in(door, "10.0.0.2:5")
    assert metrics.limit_hits["accept.per_address"] == 1
    door.leave("10.0.0.1:5")
    assert is_let_in(door, "10.0.0.1:7")


@pytest.mark.parametrize(
    ("one", "other", "are_the_same"),
    [
        ("[2001:db8::1]:5", "[2001:db8::ffff:1]:5", True),  # of one network
        ("[2001:db8::1]:5", "[2001:db8:0:1::1]:5", False),
        ("[::ffff:10.0.0.1]:5", "10.0.0.1:7", True),  # IPv4 on a socket for both
        ("memory", "memory", False),  # nobody's address
        ("gone", "gone", False),
    ],
)
async def test_what_one_address_is(one: str, other: str, are_the_same: bool) -> None:
    door, _ = admission(per_address=1)
    assert is_let_in(door, one)
    assert is_let_in(door, other) is not are_the_same
    door.leave(one)
    assert is_let_in(door, one)


async def test_no_more_new_ones_than_the_bucket_has_tokens(mock_clock: MockClock) -> None:
    door, metrics = admission(rate=2, burst=3)
    assert [is_let_in(door) for _ in range(4)] == [True, True, True, False]
    assert metrics.limit_hits["accept.rate"] == 1
    mock_clock.jump(0.4)
    assert not is_let_in(door)
    mock_clock.jump(0.1)
    assert is_let_in(door)
    mock_clock.jump(100)
    assert [is_let_in(door) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, "1"), (0.5, "3"), (0.99, "5")])
def test_who_is_refused_is_told_when_to_come_again_each_another_time(chance: float, seconds: str) -> None:
    door, _ = admission(chance)
    assert door.refusal("full").status == 503
    assert list(door.refusal("full").headers) == [("Retry-After", seconds)]


async def answer(server: TestServer, request: bytes) -> bytes:
    wire = Wire(server.connect())
    await wire.stream.send_all(request)
    return await wire.read_until(b"\r\n\r\n")


async def test_upgrades_over_the_limit_get_503_and_http_is_answered(autojump_clock: MockClock) -> None:
    async with open_test_server(None, ServerConfig(accept=AcceptConfig(connections=1))) as server:
        first = Wire(server.connect())
        await first.shake_hands()
        refused = await answer(server, handshake())
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in refused
        assert b"\r\nConnection: close\r\n" in refused
        assert (await answer(server, b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert server.statistics().metrics.handshakes_refused == {"503": 1}
        await first.stream.aclose()
        while server.statistics().sessions:  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.1)
        assert (await answer(server, handshake())).startswith(b"HTTP/1.1 101 ")
