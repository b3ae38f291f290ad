"""A handler's signature becomes a plan: for each parameter, what fills it.

Rule 1: all inspection happens when a plan is made; a message costs one call per parameter.
Rule 2: the first that fits fills a parameter: a destination variable by name, a `Header`, the
exception, `Message`, `User`, `Session`, a resource of the lifespan by type; the one left is the payload.
Rule 3: everything wrong with a signature is told at once.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import attrs

from trio_stomp.app.session import ConnectRequest, Session
from trio_stomp.errors import AccessDenied, ConversionError, HandlerSignatureError, TrioStompError
from trio_stomp.messages.conversion import Converter, split_optional, type_name
from trio_stomp.messages.message import Message, User

Fill = Callable[[Message, Session, Mapping[str, str], BaseException | None], object]
"""Makes one argument from a message, its session, its destination's variables and what was raised."""

_EMPTY = inspect.Parameter.empty


@attrs.frozen
class Header:
    """Marks a parameter as a STOMP header: ``token: Annotated[str, Header("x-token")]``.

    A header that is missing is the parameter's default; without one it is None where the annotation
    allows None, else a `ConversionError`. Names are case-sensitive, as in STOMP.
    """

    name: str


@attrs.frozen
class Parameter:
    """One parameter of a handler: its name, and in words what fills it."""

    name: str
    source: str


@attrs.frozen(eq=False)
class Plan:
    """How a handler's arguments are made.

    Attributes:
        parameters: those that are filled, in their order.
        has_payload: whether one of them is the body's value.
    """

    parameters: tuple[Parameter, ...]
    has_payload: bool
    _fills: tuple[Fill, ...] = attrs.field(repr=False)

    def arguments(
        self,
        message: Message,
        session: Session,
        variables: Mapping[str, str],
        error: BaseException | None = None,
    ) -> tuple[object, ...]:
        """Return what the handler is to be called with, in order.

        Raises:
            ConversionError: payload, header or variable does not fit its annotation.
            AccessDenied: the handler asks for a `User` that the session has not.
        """
        fills = self._fills
        if len(fills) == 1:  # the payload alone, most often
            return (fills[0](message, session, variables, error),)
        return tuple([fill(message, session, variables, error) for fill in fills])


@attrs.frozen(kw_only=True)
class Offer:
    """What a handler's parameters may be filled from, besides the message and its session.

    Attributes:
        converter: reads payload, headers and variables.
        resource_types: what the app's lifespans say they yield.
        resources: what they did yield; filled while they run, and read at each call.
        variables: names of the destination's variables.
        error: the exception type of an exception handler; None for others.
        no_payload: why there is no payload; None where there is one.
    """

    converter: Converter
    resource_types: frozenset[Any] = frozenset()
    resources: Mapping[Any, object] = attrs.field(factory=dict)
    variables: tuple[str, ...] = ()
    error: type[Exception] | None = None
    no_payload: str | None = None


