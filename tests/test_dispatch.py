"""Where a frame goes: a handler, the broker, or back as a refusal."""

from __future__ import annotations

import pytest
from peer import Peer, open_peer, without_heart_beats
from trio.testing import MockClock

from trio_stomp import BrokerConfig, Message, StompApp, Version
from trio_stomp.testing import open_test_server

QUIET = without_heart_beats()


async def refusal(peer: Peer) -> str:
    """The one ERROR's text, behind which the server has closed."""
    [error] = await peer.to_end()
    assert error.command == "ERROR"
    return error.headers["message"]


def small_app() -> StompApp:
    app = StompApp()

    @app.on_message("/app/x")
    async def x(message: Message) -> None:
        pass

    return app


async def test_a_plain_broker_lets_everybody_send_to_topics_and_queues(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        for id, destination in enumerate(("/topic/a", "/queue/a")):
            await peer.subscribe(destination, str(id))
            await peer.say("SEND", b"x", destination=destination)
            assert (await peer.frame()).headers["destination"] == destination


async def test_with_an_app_sending_past_the_handlers_is_refused(autojump_clock: MockClock) -> None:
    async with open_test_server(small_app(), QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", b"x", destination="/topic/a", receipt="r")
        assert await refusal(peer) == "no access to send to '/topic/a'"
        assert peer.close_code == 1008
        assert server.statistics().metrics.access_denied == 1


async def test_allow_send_opens_what_it_names_and_no_more(autojump_clock: MockClock) -> None:
    app = small_app()
    app.allow_send("/topic/open/*")
    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", b"x", destination="/topic/open/a", receipt="r")
        assert (await peer.frame()).command == "RECEIPT"
        await peer.say("SEND", b"x", destination="/topic/open/a/b")
        assert "no access" in await refusal(peer)


async def test_a_send_to_a_users_queue_needs_a_rule_too(autojump_clock: MockClock) -> None:
    async with open_test_server(small_app(), QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", b"x", destination="/user/ada/queue/x")
        assert "no access" in await refusal(peer)


@pytest.mark.parametrize("destination", ["/topic/a", "/queue/a", "/user/queue/a"])
async def test_with_an_app_exact_subscriptions_are_open(destination: str, autojump_clock: MockClock) -> None:
    async with open_test_server(small_app(), QUIET) as server:
        await (await open_peer(server)).subscribe(destination)


async def test_with_an_app_a_pattern_needs_a_rule(autojump_clock: MockClock) -> None:
    async with open_test_server(small_app(), QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SUBSCRIBE", destination="/topic/**", id="1")
        assert "no access to subscribe" in await refusal(peer)


async def test_allow_subscribe_closes_what_it_does_not_name(autojump_clock: MockClock) -> None:
    app = small_app()
    app.allow_subscribe("/topic/open/**")
    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        await peer.subscribe("/topic/open/*", "1")
        await peer.subscribe("/user/queue/x", "2")
        await peer.say("SUBSCRIBE", destination="/topic/secret", id="3")
        assert "no access" in await refusal(peer)


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE"])
async def test_an_app_destination_without_a_handler_is_refused(
    command: str, autojump_clock: MockClock
) -> None:
    async with open_test_server(small_app(), QUIET) as server:
        peer = await open_peer(server)
        await peer.say(command, destination="/app/typo", id="1", receipt="r")
        assert await refusal(peer) == "no handler for '/app/typo'"
        assert peer.close_code == 1008


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE"])
@pytest.mark.parametrize("destination", ["/other/a", "topic/a", "/topic", "/topics/a"])
async def test_a_destination_of_nobodys_is_refused_and_the_prefixes_are_told(
    command: str, destination: str, autojump_clock: MockClock
) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.say(command, destination=destination, id="1")
        assert "begins with none of /topic/, /queue/, /user/" in await refusal(peer)


@pytest.mark.parametrize("pattern", ["/topic/a*", "/topic/**/b", "/user/queue/*", "/topic/" + "a" * 1024])
async def test_a_bad_pattern_is_refused(pattern: str, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SUBSCRIBE", destination=pattern, id="1", receipt="r")
        await refusal(peer)
        assert peer.close_code == 1008


@pytest.mark.parametrize("spying", ["/**", "/*/queue/x", "/user/**", "/user/*/queue/x", "**"])
async def test_no_pattern_reaches_users_queues(spying: str, autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SUBSCRIBE", destination=spying, id="1")
        await refusal(peer)


async def test_a_selector_is_refused_not_ignored(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SUBSCRIBE", destination="/topic/a", id="1", selector="a > 1")
        assert "selectors are not supported" in await refusal(peer)


async def test_other_prefixes_can_be_configured(autojump_clock: MockClock) -> None:
    config = without_heart_beats(broker=BrokerConfig(prefixes=("/exchange",)))
    async with open_test_server(None, config) as server:
        peer = await open_peer(server)
        await peer.subscribe("/exchange/a")
        await peer.say("SUBSCRIBE", destination="/topic/a", id="2")
        await refusal(peer)


async def test_a_1_0_client_unsubscribes_by_destination(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server, Version.V1_0)
        await peer.say("SUBSCRIBE", destination="/topic/a", receipt="r")
        await peer.frame()
        await peer.say("SEND", b"x", destination="/topic/a")
        assert "subscription" not in (await peer.frame()).headers
        await peer.say("UNSUBSCRIBE", destination="/topic/a", receipt="r")
        await peer.frame()
        assert server.statistics().metrics.subscriptions == 0


async def test_more_destinations_than_are_remembered_are_all_found(autojump_clock: MockClock) -> None:
    app, seen = StompApp(), 0

    @app.on_message("/app/{n}")
    async def each(n: int) -> None:
        nonlocal seen
        seen += 1

    async with open_test_server(app, QUIET) as server:
        peer = await open_peer(server)
        for number in range(1100):
            await peer.say("SEND", destination=f"/app/{number}")
        await peer.say("SEND", destination="/app/1", receipt="r")
        assert (await peer.frame()).command == "RECEIPT"
        assert seen == 1101
        assert len(server.server._core.dispatcher._routes) <= 1024


async def test_a_send_to_a_destination_that_is_too_long_is_refused(autojump_clock: MockClock) -> None:
    async with open_test_server(None, QUIET) as server:
        peer = await open_peer(server)
        await peer.say("SEND", b"x", destination="/topic/" + "a" * 1017, receipt="r")
        assert (await peer.frame()).command == "RECEIPT"
        await peer.say("SEND", b"x", destination="/topic/" + "a" * 1018)
        assert await refusal(peer) == "a destination of 1025 characters, the limit is 1024"
        assert peer.close_code == 1008
