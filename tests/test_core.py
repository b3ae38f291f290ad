"""What all sessions share: encodings, limits and pools, each server its own."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_stomp import BrokerConfig, ConnectRequest, PoolConfig, ServerConfig, StompApp, StompConfig, Version
from trio_stomp.server.core import Core, Publisher
from trio_stomp.transport.websocket import frame_head


def other_head(length: int, is_text: bool) -> bytes:
    return b""


def test_there_is_one_encoding_for_each_version_and_transport() -> None:
    core = Core(None, ServerConfig())
    assert core.encoding(Version.V1_2, frame_head) is core.encoding(Version.V1_2, frame_head)
    different = {core.encoding(version, head) for version in Version for head in (frame_head, other_head)}
    assert len(different) == 6


def test_limits_are_the_configurations() -> None:
    core = Core(None, ServerConfig(stomp=StompConfig(body=1000, body_before_connected=10, headers=9)))
    assert (core.limits.body, core.limits_before.body, core.limits.headers) == (1000, 10, 9)


def test_the_default_pool_is_always_there() -> None:
    assert list(Core(None, ServerConfig()).pools) == ["client_inbound"]


def test_configured_sizes_win_over_declared_ones() -> None:
    app = StompApp()
    app.pool("a", threads=1)
    core = Core(app, ServerConfig(pools={"a": PoolConfig(threads=5)}))
    assert core.pools["a"].threads == 5


def test_two_servers_share_no_numbers() -> None:
    one, two = Core(None, ServerConfig()), Core(None, ServerConfig())
    one.metrics.frames_in += 1
    assert two.metrics.frames_in == 0


async def test_a_plain_broker_knows_nobody(autojump_clock: MockClock) -> None:
    assert await Core(None, ServerConfig()).authenticate(ConnectRequest()) is None


async def test_publishing_waits_while_the_inbox_is_full(autojump_clock: MockClock) -> None:
    core = Core(None, ServerConfig(broker=BrokerConfig(inbox=2)))
    publisher = Publisher(core)
    await publisher.publish("/topic/a", b"", {})
    await publisher.publish_to_user("ada", "/queue/x", b"", {}, None)
    with trio.move_on_after(0) as waited:
        await publisher.publish("/topic/a", b"", {})
    assert waited.cancelled_caught
    assert len(core.broker.inbox.take_nowait()) == 2


async def test_publishing_that_is_cancelled_puts_nothing(autojump_clock: MockClock) -> None:
    core = Core(None, ServerConfig())
    with trio.CancelScope() as scope:
        scope.cancel()
        await Publisher(core).publish("/topic/a", b"", {})
    assert core.broker.inbox.take_nowait() == []


def test_gauges_are_brought_up_to_date() -> None:
    core = Core(None, ServerConfig())
    core.broker.inbox.put(None)  # type: ignore[arg-type]  # nobody takes it
    statistics = core.statistics("ready", 0)
    assert statistics.metrics.broker_inbox == 1


@pytest.mark.parametrize("version", list(Version))
def test_an_encodings_frames_are_the_transports(version: Version) -> None:
    assert Core(None, ServerConfig()).encoding(version, frame_head).frame_head(3, True) == b"\x81\x03"
