"""A body becomes a value of the type that a handler asks for, and a returned value becomes a body.

Rule 1: what a type needs is settled once, by a hook; a message costs one call of it.
Rule 2: nothing is guessed. JSON's null is no string and its 1.5 no integer (cattrs alone takes str(None)).
Rule 3: a client learns the path of what does not fit, and nothing of our insides.
"""

from __future__ import annotations

import enum
import json
import re
import types
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Final, NewType, NoReturn, Union, get_args, get_origin, is_typeddict

import attrs
import cattrs
from cattrs.preconf.json import make_converter as make_json_converter

from trio_stomp.errors import ConversionError
from trio_stomp.messages.json_codec import fast_reader, fast_writer, standard_writer
from trio_stomp.messages.strict import make_strict

Reader = Callable[[bytes, str | None], Any]
"""Body and content-type to a value; raises ConversionError."""

TextHook = Callable[[str], Any]
"""A header's or destination variable's text to a value; raises ConversionError without a path."""

TEXT: Final = "text/plain;charset=utf-8"
BINARY: Final = "application/octet-stream"
JSON: Final = "application/json"

_UTF8: Final = frozenset(("utf-8", "utf8", "us-ascii", "ascii"))
_TRUE: Final = frozenset(("true", "1", "yes", "on"))
_FALSE: Final = frozenset(("false", "0", "no", "off"))
_INTEGER: Final = re.compile(r"-?[0-9]{1,100}")

_SAY_WHERE: Final = 8192
"""Bytes of the largest body whose problems are all looked for, and told by their paths. cattrs takes 25 us
for each: a body of 4 MiB could have 1.4 million, which held up the whole server for 35 seconds."""

_PROBLEMS: Final = 20
"""Problems told of one body, and 200 characters of each: enough to mend it, and the answer stays small."""

_CACHED_TYPES: Final = 1024
"""Types of returned values whose hook is remembered; past it the cache starts anew. Apps have tens."""


