"""A signature becomes a plan: what fills each parameter, and what is told when nothing does."""

from __future__ import annotations

import enum
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NewType
from uuid import UUID

import attrs
import pytest

from trio_stomp.app.application import StompApp
from trio_stomp.app.handlers import Header
from trio_stomp.app.session import ConnectRequest, Session
from trio_stomp.errors import AccessDenied, ConversionError, HandlerSignatureError
from trio_stomp.messages.message import Message, User

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypes

RoomName = NewType("RoomName", str)


@attrs.frozen
class Say:
    text: str


@attrs.frozen
class Admin(User):
    pass


@attrs.frozen
class Bot(User):
    pass


class Api:
    pass


class Colour(enum.Enum):
    RED = "red"


class TooDear(Exception):
    pass


class FarTooDear(TooDear):
    pass


def session_of(user: User | None = None) -> Session:
    return Session(id="s", user=user, remote="h:1", version="1.2", headers={}, close=lambda *_: None)


def call(
    function: Callable[..., Any],
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    user: User | None = None,
    destination: str = "/app/x",
    template: str | None = None,
    app: StompApp | None = None,
    resources: Mapping[Any, object] | None = None,
) -> Any:
    """Route one message to a handler that is a plain function, and call it as a pool's thread does."""
    app = app or StompApp()
    app.on_message(template or destination, send_to="/topic/x")(function)
    compiled = app.compile()
    if resources is not None:
        compiled.bind_resources(resources)
    found = compiled.match_message(destination)
    assert found is not None
    route, variables = found
    message = Message(destination, headers or {}, body)
    return route.function(*route.plan.arguments(message, session_of(user), variables))


def problem_of(function: Callable[..., Any], template: str = "/app/x") -> str:
    def declare_and_compile() -> None:
        app = StompApp()
        app.on_message(template)(function)
        app.compile()

    with pytest.raises(HandlerSignatureError) as caught:  # at once, or when settled
        declare_and_compile()
    return str(caught.value)


# What fills a parameter.


def test_payload_is_structured_as_its_annotation_says() -> None:
    def handler(message: Say) -> Say:
        return message

    assert call(handler, body=b'{"text": "hi"}') == Say("hi")


def test_payload_that_does_not_fit_is_told_by_path() -> None:
    def handler(message: Say) -> None: ...

    with pytest.raises(ConversionError, match=r"required field missing @ \$\.text"):
        call(handler, body=b"{}")


def test_name_in_braces_is_the_destination_variable() -> None:
    def handler(room: str, message: Say) -> object:
        return room, message

    found = call(handler, template="/app/chat/{room}", destination="/app/chat/1", body=b'{"text": ""}')
    assert found == ("1", Say(""))


def handle_int(it: int) -> object:
    return it


def handle_float(it: float) -> object:
    return it


def handle_bool(it: bool) -> object:
    return it


def handle_uuid(it: UUID) -> object:
    return it


def handle_enum(it: Colour) -> object:
    return it


def handle_new_type(it: RoomName) -> object:
    return it


def handle_annotated(it: Annotated[int, "an id"]) -> object:
    return it


def handle_bare(it) -> object:  # type: ignore[no-untyped-def]
    return it


@pytest.mark.parametrize(
    ("handler", "text", "value"),
    [
        (handle_int, "-7", -7),
        (handle_float, "1.5", 1.5),
        (handle_bool, "true", True),
        (handle_bool, "false", False),
        (handle_uuid, "12345678123456781234567812345678", UUID("12345678123456781234567812345678")),
        (handle_enum, "red", Colour.RED),
        (handle_new_type, "r", "r"),
        (handle_annotated, "7", 7),
        (handle_bare, "r", "r"),
    ],
)
def test_variable_is_converted_to_its_annotation(
    handler: Callable[..., Any], text: str, value: object
) -> None:
    found = call(handler, template="/app/{it}", destination=f"/app/{text}")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (handle_int, "x"),
        (handle_int, "1.5"),
        (handle_bool, "maybe"),
        (handle_uuid, "1"),
        (handle_enum, "RED"),
    ],
)
def test_variable_that_does_not_fit_is_told_by_its_name(handler: Callable[..., Any], text: str) -> None:
    with pytest.raises(ConversionError, match=r"@ \{it\}"):
        call(handler, template="/app/{it}", destination=f"/app/{text}")


def test_header_is_read_and_converted() -> None:
    def handler(tries: Annotated[int, Header("tries")]) -> object:
        return tries

    assert call(handler, headers={"tries": "3"}) == 3


