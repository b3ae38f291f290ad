"""Which route a destination finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_stomp.app.application import StompApp
from trio_stomp.app.compiled import CompiledApp
from trio_stomp.errors import HandlerSignatureError


def app_of(*destinations: str) -> StompApp:
    app = StompApp()
    for destination in destinations:

        def handler() -> None: ...

        handler.__qualname__ = f"handler_of_{destination}"
        app.on_message(destination)(handler)
    return app


def find(app: CompiledApp, destination: str) -> tuple[str, dict[str, str]] | None:
    found = app.match_message(destination)
    return None if found is None else (found[0].destination, found[1])


def test_exact_destination_comes_before_templates() -> None:
    app = app_of("/app/{a}", "/app/x").compile()
    assert find(app, "/app/x") == ("/app/x", {})
    assert find(app, "/app/y") == ("/app/{a}", {"a": "y"})


@pytest.mark.parametrize("destination", ["/app", "/app/", "/app/x/y", "/ap/x", "app/x", "/app/x/", "//app/x"])
def test_variable_is_one_segment_that_is_not_empty(destination: str) -> None:
    assert find(app_of("/app/{a}").compile(), destination) is None


@pytest.mark.parametrize(
    ("destination", "route"),
    [
        ("/app/a/b/c", "/app/a/b/{z}"),
        ("/app/a/x/c", "/app/a/{y}/{z}"),
        ("/app/x/b/c", "/app/{x}/b/c"),
        ("/app/x/y/c", "/app/{x}/{y}/c"),
    ],
)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_more_specific_template_wins_in_any_order_of_declaration(
    destination: str, route: str, is_reversed: bool
) -> None:
    declared = ["/app/{x}/{y}/c", "/app/a/{y}/{z}", "/app/{x}/b/c", "/app/a/b/{z}"]
    app = app_of(*(reversed(declared) if is_reversed else declared)).compile()
    found = find(app, destination)
    assert found is not None
    assert found[0] == route


@pytest.mark.parametrize(
    ("one", "other"), [("/app/x", "/app/x"), ("/app/{a}", "/app/{b}"), ("/app/{a}/x", "/app/{b}/x")]
)
def test_two_handlers_of_the_same_destinations_are_told(one: str, other: str) -> None:
    with pytest.raises(HandlerSignatureError) as caught:
        app_of(one, other).compile()
    said = str(caught.value)
    assert one in said
    assert other in said


def test_send_and_subscribe_have_routes_of_their_own() -> None:
    app = StompApp()

    @app.on_message("/app/x")
    def said() -> None: ...

    @app.on_subscribe("/app/x")
    def asked() -> list[int]:
        return []

    @app.on_subscribe("/app/{only}")
    def other(only: str) -> str:
        return only

    compiled = app.compile()
    message, subscribe = compiled.match_message("/app/x"), compiled.match_subscribe("/app/x")
    assert message is not None
    assert subscribe is not None
    assert (message[0].function, subscribe[0].function) == (said, asked)
    assert compiled.match_message("/app/y") is None


@given(st.text(max_size=40))
def test_any_text_finds_a_route_or_none(destination: str) -> None:
    found = COMPILED.match_message(destination)
    if found is not None:
        route, variables = found
        assert route.template.format(variables) == destination or "*" in destination


def test_route_carries_what_it_was_declared_with() -> None:
    app = StompApp()
    payments = app.pool("payments", threads=3)

    @app.on_message(
        "/app/pay/{shop}",
        send_to=("/topic/{shop}", "/topic/all"),
        send_to_user="/queue/receipts",
        broadcast=False,
        pool=payments,
        timeout=5,
        concurrency=2,
    )
    def pay(shop: str) -> str:
        return shop

    found = app.compile().match_message("/app/pay/7")
    assert found is not None
    route, variables = found
    assert [template.format(variables) for template in route.send_to] == ["/topic/7", "/topic/all"]
    assert route.send_to_user == ("/queue/receipts",)
    seen: tuple[Any, ...] = (route.broadcast, route.pool, route.timeout, route.concurrency)
    assert seen == (False, "payments", 5, 2)
    assert (route.is_async, route.is_stream, route.function) == (False, False, pay)
    assert len({route}) == 1


COMPILED = app_of("/app/{a}", "/app/{a}/x", "/app/b").compile()
