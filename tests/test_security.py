"""Which of the broker's destinations clients may use themselves."""

from __future__ import annotations

import pytest

from trio_stomp.app.application import StompApp
from trio_stomp.app.compiled import CompiledApp
from trio_stomp.errors import DestinationError, HandlerSignatureError


def rules(*, send: tuple[str, ...] = (), subscribe: tuple[str, ...] = ()) -> CompiledApp:
    app = StompApp()
    if send:
        app.allow_send(*send)
    if subscribe:
        app.allow_subscribe(*subscribe)
    return app.compile()


def may_subscribe(app: CompiledApp, destination: str) -> bool:
    try:
        return app.may_subscribe(destination)
    except DestinationError:
        return False


@pytest.mark.parametrize("destination", ["/topic/x", "/queue/x", "/user/ada/queue/x", "/topic/**", ""])
def test_sending_is_refused_without_a_rule(destination: str) -> None:
    assert not rules().may_send(destination)


def test_sending_is_allowed_where_a_pattern_matches() -> None:
    app = rules(send=("/topic/chat/*", "/queue/**"))
    allowed = ["/topic/chat/a", "/queue/a", "/queue/a/b"]
    assert [app.may_send(destination) for destination in allowed] == [True] * 3
    refused = ["/topic/chat", "/topic/chat/a/b", "/topic/other", "/queue", "/topic/chatty/a"]
    assert [app.may_send(destination) for destination in refused] == [False] * 5


def test_sending_to_another_user_takes_a_rule() -> None:
    assert rules(send=("/user/*/queue/notes",)).may_send("/user/ada/queue/notes")
    assert not rules(send=("/queue/**",)).may_send("/user/ada/queue/notes")


def test_subscribing_to_an_exact_destination_is_open_without_a_rule() -> None:
    assert may_subscribe(rules(), "/topic/x")


@pytest.mark.parametrize("pattern", ["/topic/*", "/topic/**", "/**", "/user/queue/*", "/user/queue/**"])
def test_subscribing_to_a_pattern_is_refused_without_a_rule(pattern: str) -> None:
    assert not may_subscribe(rules(), pattern)


def test_from_the_first_rule_on_only_what_matches_can_be_subscribed_to() -> None:
    app = rules(subscribe=("/topic/open/**",))
    assert may_subscribe(app, "/topic/open/a")
    assert not may_subscribe(app, "/topic/other")
    assert not may_subscribe(app, "/queue/x")


def test_ones_own_user_queue_is_open_whatever_the_rules() -> None:
    app = rules(subscribe=("/topic/open/**",))
    assert may_subscribe(app, "/user/queue/errors")
    assert not may_subscribe(app, "/user/ada/queue/errors")
    assert not may_subscribe(app, "/userqueue/errors")


@pytest.mark.parametrize(
    ("allowed", "asked", "may"),
    [
        ("/topic/**", "/topic/**", True),
        ("/topic/**", "/topic/*", True),
        ("/topic/**", "/topic/a/**", True),
        ("/topic/**", "/topic/*/b", True),
        ("/topic/**", "/*/a", False),
        ("/topic/*", "/topic/*", True),
        ("/topic/*", "/topic/**", False),
        ("/topic/*", "/topic/*/*", False),
        ("/topic/*/b", "/topic/*/*", False),
        ("/topic/*/*", "/topic/*/b", True),
        ("/topic/*/*", "/topic/a/**", False),
        ("/topic/a", "/topic/*", False),
        ("/topic/a/**", "/topic/**", False),
        ("/topic/a/**", "/topic/*/b", False),
        ("/**", "/topic/**", True),
        ("/**", "/**", True),
    ],
)
def test_pattern_can_be_subscribed_to_when_a_rule_covers_it(allowed: str, asked: str, may: bool) -> None:
    assert may_subscribe(rules(subscribe=(allowed,)), asked) is may


@pytest.mark.parametrize("pattern", ["", "/topic/a*", "/topic/**/x"])
def test_malformed_rule_is_told(pattern: str) -> None:
    app = StompApp()
    with pytest.raises((DestinationError, HandlerSignatureError)):  # noqa: PT012  at once, or when settled
        app.allow_send(pattern)
        app.compile()