def test_missing_header_is_told_by_its_name() -> None:
    def handler(token: Annotated[str, Header("x-token")]) -> None: ...

    with pytest.raises(ConversionError, match="required header missing: x-token"):
        call(handler)


def test_missing_header_is_the_default_where_there_is_one() -> None:
    def handler(tries: Annotated[int, Header("tries")] = 5) -> object:
        return tries

    assert call(handler) == 5


def test_missing_header_is_none_where_that_is_allowed() -> None:
    def handler(tries: Annotated[int | None, Header("tries")]) -> object:
        return tries

    assert call(handler) is None
    assert call(handler, headers={"tries": "1"}) == 1


def test_header_that_does_not_fit_is_told_by_name_and_without_its_value() -> None:
    def handler(tries: Annotated[int, Header("tries")]) -> None: ...

    with pytest.raises(ConversionError, match="tries") as caught:
        call(handler, headers={"tries": "secret"})
    assert "secret" not in str(caught.value)


def test_message_and_session_come_by_their_types() -> None:
    def handler(what: Message, who: Session) -> object:
        return what.destination, what.headers, what.body, who.id

    found = call(handler, body=b"\xff", headers={"a": "b"}, destination="/app/x")
    assert found == ("/app/x", {"a": "b"}, b"\xff", "s")


def test_user_comes_by_her_type() -> None:
    def handler(user: User) -> object:
        return user

    assert call(handler, user=User("ada")) == User("ada")


def test_handler_that_asks_for_the_user_is_denied_to_a_session_without_one() -> None:
    def handler(user: User) -> None: ...

    with pytest.raises(AccessDenied):
        call(handler)


def test_user_who_may_be_none_is_none_for_a_session_without_one() -> None:
    def handler(user: User | None) -> object:
        return user

    assert call(handler) is None


def test_handler_that_asks_for_an_admin_is_denied_to_others() -> None:
    def handler(user: Admin) -> object:
        return user

    assert call(handler, user=Admin("ada")) == Admin("ada")
    with pytest.raises(AccessDenied):
        call(handler, user=User("eve"))


def test_user_of_either_class_is_let_in() -> None:
    def handler(user: Admin | Bot) -> object:
        return user

    assert call(handler, user=Bot("b")) == Bot("b")
    with pytest.raises(AccessDenied):
        call(handler, user=User("eve"))


def app_with_api() -> StompApp:
    app = StompApp()

    @app.lifespan
    async def api() -> AsyncIterator[Api]:
        yield Api()

    return app


def test_resource_comes_by_the_type_that_the_lifespan_yields() -> None:
    def handler(api: Api, message: Say) -> object:
        return api, message

    api = Api()
    found = call(handler, app=app_with_api(), body=b'{"text": ""}', resources={Api: api})
    assert found == (api, Say(""))


def test_resource_before_the_lifespan_runs_is_an_error_that_names_it() -> None:
    def handler(api: Api) -> None: ...

    with pytest.raises(Exception, match="Api"):
        call(handler, app=app_with_api())


def test_empty_body_is_the_default_of_a_payload_that_has_one() -> None:
    def handler(message: Say = Say("nothing")) -> object:
        return message

    assert call(handler) == Say("nothing")
    assert call(handler, body=b'{"text": "hi"}') == Say("hi")


def test_empty_body_is_none_for_a_payload_that_may_be_none() -> None:
    def handler(message: Say | None) -> object:
        return message

    assert call(handler) is None
    assert call(handler, body=b'{"text": "hi"}') == Say("hi")


def test_empty_body_is_refused_by_a_payload_that_needs_one() -> None:
    def handler(message: Say) -> None: ...

    with pytest.raises(ConversionError):
        call(handler)


def test_keyword_only_parameter_with_a_default_is_left_alone() -> None:
    def handler(message: Say, *, limit: int = 3) -> object:
        return limit

    assert call(handler, body=b'{"text": "hi"}') == 3


def test_method_of_an_object_can_be_a_handler() -> None:
    class Desk:
        def handle(self, message: Say) -> object:
            return self, message

    desk = Desk()
    assert call(desk.handle, body=b'{"text": "hi"}') == (desk, Say("hi"))