def name_of(function: Callable[..., object]) -> str:
    """``module.function``, as it stands in errors and in what ``check`` prints."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"


def make_plan(function: Callable[..., object], offer: Offer) -> Plan:
    """Settle what fills each parameter of ``function``.

    Raises:
        HandlerSignatureError: with a line for each parameter that cannot be filled.
    """
    problems: list[str] = []
    parameters: list[Parameter] = []
    fills: list[Fill] = []
    payload: str | None = None
    for parameter, annotation in _annotated(function, problems):
        name = parameter.name
        try:
            filled = _from_surroundings(parameter, annotation, offer)
            if filled is None:
                if payload is not None:
                    raise TypeError(_second_payload(annotation, payload, offer))
                filled = _payload(parameter, annotation, offer)
                payload = name
        except TypeError as error:
            problems.append(_problem(function, name, str(error)))
            continue
        source, fill = filled
        parameters.append(Parameter(name, source))
        fills.append(fill)
    if problems:
        raise HandlerSignatureError("\n".join(problems))
    return Plan(tuple(parameters), payload is not None, tuple(fills))


def make_connect_plan(
    function: Callable[..., object], offer: Offer
) -> Callable[[ConnectRequest], tuple[object, ...]]:
    """As `make_plan` for an ``on_connect`` handler, which gets the `ConnectRequest` and resources.

    Raises:
        HandlerSignatureError: with a line for each parameter that cannot be filled.
    """
    problems: list[str] = []
    fills: list[Callable[[ConnectRequest], object]] = []
    for parameter, annotation in _annotated(function, problems):
        if annotation is ConnectRequest:
            fills.append(lambda request: request)
        elif annotation in offer.resource_types:
            fills.append(lambda request, kind=annotation: _resource(offer, kind))  # type: ignore[misc]
        else:
            expected = ", ".join(["ConnectRequest", *_resource_names(offer)])
            problems.append(_problem(function, parameter.name, f"expected {expected}, {_got(annotation)}"))
    if problems:
        raise HandlerSignatureError("\n".join(problems))
    return lambda request: tuple([fill(request) for fill in fills])


def return_type(function: Callable[..., object]) -> Any:
    """Return a function's resolved return annotation; None when it has none.

    Raises:
        HandlerSignatureError: it cannot be resolved.
    """
    annotation = inspect.signature(function).return_annotation
    if annotation is inspect.Signature.empty:
        return None
    try:
        return _resolved(annotation, getattr(inspect.unwrap(function), "__globals__", {}))
    except Exception as error:  # an annotation is any expression
        raise HandlerSignatureError(
            f"{name_of(function)}: the return annotation {_unresolved(annotation, error)}"
        ) from error


def _annotated(
    function: Callable[..., object], problems: list[str]
) -> Iterator[tuple[inspect.Parameter, Any]]:
    """Yield each parameter to be filled with its annotation resolved; what cannot be is a problem."""
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            problems.append(_problem(function, parameter.name, "nothing fills *args or **kwargs"))
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.default is _EMPTY:
                text = "arguments are passed by position, a keyword-only one needs a default"
                problems.append(_problem(function, parameter.name, text))
            continue
        if parameter.annotation is _EMPTY:
            yield parameter, _EMPTY
            continue
        try:
            annotation = _resolved(parameter.annotation, namespace)
        except Exception as error:  # an annotation is any expression
            text = f"the annotation {_unresolved(parameter.annotation, error)}"
            problems.append(_problem(function, parameter.name, text))
            continue
        yield parameter, annotation


def _unresolved(annotation: object, error: Exception) -> str:
    return (
        f"{annotation!r} cannot be resolved ({error}); it is looked up in the handler's module, so a class "
        "made inside a function or imported under TYPE_CHECKING is not found"
    )


def _resolved(annotation: object, namespace: dict[str, Any]) -> Any:
    """One annotation by itself, so that an error can be said to be this parameter's."""

    class Alone:
        pass

    Alone.__annotations__ = {"it": annotation}
    found: Any = typing.get_type_hints(Alone, globalns=namespace, include_extras=True)["it"]
    while type(found).__name__ == "TypeAliasType":  # type X = …, from Python 3.12 on
        found = found.__value__
    hash(found)  # resources are looked up by it
    return found


def _from_surroundings(
    parameter: inspect.Parameter, annotation: Any, offer: Offer
) -> tuple[str, Fill] | None:
    """What fills a parameter other than the payload: in words, and the call; None: nothing does.

    Raises:
        TypeError: it is meant to be one of these and cannot be.
    """
    if parameter.name in offer.variables:
        return _variable(parameter.name, annotation, offer)
    marked = _header_of(annotation)
    if marked is not None:
        return _header(marked[0], marked[1], annotation, parameter.default, offer)
    is_optional, inner = split_optional(annotation)
    if _is_union_of(inner, BaseException):
        if offer.error is None:
            raise TypeError("it is an exception, which only an exception_handler gets")
        if not issubclass(offer.error, _members(inner)):
            raise TypeError(f"it handles {offer.error.__name__}, which is no {type_name(inner)}")
        return "the exception", lambda message, session, variables, error: error
    if inner is Message:
        return "the message", lambda message, session, variables, error: message
    if inner is Session:
        return "the session", lambda message, session, variables, error: session
    if _is_union_of(inner, User):
        return "the user", _user(_members(inner), is_optional)
    if annotation is ConnectRequest:
        raise TypeError("only on_connect gets the ConnectRequest; ask for the Session")
    if inner in offer.resource_types:
        kind = inner
        return f"{type_name(kind)} of the lifespan", lambda *_: _resource(offer, kind)
    return None