class Converter:
    """Between bodies and values, by content-type; cattrs does the structuring.

    Args:
        converter: your own cattrs converter, used as it is; None: a fresh JSON converter of cattrs
            that takes no value for another type's.
        fast_json: read and write JSON with msgspec and orjson where these are installed; the values are the
            same.
    """

    def __init__(self, converter: cattrs.Converter | None = None, *, fast_json: bool = True) -> None:
        self.cattrs = make_strict(make_json_converter()) if converter is None else converter
        self._unstructure_hooks: dict[Any, Callable[[Any], Any]] = {}
        self._read_json = (fast_reader() if fast_json else None) or _read
        self._write_json = fast_writer() if fast_json else None
        self._encode_json = standard_writer()

    def reader(self, annotation: Any) -> Reader:
        """What turns bodies into ``annotation``'s values; for making once per handler.

        ``bytes`` is the body as it is. ``str`` is text (``text/*``, or without a content-type) or a
        JSON string. Everything else is JSON: ``application/json``, ``…+json``, or without a content-type.

        Raises:
            TypeError: cattrs knows no way to make an ``annotation``; the text names what is in the way.
        """
        inner = split_optional(annotation)[1]
        if inner is bytes:
            return lambda body, content_type: body
        from_json = self._json_hook(annotation)
        if inner is not str:
            return from_json

        def from_text(body: bytes, content_type: str | None) -> Any:
            if content_type is not None and not _is_text(content_type):
                return from_json(body, content_type)
            return _decode(body)

        return from_text

    def text_hook(self, annotation: Any) -> TextHook | None:
        """What turns a header or destination variable into ``annotation``'s values; None: as it is.

        Knows str, int, float, bool (true/false, 1/0, yes/no, on/off), UUID, enums by value, and what cattrs
        structures from a string (datetime, Literal, …). Of ``X | None`` it makes an X.

        Raises:
            TypeError: it knows no way.
        """
        inner = split_optional(annotation)[1]
        while isinstance(inner, NewType):
            inner = inner.__supertype__
        name = type_name(inner)
        convert: Callable[[str], Any]
        if inner is str or inner is Any or inner is object:
            return None
        if inner is bool:
            convert = _bool
        elif inner is int:
            convert = _int
        elif inner in (float, uuid.UUID):
            convert = inner
        elif isinstance(inner, type) and issubclass(inner, enum.Enum):
            members = {str(member.value): member for member in inner}
            convert = members.__getitem__
        else:
            hook = self._cattrs_hook(inner)
            convert = lambda text: hook(text, inner)  # noqa: E731

        def from_text(text: str) -> Any:
            try:
                return convert(text)
            except Exception as error:  # whatever a user's hook raises: the text does not fit
                raise ConversionError([f"invalid value, expected {name}"]) from error

        return from_text

    def encode(self, value: Any, annotation: Any = None) -> tuple[bytes, str]:
        """Body and content-type of a value: str is text, bytes are as they are, all else is JSON.

        Args:
            annotation: unstructure it as this type instead of its own (for tagged unions).

        Raises:
            TypeError, ValueError: JSON has no way to say it (NaN, an unknown class); the text names the type.
        """
        kind = type(value)
        hook = self._unstructure_hooks.get(kind) if annotation is None else None
        if hook is None:  # else it is known to be neither text nor bytes
            if kind is str or (isinstance(value, str) and not isinstance(value, enum.Enum)):
                return value.encode(), TEXT
            if isinstance(value, bytes | bytearray | memoryview):
                return bytes(value), BINARY
            key = kind if annotation is None else annotation
            hook = self._unstructure_hooks.get(key) or self._new_unstructure_hook(key)
        try:
            plain = hook(value)
            if self._write_json is not None and (written := self._write_json(plain)) is not None:
                return written, JSON
            text = self._encode_json(plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"cannot write a {type_name(kind)} as JSON: {error}") from error
        try:
            return text.encode(), JSON
        except UnicodeEncodeError:  # a lone surrogate, which JSON can only escape
            return json.dumps(json.loads(text)).encode(), JSON

    def _new_unstructure_hook(self, key: Any) -> Callable[[Any], Any]:
        if len(self._unstructure_hooks) >= _CACHED_TYPES:
            self._unstructure_hooks.clear()
        hook: Callable[[Any], Any] = self.cattrs.get_unstructure_hook(key)
        self._unstructure_hooks[key] = hook
        return hook

    def _cattrs_hook(self, annotation: Any, *, says_where: bool = True) -> Callable[[Any, Any], Any]:
        # A copy each time (1 ms): it has the hooks that were registered in the meantime, too.
        converter = self.cattrs
        if converter.detailed_validation is not says_where:
            converter = converter.copy(detailed_validation=says_where)
        try:
            hook: Callable[[Any, Any], Any] = converter.get_structure_hook(annotation)
        except Exception as error:  # TypeError, StructureHandlerNotFoundError, NameError and more
            raise TypeError(f"cattrs cannot make a {type_name(annotation)}: {error}") from error
        return hook

    def _json_hook(self, annotation: Any) -> Reader:
        if annotation is Any or annotation is object:
            return _load
        hook = self._cattrs_hook(annotation, says_where=False)
        hook_that_says_where = self._cattrs_hook(annotation)
        inner = split_optional(annotation)[1]
        is_class = attrs.has(inner) or hasattr(inner, "__dataclass_fields__") or is_typeddict(inner)
        name = type_name(annotation)
        read = self._read_json

        def from_json(body: bytes, content_type: str | None) -> Any:
            if content_type is not None and content_type != JSON:
                _check_json(content_type, name)
            try:
                raw = read(body)
            except (ValueError, RecursionError):  # which may be no error but unusual: this one says
                raw = _load(body, None)
            try:
                return hook(raw, annotation)
            except Exception as error:  # whatever a user's validator raises: the payload does not fit
                if is_class and not isinstance(raw, dict):
                    raise ConversionError([f"expected a JSON object for {name} @ $"]) from error
                if len(body) > _SAY_WHERE:
                    raise ConversionError([f"invalid value for type, expected {name} @ $"]) from error
            try:
                return hook_that_says_where(raw, annotation)
            except Exception as error:
                raise ConversionError(_problems(error, name)) from error

        return from_json


