"""What all sessions share: encodings, limits and pools, each server its own."""

from __future__ import annotations

import logging
import re

import pytest
import trio
from trio.testing import MockClock

from trio_stomp import (
    BrokerConfig,
    ConfigError,
    ConnectRequest,
    PoolConfig,
    ServerConfig,
    StompApp,
    StompConfig,
    Version,
)
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
    assert core.limits.head == core.limits_before.head == 64 * 1024


def test_all_headers_together_have_room_for_the_longest_one() -> None:
    assert Core(None, ServerConfig(stomp=StompConfig(header_line=70_000))).limits.head == 70_000


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


@pytest.mark.parametrize(
    ("app", "said"),
    [
        (StompApp(), "pools.clientinbound: the app has no such pool; the nearest is 'client_inbound'"),
        (None, "pools.clientinbound: a plain broker has no such pool; the nearest is 'client_inbound'"),
    ],
)
def test_a_configured_pool_that_nobody_has_is_refused(app: StompApp | None, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        Core(app, ServerConfig(pools={"clientinbound": PoolConfig(threads=5)}))


def test_another_configuration_changes_pools_at_once_and_names_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = StompApp()
    app.pool("a", threads=1)
    app.pool("b", threads=2)
    core = Core(app, ServerConfig())
    core.pools["b"].threads = 9
    with caplog.at_level(logging.INFO):
        ignored = core.reconfigure(
            ServerConfig(
                port=1, pools={"a": PoolConfig(threads=5, queue=7)}, stomp=StompConfig(body=1000, headers=9)
            )
        )
    assert ignored == ("port", "stomp.body", "stomp.headers")
    assert (core.pools["a"].threads, core.pools["a"].declaration.queue) == (5, 7)
    assert core.pools["b"].threads == 9
    assert caplog.messages == ["pools.a.threads: 5 instead of 1", "pools.a.queue: 7 instead of 1000"]
    core.reconfigure(ServerConfig())
    assert (core.pools["a"].threads, core.pools["a"].declaration.queue) == (1, 1000)


def test_another_configuration_that_cannot_be_used_changes_nothing() -> None:
    app = StompApp()
    app.pool("a", threads=1)
    core = Core(app, ServerConfig())
    with pytest.raises(ConfigError, match="has no such pool"):
        core.reconfigure(ServerConfig(pools={"a": PoolConfig(threads=5), "x": PoolConfig(threads=5)}))
    assert core.pools["a"].threads == 1