def test_wrapped_function_is_filled_by_its_own_signature() -> None:
    def inner(message: Say) -> Say:
        return message

    @functools.wraps(inner)
    def handler(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    assert call(handler, body=b'{"text": "hi"}') == Say("hi")


# What is told when nothing fills it.


def test_payload_without_annotation_is_told() -> None:
    def handler(message) -> None: ...  # type: ignore[no-untyped-def]

    said = problem_of(handler)
    assert "test_handlers" in said
    assert "handler" in said
    assert "'message'" in said
    assert "annotation" in said


def test_second_payload_is_told_with_what_was_expected() -> None:
    def handler(message: Say, other: Say) -> None: ...

    said = problem_of(handler)
    assert "'other'" in said
    assert "'message' is the payload already" in said


def test_type_that_nothing_can_make_is_told() -> None:
    def handler(api: Api) -> None: ...

    said = problem_of(handler)
    assert "'api'" in said
    assert "Api" in said


def test_variable_of_a_type_that_text_cannot_become_is_told() -> None:
    def handler(room: Api) -> None: ...

    said = problem_of(handler, "/app/{room}")
    assert "'room'" in said


def test_starred_parameters_are_told() -> None:
    def handler(*args: Say) -> None: ...
    def other(**kwargs: Say) -> None: ...

    assert "args" in problem_of(handler)
    assert "kwargs" in problem_of(other)


def test_keyword_only_parameter_without_default_is_told() -> None:
    def handler(*, message: Say) -> None: ...

    said = problem_of(handler)
    assert "'message'" in said
    assert "keyword-only" in said


def test_class_made_inside_a_function_is_told_by_parameter_and_name() -> None:
    @attrs.frozen
    class Local:
        text: str

    def handler(room: str, message: Local) -> None: ...

    said = problem_of(handler, "/app/{room}")
    assert "'message'" in said
    assert "Local" in said
    assert "module" in said


def test_class_imported_for_types_only_is_told() -> None:
    def handler(message: OnlyForTypes) -> None: ...

    said = problem_of(handler)
    assert "'message'" in said
    assert "TYPE_CHECKING" in said


def test_all_problems_of_all_handlers_are_told_at_once() -> None:
    app = StompApp()

    @app.on_message("/app/a")
    def first(message: Say, other: Say) -> None: ...

    @app.on_message("/app/b")
    def second(api: Api) -> None: ...

    @app.on_message("/app/c")
    def third(message: Say) -> None: ...

    with pytest.raises(HandlerSignatureError) as caught:
        app.compile()
    said = str(caught.value)
    assert "first" in said
    assert "second" in said
    assert "third" not in said


def test_exception_outside_an_exception_handler_is_told() -> None:
    def handler(error: TooDear) -> None: ...

    assert "'error'" in problem_of(handler)


def test_header_without_its_name_is_told() -> None:
    def handler(token: Annotated[str, Header]) -> None: ...

    assert "Header(" in problem_of(handler)


def test_request_to_connect_is_for_on_connect_only() -> None:
    def handler(request: ConnectRequest) -> None: ...

    assert "on_connect" in problem_of(handler)


# Exception handlers.


def exception_call(function: Callable[..., Any], error: Exception, kind: type[Exception]) -> Any:
    app = StompApp()
    app.exception_handler(kind)(function)
    route = app.compile().exception_route(error)
    assert route is not None
    message = Message("/app/x", {"tries": "3"}, b"")
    return route.function(*route.plan.arguments(message, session_of(User("ada")), {}, error))


def test_exception_handler_gets_the_exception_message_user_session_and_headers() -> None:
    def handler(
        error: TooDear, what: Message, user: User, who: Session, tries: Annotated[int, Header("tries")]
    ) -> object:
        return error, what.destination, user, who.id, tries

    error = TooDear()
    assert exception_call(handler, error, TooDear) == (error, "/app/x", User("ada"), "s", 3)


def test_exception_handler_may_ask_for_a_base_of_its_exception() -> None:
    def handler(error: Exception) -> object:
        return error

    error = FarTooDear()
    assert exception_call(handler, error, TooDear) is error


@pytest.mark.parametrize("kind", [FarTooDear, ValueError])
def test_exception_handler_that_asks_for_another_exception_is_told(kind: type[Exception]) -> None:
    def handler(error: Any) -> None: ...

    handler.__annotations__["error"] = kind
    app = StompApp()
    app.exception_handler(TooDear)(handler)
    with pytest.raises(HandlerSignatureError, match="TooDear"):
        app.compile()


def test_exception_handler_has_no_payload() -> None:
    def handler(error: TooDear, message: Say) -> None: ...

    app = StompApp()
    app.exception_handler(TooDear)(handler)
    with pytest.raises(HandlerSignatureError, match="payload"):
        app.compile()
