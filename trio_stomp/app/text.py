"""Text that becomes a value: what a destination variable or a header says, as its annotation wants it."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, Literal, NewType, Union, get_args, get_origin
from uuid import UUID

TextReader = Callable[[str], object]
"""Raises ValueError, with what was expected as its text."""

# ASCII only, no "+", "_" or spaces: int() takes more, and one room would have many destinations.
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,100}")


def _bool(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise ValueError("expected true or false")


def _int(text: str) -> int:
    if _WHOLE_NUMBER.fullmatch(text) is None:
        raise ValueError("expected a whole number")
    return int(text)


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:
        raise ValueError("expected a number")
    return number


def _decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or "_" in text:
        raise ValueError("expected a number")
    return number


def _parsed(parse: Callable[[str], object], expected: str) -> TextReader:
    def read(text: str) -> object:
        try:
            return parse(text)
        except ValueError:
            raise ValueError(f"expected {expected}") from None

    return read


_READERS: Final[Mapping[object, TextReader]] = MappingProxyType(
    {
        str: str,
        bool: _bool,
        int: _int,
        float: _float,
        Decimal: _decimal,
        UUID: _parsed(UUID, "a UUID"),
        date: _parsed(date.fromisoformat, "a date"),
        datetime: _parsed(datetime.fromisoformat, "a date and time"),
    }
)


def _choice(choices: Mapping[str, object]) -> TextReader:
    expected = f"expected one of {', '.join(choices)}"

    def read(text: str) -> object:
        try:
            return choices[text]
        except KeyError:
            raise ValueError(expected) from None

    return read


def without_none(annotation: Any) -> tuple[Any, bool]:
    """Take ``None`` out of a union: the rest, and whether it was there."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    members = get_args(annotation)
    rest = tuple(member for member in members if member is not NoneType)
    if len(rest) == len(members):
        return annotation, False
    return Union[rest], True  # noqa: UP007  its members are known at run time only


def text_reader(annotation: Any) -> TextReader:
    """Return what turns text into a value of this type.

    Raises:
        TypeError: text does not become such a value; its text lists what it does become.
    """
    if isinstance(annotation, NewType):
        return text_reader(annotation.__supertype__)
    if get_origin(annotation) is Literal:
        return _choice({str(value): value for value in get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _choice({str(member.value): member for member in annotation})
    try:
        return _READERS[annotation]
    except (KeyError, TypeError):
        known = ", ".join(kind.__name__ for kind in _READERS if isinstance(kind, type))
        raise TypeError(f"text becomes a {known}, an Enum or a Literal") from None
