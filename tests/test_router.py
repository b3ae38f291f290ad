"""Declaring handlers: what fails at the decorator, and how routers put prefixes together."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from trio_stomp.app.application import StompApp
from trio_stomp.app.router import Router
from trio_stomp.errors import DestinationError, HandlerSignatureError


class Fault(Exception):
    pass


def plain() -> None: ...


async def asynchronous() -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def stream() -> AsyncIterator[int]:
    yield 1


@functools.wraps(asynchronous)
def hides_that_it_is_async() -> Any:
    return asynchronous()


def test_decorators_return_the_function_itself() -> None:
    app = StompApp()

    def handler() -> None: ...

    async def failed(error: Fault) -> None: ...

    assert app.on_message("/app/x")(handler) is handler
    assert app.on_subscribe("/app/x")(handler) is handler
    assert app.exception_handler(Fault)(failed) is failed
    assert app.lifespan(stream) is stream
    assert app.on_connect(asynchronous) is asynchronous


def test_one_function_may_handle_several_destinations() -> None:
    app = StompApp()

    @app.on_message("/app/x")
    @app.on_message("/app/y")
    def handler() -> None: ...

    compiled = app.compile()
    found = [compiled.match_message(destination) for destination in ("/app/x", "/app/y")]
    assert [entry and entry[0].function for entry in found] == [handler, handler]


@pytest.mark.parametrize("function", [generator, hides_that_it_is_async, 5, print.__class__, None])
def test_what_cannot_be_a_handler_is_refused_at_once(function: Any) -> None:
    for decorator in (
        StompApp().on_message("/app/x"),
        StompApp().on_subscribe("/app/x"),
        StompApp().exception_handler(Fault),
    ):
        with pytest.raises(HandlerSignatureError):
            decorator(function)


def test_only_on_subscribe_streams() -> None:
    with pytest.raises(HandlerSignatureError, match="stream"):
        StompApp().on_message("/app/x")(stream)
    with pytest.raises(HandlerSignatureError, match="stream"):
        StompApp().exception_handler(Fault)(stream)
    app = StompApp()
    app.on_subscribe("/app/x")(stream)
    found = app.compile().match_subscribe("/app/x")
    assert found is not None
    assert found[0].is_stream
    assert found[0].is_async


@pytest.mark.parametrize(
    "destination", ["", "/app/{}", "/app/{a b}", "/app/x{a}", "/app/{a", "/app/{a}/{a}", "/app/*", "/app/**"]
)
def test_malformed_destination_is_refused_at_once(destination: str) -> None:
    with pytest.raises(DestinationError):
        StompApp().on_message(destination)(plain)
    with pytest.raises(DestinationError):
        StompApp().on_subscribe(destination)(plain)


@pytest.mark.parametrize("destination", ["app/x", "/{a}/x", "/app"])
def test_destination_that_does_not_begin_with_a_fixed_segment_is_told(destination: str) -> None:
    app = StompApp()
    with pytest.raises((DestinationError, HandlerSignatureError)):  # noqa: PT012  at once, or when settled
        app.on_message(destination)(plain)
        app.compile()


@pytest.mark.parametrize("destination", ["/topic/x", "/queue/x", "/user/x"])
def test_route_under_the_brokers_prefix_is_told(destination: str) -> None:
    app = StompApp()
    app.on_message(destination)(plain)
    with pytest.raises(HandlerSignatureError, match="broker"):
        app.compile()


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": -1.0}, {"concurrency": 0}])
def test_option_out_of_range_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(HandlerSignatureError, match=next(iter(options))):
        StompApp().on_message("/app/x", **options)(plain)
    with pytest.raises(HandlerSignatureError, match=next(iter(options))):
        StompApp().on_subscribe("/app/x", **options)(plain)


def test_pool_for_an_async_handler_is_refused() -> None:
    with pytest.raises(HandlerSignatureError, match="pool"):
        StompApp().on_message("/app/x", pool="client_inbound")(asynchronous)


@pytest.mark.parametrize("options", [{"timeout": 1}, {"concurrency": 1}])
def test_stream_has_no_timeout_or_concurrency(options: dict[str, Any]) -> None:
    with pytest.raises(HandlerSignatureError, match="stream"):
        StompApp().on_subscribe("/app/x", **options)(stream)


def test_pool_that_nobody_declared_is_told() -> None:
    app = StompApp()
    app.on_message("/app/x", pool="payments")(plain)
    with pytest.raises(HandlerSignatureError, match="payments"):
        app.compile()


def test_variable_of_send_to_that_the_destination_has_not_is_told() -> None:
    app = StompApp()

    def handler() -> str:
        return ""

    with pytest.raises(HandlerSignatureError, match="room"):  # noqa: PT012  at once, or when settled
        app.on_message("/app/{a}", send_to="/topic/{room}")(handler)
        app.compile()


@pytest.mark.parametrize("queue", ["/user/queue/x", "/queue/{a}"])
def test_send_to_user_is_a_fixed_queue_without_user(queue: str) -> None:
    def handler() -> str:
        return ""

    with pytest.raises((HandlerSignatureError, DestinationError), match="send_to_user"):
        StompApp().on_message("/app/{a}", send_to_user=queue)(handler)


@pytest.mark.parametrize("option", ["send_to", "send_to_user"])
def test_answer_outside_the_brokers_prefixes_is_told(option: str) -> None:
    def handler() -> str:
        return ""

    app = StompApp()
    options: dict[str, Any] = {option: "/elsewhere/x"}
    app.on_message("/app/x", **options)(handler)
    with pytest.raises(HandlerSignatureError, match="/elsewhere/x"):
        app.compile()


@pytest.mark.parametrize("kind", [BaseException, KeyboardInterrupt, int, "ValueError", Fault()])
def test_exception_handler_takes_exceptions_only(kind: Any) -> None:
    with pytest.raises(HandlerSignatureError):
        StompApp().exception_handler(kind)


def test_send_to_of_an_exception_handler_has_no_variables() -> None:
    async def failed(error: Fault) -> str:
        return ""

    with pytest.raises((HandlerSignatureError, DestinationError), match="no variables"):
        StompApp().exception_handler(Fault, send_to="/topic/{room}")(failed)


def test_router_puts_its_prefix_before_each_destination() -> None:
    rooms = Router("/app/rooms/{room}")

    @rooms.on_message("/say", send_to="/topic/rooms/{room}")
    def say(room: str) -> str:
        return room

    @rooms.on_subscribe("/recent")
    def recent(room: str) -> list[str]:
        return [room]

    app = StompApp()
    app.include(rooms)
    compiled = app.compile()
    found = compiled.match_message("/app/rooms/7/say")
    assert found is not None
    assert (found[0].destination, found[1]) == ("/app/rooms/{room}/say", {"room": "7"})
    assert compiled.match_subscribe("/app/rooms/7/recent") is not None


def test_router_in_a_router_has_both_prefixes_and_their_variables() -> None:
    app, rooms, seats = StompApp(), Router("/app/rooms/{room}"), Router("/seats/{seat}")

    @seats.on_message("/take", send_to="/topic/{room}/{seat}")
    def take(room: str, seat: int) -> str:
        return f"{room} {seat}"

    rooms.include(seats)
    app.include(rooms)
    found = app.compile().match_message("/app/rooms/7/seats/3/take")
    assert found is not None
    assert found[1] == {"room": "7", "seat": "3"}
    assert [template.format(found[1]) for template in found[0].send_to] == ["/topic/7/3"]


def test_router_included_early_brings_what_is_declared_later() -> None:
    app, router = StompApp(), Router("/app")
    app.include(router)
    router.on_message("/late")(plain)
    assert app.compile().match_message("/app/late") is not None


def test_router_with_the_prefix_only() -> None:
    app, router = StompApp(), Router("/app/x")
    router.on_message("")(plain)
    app.include(router)
    assert app.compile().match_message("/app/x") is not None


def test_exception_handler_of_a_router_is_the_apps() -> None:
    app, router = StompApp(), Router("/app")

    @router.exception_handler(Fault)
    async def failed(error: Fault) -> str:
        return ""

    app.include(router)
    found = app.compile().exception_route(Fault())
    assert found is not None
    assert found.function is failed


def test_routers_problems_are_told_by_the_app() -> None:
    app, router = StompApp(), Router("/app")

    @router.on_message("/x")
    def handler(a: int, b: int) -> None: ...

    app.include(router)
    with pytest.raises(HandlerSignatureError, match="'b'"):
        app.compile()


def includes_itself() -> None:
    router = Router("/a")
    router.include(router)


def includes_what_includes_it() -> None:
    outer, inner = Router("/a"), Router("/b")
    outer.include(inner)
    inner.include(outer)


def includes_twice() -> None:
    app, router = StompApp(), Router("/a")
    app.include(router)
    app.include(router)


@pytest.mark.parametrize("include", [includes_itself, includes_what_includes_it, includes_twice])
def test_router_is_included_once_and_not_in_itself(include: Callable[[], None]) -> None:
    with pytest.raises(ValueError, match="include"):
        include()


@pytest.mark.parametrize("other", [StompApp(), None, "/app"])
def test_only_routers_are_included(other: Any) -> None:
    with pytest.raises(TypeError):
        StompApp().include(other)


@pytest.mark.parametrize("prefix", ["/app/", "app", "/app/{", "/app/*"])
def test_malformed_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(DestinationError):
        Router(prefix)