def split_optional(annotation: Any) -> tuple[bool, Any]:
    """Whether None is allowed, and the annotation without it: ``(True, X)`` for ``X | None``."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation is None or annotation is type(None), annotation
    members = [member for member in get_args(annotation) if member is not type(None)]
    if len(members) == len(get_args(annotation)):
        return False, annotation
    return True, Union[tuple(members)]  # noqa: UP007  built at run time


def type_name(annotation: Any) -> str:
    """What a person calls the type: ``Say``, ``list[Say]``, ``Say | None``; no module names."""
    origin, members = get_origin(annotation), get_args(annotation)
    if annotation is None or annotation is type(None):
        return "None"
    if origin is Annotated:
        return type_name(members[0])
    if origin in (Union, types.UnionType):
        return " | ".join(map(type_name, members))
    if isinstance(origin, type) and members:
        return f"{origin.__name__}[{', '.join(map(type_name, members))}]"
    if isinstance(annotation, type):
        return annotation.__name__
    return "..." if annotation is Ellipsis else str(annotation).replace("typing.", "")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def _read(body: bytes) -> Any:
    """The JSON value of a body without blanks around it, which takes 0.4 us of 1.6; else a ValueError."""
    text = body.decode()
    raw, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise ValueError("there is more")
    return raw


def _decode(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ConversionError([f"body is not UTF-8 text: {error.reason} at byte {error.start}"]) from error


def _load(body: bytes, content_type: str | None) -> Any:
    """The JSON value of a body, whatever its blanks; any way to fail becomes a ConversionError."""
    if content_type is not None and content_type != JSON:
        _check_json(content_type, "JSON value")
    text = _decode(body)
    if not text or text.isspace():
        raise ConversionError(["required payload missing: the body is empty"])
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ConversionError([f"body is not JSON: {error.msg} at {where}"]) from error
    except RecursionError as error:
        raise ConversionError(["body is not usable JSON: nested too deeply"]) from error
    except ValueError as error:
        reason = error if str(error).endswith("is not JSON") else "an integer has too many digits"
        raise ConversionError([f"body is not usable JSON: {reason}"]) from error


def _media_type(content_type: str) -> str:
    """``type/subtype`` in lower case, its charset checked."""
    kind, *parameters = content_type.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(" \t\"'").lower() not in _UTF8:
            raise ConversionError([f"cannot read charset {value.strip()!r}: send UTF-8"])
    return kind.strip().lower()


def _is_text(content_type: str) -> bool:
    return _media_type(content_type).startswith("text/")


def _check_json(content_type: str, name: str) -> None:
    kind = _media_type(content_type)
    if kind != JSON and not kind.endswith("+json"):
        raise ConversionError([f"cannot read content-type {content_type!r} as {name}: send {JSON}"])


def _bool(text: str) -> bool:
    lower = text.lower()
    if lower in _TRUE:
        return True
    if lower in _FALSE:
        return False
    raise ValueError(text)


def _int(text: str) -> int:
    """One text for one number: Python's int() also takes ``1_0``, blanks and other scripts' digits."""
    if _INTEGER.fullmatch(text) is None:
        raise ValueError(text)
    return int(text)


def _problems(error: Exception, name: str) -> list[str]:
    if isinstance(error, cattrs.ClassValidationError | cattrs.IterableValidationError):
        found = cattrs.transform_error(error, format_exception=_describe)
        more = [] if len(found) <= _PROBLEMS else [f"and {len(found) - _PROBLEMS} more"]
        return [_shortened(problem) for problem in found[:_PROBLEMS]] + more
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return [f"{_describe(error, None)} @ $"]
    return [f"invalid value for type, expected {name} @ $"]


def _shortened(problem: str) -> str:
    return problem if len(problem) <= 200 else f"{problem[:97]}...{problem[-100:]}"


def _describe(error: BaseException, expected: Any) -> str:
    """One problem in words; a validator's own text where there is one, else cattrs' words."""
    if isinstance(error, KeyError) and expected is not None:
        return "required field missing"
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        return f"extra fields found ({', '.join(sorted(error.extra_fields))})"
    if expected is not None:
        return f"invalid value for type, expected {type_name(expected)}"
    if isinstance(error, ValueError) and error.args and isinstance(error.args[0], str):
        return f"invalid value: {error.args[0][:200]}"  # raised by the payload class's own validator
    return "invalid value"