def _variable(name: str, annotation: Any, offer: Offer) -> tuple[str, Fill]:
    convert = None if annotation is _EMPTY else offer.converter.text_hook(annotation)
    source = f"the destination's {{{name}}}"
    if convert is None:
        return source, lambda message, session, variables, error: variables[name]

    def fill(message: object, session: object, variables: Mapping[str, str], error: object) -> object:
        try:
            return convert(variables[name])
        except ConversionError as problem:
            raise ConversionError([f"{text} @ {{{name}}}" for text in problem.problems]) from problem

    return source, fill


def _header_of(annotation: Any) -> tuple[Header, Any] | None:
    """The `Header` that marks an annotation, and the type without the mark.

    Raises:
        TypeError: it is marked by the class instead of a header's name.
    """
    for member in _members(annotation):
        if get_origin(member) is Annotated:
            kind, *marks = get_args(member)
            for mark in marks:
                if mark is Header:
                    raise TypeError('which header? Write Annotated[…, Header("its name")]')
                if isinstance(mark, Header):
                    return mark, kind
    return None


def _header(header: Header, kind: Any, annotation: Any, default: object, offer: Offer) -> tuple[str, Fill]:
    convert = offer.converter.text_hook(kind)
    name = header.name
    is_optional = split_optional(annotation)[0] or split_optional(kind)[0]
    if default is _EMPTY and is_optional:
        default = None

    def fill(message: Message, session: object, variables: object, error: object) -> object:
        text = message.headers.get(name)
        if text is None:
            if default is _EMPTY:
                raise ConversionError([f"required header missing: {name}"])
            return default
        if convert is None:
            return text
        try:
            return convert(text)
        except ConversionError as problem:
            raise ConversionError([f"{said} @ header {name}" for said in problem.problems]) from problem

    return f"header {name!r}", fill


def _user(kinds: tuple[type[User], ...], is_optional: bool) -> Fill:
    def fill(message: Message, session: Session, variables: object, error: object) -> object:
        user = session.user
        if isinstance(user, kinds):
            return user
        if is_optional:
            return None
        # Which class was asked for is our inside; that somebody has to be logged in is not.
        reason = "log in first" if user is None else "this is not for you"
        raise AccessDenied(f"no access to {message.destination!r}: {reason}")

    return fill


def _resource(offer: Offer, kind: Any) -> object:
    try:
        return offer.resources[kind]
    except KeyError:
        raise TrioStompError(f"the lifespan that yields {type_name(kind)} is not running") from None


def _payload(parameter: inspect.Parameter, annotation: Any, offer: Offer) -> tuple[str, Fill]:
    if offer.no_payload is not None:
        raise TypeError(f"{offer.no_payload}; expected {_listed(offer)}, {_got(annotation)}")
    if annotation is _EMPTY:
        raise TypeError("it is left as the payload and needs an annotation that says of what type")
    try:
        hook = offer.converter.reader(annotation)
    except TypeError as error:
        raise TypeError(f"it is left as the payload, but {error} (and no lifespan yields one)") from error
    source = f"the payload as {type_name(annotation)}"
    default = parameter.default
    if default is _EMPTY:
        if not split_optional(annotation)[0]:
            return source, lambda message, session, variables, error: hook(
                message.body, message.headers.get("content-type")
            )
        default = None

    def fill(message: Message, session: object, variables: object, error: object) -> object:
        return hook(message.body, message.headers.get("content-type")) if message.body else default

    return source, fill


def _second_payload(annotation: Any, payload: str, offer: Offer) -> str:
    return f"{payload!r} is the payload already; expected {_listed(offer)}, {_got(annotation)}"


def _problem(function: Callable[..., object], parameter: str, text: str) -> str:
    return f"{name_of(function)}: parameter {parameter!r}: {text}"


def _got(annotation: Any) -> str:
    return "it has no annotation" if annotation is _EMPTY else f"it is annotated {type_name(annotation)}"


def _listed(offer: Offer) -> str:
    own = f"{offer.error.__name__}" if offer.error is not None else "a variable of the destination"
    fixed = [own, "Message", "User", "Session", "Annotated[…, Header(…)]"]
    return ", ".join([*fixed, *_resource_names(offer)])


def _resource_names(offer: Offer) -> list[str]:
    return sorted(map(type_name, offer.resource_types))


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the one annotation."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _is_union_of(annotation: Any, base: type) -> bool:
    return all(isinstance(member, type) and issubclass(member, base) for member in _members(annotation))
