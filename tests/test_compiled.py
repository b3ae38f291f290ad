"""What the server asks of a settled app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import attrs
import pytest
import trio

from trio_stomp.app.application import StompApp
from trio_stomp.app.session import ConnectRequest, Session
from trio_stomp.channels.pools import Pool, PoolDeclaration
from trio_stomp.errors import ConnectRefused, HandlerSignatureError
from trio_stomp.messages.message import Message, User


@attrs.frozen
class One:
    number: int


@attrs.frozen
class Other:
    text: str


class Api:
    pass


class Db:
    pass


class Fault(Exception):
    pass


class WorseFault(Fault):
    pass


class Publisher:
    """Has pools, and nowhere to publish to."""

    prefixes = ("/topic", "/queue")

    def __init__(self) -> None:
        self.pools: Mapping[str, Pool] = {
            "client_inbound": Pool(PoolDeclaration("client_inbound", threads=1))
        }

    async def publish(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        raise NotImplementedError

    async def publish_to_user(
        self, name: str, destination: str, body: bytes, headers: Mapping[str, str], session_id: str | None
    ) -> None:
        raise NotImplementedError


REQUEST = ConnectRequest(login="ada", passcode="p", session_id="s1")


async def test_app_without_on_connect_knows_nobody() -> None:
    assert await StompApp().compile().connect(REQUEST) is None


async def test_on_connect_says_who_it_is() -> None:
    app = StompApp()

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User:
        assert request.login is not None
        return User(request.login)

    assert await app.compile().connect(REQUEST) == User("ada")


async def test_on_connect_may_refuse() -> None:
    app = StompApp()

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User:
        raise ConnectRefused("not you")

    with pytest.raises(ConnectRefused, match="not you"):
        await app.compile().connect(REQUEST)


async def test_on_connect_that_returns_no_user_is_an_error_that_names_it() -> None:
    app = StompApp()

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> str:
        return "ada"

    with pytest.raises(TypeError, match="authenticate"):
        await app.compile().connect(REQUEST)


async def test_plain_on_connect_runs_in_a_thread_of_the_default_pool() -> None:
    app = StompApp()

    @app.on_connect
    def authenticate(request: ConnectRequest) -> User:
        assert not trio.lowlevel.in_trio_run()
        return User("ada")

    app.bind(Publisher())
    assert await app.compile().connect(REQUEST) == User("ada")


async def test_on_connect_gets_what_the_lifespan_yields() -> None:
    app = StompApp()
    seen: list[object] = []

    @app.lifespan
    async def api() -> AsyncIterator[Api]:
        yield Api()

    @app.on_connect
    async def authenticate(request: ConnectRequest, api: Api) -> None:
        seen.append(api)

    compiled = app.compile()
    async with compiled.lifespan_scope() as resources:
        compiled.bind_resources(resources)
        await compiled.connect(REQUEST)
    assert seen == [resources[Api]]


def test_on_connect_that_asks_for_more_is_told() -> None:
    app = StompApp()

    @app.on_connect
    async def authenticate(request: ConnectRequest, session: Session) -> None: ...

    with pytest.raises(HandlerSignatureError, match="'session'"):
        app.compile()


async def test_lifespans_are_entered_in_order_and_left_in_reverse() -> None:
    app = StompApp()
    order: list[str] = []

    @app.lifespan
    async def api() -> AsyncIterator[Api]:
        order.append("api opens")
        yield Api()
        order.append("api closes")

    @app.lifespan
    async def db() -> AsyncIterator[Db]:
        order.append("db opens")
        yield Db()
        order.append("db closes")

    async with app.compile().lifespan_scope() as resources:
        assert {type(value) for value in resources.values()} == {Api, Db}
        order.append("serving")
    assert order == ["api opens", "db opens", "serving", "db closes", "api closes"]


async def test_handlers_get_what_the_lifespan_yielded() -> None:
    app = StompApp()

    @app.lifespan
    async def api() -> AsyncIterator[Api]:
        yield Api()

    @app.on_message("/app/x")
    async def handle(api: Api) -> None: ...

    compiled = app.compile()
    found = compiled.match_message("/app/x")
    assert found is not None
    session = Session(id="s", user=None, remote="", version="1.2", headers={}, close=lambda *_: None)
    for _ in range(2):  # served twice: each time its own
        async with compiled.lifespan_scope() as resources:
            compiled.bind_resources(resources)
            arguments = found[0].plan.arguments(Message("/app/x", {}), session, {})
            assert arguments == (resources[Api],)


async def test_lifespan_that_yields_nothing_is_entered_all_the_same() -> None:
    app = StompApp()
    order: list[str] = []

    @app.lifespan
    async def log() -> AsyncIterator[None]:
        order.append("opens")
        yield
        order.append("closes")

    async with app.compile().lifespan_scope() as resources:
        assert dict(resources) == {}
    assert order == ["opens", "closes"]


def test_two_lifespans_of_the_same_type_are_told() -> None:
    app = StompApp()

    @app.lifespan
    async def one() -> AsyncIterator[Api]:
        yield Api()

    @app.lifespan
    async def other() -> AsyncIterator[Api]:
        yield Api()

    with pytest.raises(HandlerSignatureError, match="Api"):
        app.compile()


def test_lifespan_without_its_type_is_told() -> None:
    app = StompApp()

    @app.lifespan
    async def one():  # type: ignore[no-untyped-def]
        yield Api()

    with pytest.raises(HandlerSignatureError, match="one"):
        app.compile()


def test_nearest_class_handles_an_exception() -> None:
    app = StompApp()

    @app.exception_handler(Exception)
    def any_fault(error: Exception) -> str:
        return "any"

    @app.exception_handler(Fault)
    def fault(error: Fault) -> str:
        return "fault"

    compiled = app.compile()
    chosen = [compiled.exception_route(error) for error in (WorseFault(), Fault(), ValueError())]
    assert [route and route.function for route in chosen] == [fault, fault, any_fault]


def test_exception_that_no_class_fits_has_no_route() -> None:
    app = StompApp()

    @app.exception_handler(WorseFault, send_to="/topic/faults")
    def worse(error: WorseFault) -> str:
        return "worse"

    compiled = app.compile()
    assert compiled.exception_route(Fault()) is None
    found = compiled.exception_route(WorseFault())
    assert found is not None
    assert [template.format({}) for template in found.send_to] == ["/topic/faults"]
    assert found.send_to_user == ()


def test_exception_handler_that_names_no_destination_answers_on_the_error_queue() -> None:
    app = StompApp()

    @app.exception_handler(Fault)
    def fault(error: Fault) -> str:
        return "fault"

    found = app.compile().exception_route(Fault())
    assert found is not None
    assert found.send_to_user == ("/queue/errors",)


def test_two_handlers_of_the_same_exception_are_told() -> None:
    app = StompApp()

    @app.exception_handler(Fault)
    def one(error: Fault) -> str:
        return ""

    @app.exception_handler(Fault)
    def other(error: Fault) -> str:
        return ""

    with pytest.raises(HandlerSignatureError, match="Fault"):
        app.compile()


def test_app_destinations_are_those_under_a_routes_first_segment() -> None:
    app = StompApp()

    @app.on_message("/app/chat/{room}")
    async def chat(room: str) -> None: ...

    @app.on_subscribe("/api/list")
    async def listed() -> list[int]:
        return []

    compiled = app.compile()
    own = ["/app/x", "/app/chat/1/2", "/api/x", "/app", "/app/"]
    assert [compiled.is_app_destination(destination) for destination in own] == [True] * 5
    others = ["/topic/app/x", "/apple/x", "app/x", "/", "", "/ap"]
    assert [compiled.is_app_destination(destination) for destination in others] == [False] * 6


def test_app_without_routes_has_no_destinations() -> None:
    assert not StompApp().compile().is_app_destination("/app/x")


def test_pools_are_those_declared() -> None:
    app = StompApp()
    app.pool("payments", threads=3, queue=5, queue_timeout=1.5)
    declared = app.compile().pools["payments"]
    assert (declared.name, declared.threads, declared.queue, declared.queue_timeout) == (
        "payments",
        3,
        5,
        1.5,
    )


def test_description_tells_routes_parameters_pools_and_rules() -> None:
    app = StompApp(title="chat")
    payments = app.pool("payments", threads=3, queue=5, queue_timeout=1.5)
    app.allow_send("/topic/open/*")
    app.allow_subscribe("/topic/**")

    @app.on_message(
        "/app/pay/{shop}", send_to="/topic/{shop}", send_to_user="/queue/r", pool=payments, timeout=5
    )
    def pay(shop: int, user: User) -> str:
        return f"{shop} {user}"

    @app.on_subscribe("/app/list", concurrency=2)
    async def listed() -> list[int]:
        return []

    @app.exception_handler(Fault)
    async def failed(error: Fault) -> str:
        return str(error)

    said = app.compile().describe("client_inbound")
    for part in (
        "chat",
        "/app/pay/{shop}",
        "test_compiled.test_description_tells_routes_parameters_pools_and_rules.<locals>.pay",
        "shop: the destination's {shop}",
        "user: the user",
        "/topic/{shop}",
        "/queue/r",
        "pool: payments",
        "timeout: 5 s",
        "/app/list",
        "concurrency: 2",
        "Fault",
        "/queue/errors",
        "payments: 3 threads, 5 waiting, 1.5 s",
        "/topic/open/*",
        "/topic/**",
    ):
        assert part in said, part


def test_routes_are_listed_in_order_of_declaration() -> None:
    app = StompApp()

    @app.on_message("/app/{b}")
    @app.on_message("/app/a")
    @app.on_subscribe("/app/c")
    def handle() -> None: ...

    compiled = app.compile()
    assert [route.destination for route in compiled.message_routes] == ["/app/a", "/app/{b}"]
    assert [route.destination for route in compiled.subscribe_routes] == ["/app/c"]


def test_destinations_may_have_dots_for_separators() -> None:
    app = StompApp()

    @app.on_message("/app/chat.{room}", send_to="/topic/chat.{room}")
    def chat(room: str) -> str:
        return room

    found = app.compile(separator=".").match_message("/app/chat.7")
    assert found is not None
    assert found[1] == {"room": "7"}
    assert found[0].send_to[0].format(found[1]) == "/topic/chat.7"


def test_union_that_is_returned_is_kept_for_encoding() -> None:
    app = StompApp()

    @app.on_subscribe("/app/one")
    async def one() -> One | Other:
        return One(1)

    @app.on_subscribe("/app/stream")
    async def stream() -> AsyncIterator[One | Other]:
        yield One(1)

    @app.on_subscribe("/app/plain")
    async def plain() -> list[One] | None:
        return None

    found = [route.returns for route in app.compile().subscribe_routes]
    assert found == [One | Other, One | Other, None]


def test_return_annotation_that_cannot_be_resolved_is_told() -> None:
    class Local:
        pass

    app = StompApp()

    @app.on_subscribe("/app/x")
    async def handle() -> Local:
        return Local()

    with pytest.raises(HandlerSignatureError, match=r"handle.*return annotation.*Local"):
        app.compile()


def test_payload_of_a_subscribe_is_told() -> None:
    app = StompApp()

    @app.on_subscribe("/app/x")
    async def handle(message: str) -> str:
        return message

    with pytest.raises(HandlerSignatureError, match="a SUBSCRIBE has no payload"):
        app.compile()


def test_returned_value_that_goes_nowhere_is_told() -> None:
    app = StompApp()

    @app.on_message("/app/x")
    async def handle(message: str) -> str:
        return message

    with pytest.raises(HandlerSignatureError, match=r"it returns str.*send_to"):
        app.compile()
