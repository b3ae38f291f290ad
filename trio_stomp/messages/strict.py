"""cattrs for JSON that takes no value for another type's.

cattrs calls ``str(value)`` and ``int(value)``: ``{"text": null}`` would become the text "None", 1.9 the
integer 1, and the string "ab" a list of two. From strangers that is a mistake to be told about.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Mapping
from datetime import time
from decimal import Decimal
from types import GenericAlias, MappingProxyType
from typing import Any, Final, cast, get_args, get_origin
from uuid import UUID

import cattrs
from cattrs.cols import list_structure_factory, mapping_structure_factory

_MADE_OF_A_LIST: Final[Mapping[Any, Callable[[list[Any]], Any] | None]] = MappingProxyType(
    {list: None, tuple: tuple, set: set, frozenset: frozenset, deque: deque}
)
"""What is made of a JSON list whose elements are all of one type."""


class _IntegerKey(int):
    """An integer that names a member of a JSON object, where every name is a string."""


def make_strict(converter: cattrs.Converter) -> cattrs.Converter:
    """Give ``converter`` hooks for JSON's own types that raise TypeError for another's; return it.

    An integer is taken where a float is asked for. ``object`` takes anything, as ``Any`` does. Integer keys
    are read from a JSON object's names. Further: bytes are Base64 (what a browser can read; cattrs' own
    Base85 is not), UUID, Decimal and time are strings. Costs 0.1 us a field.
    """
    converter.register_structure_hook(str, _str)
    converter.register_structure_hook(int, _int)
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(bool, _bool)
    converter.register_structure_hook(_IntegerKey, _integer_key)
    converter.register_structure_hook_func(lambda kind: kind is object, lambda value, _: value)
    converter.register_unstructure_hook_func(
        lambda kind: kind is object,
        lambda value: value if value.__class__ is object else converter.unstructure(value),
    )
    converter.register_structure_hook_factory(_is_made_of_a_list, _list_factory)
    converter.register_structure_hook_factory(_has_integer_keys, _integer_keys_factory)
    converter.register_structure_hook(bytes, lambda value, _: _from_base64(_str(value, str)))
    converter.register_unstructure_hook(bytes, lambda value: b64encode(value).decode())
    converter.register_structure_hook(UUID, lambda value, _: UUID(_str(value, str)))
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(Decimal, _decimal)
    converter.register_unstructure_hook(Decimal, str)
    converter.register_structure_hook(time, lambda value, _: time.fromisoformat(value))
    converter.register_unstructure_hook(time, time.isoformat)
    return converter


# cattrs hands these hooks subclasses of str, int and float too, an IntEnum for one: `kind` makes the value.


def _str(value: Any, kind: Any) -> Any:
    if value.__class__ is str:
        return value if kind is str else _as(kind, value)
    raise TypeError("expected a string")


def _int(value: Any, kind: Any) -> Any:
    if value.__class__ is int:  # bool's class is bool
        return value if kind is int else _as(kind, value)
    raise TypeError("expected an integer")


def _float(value: Any, kind: Any) -> Any:
    if value.__class__ is float or value.__class__ is int:
        return float(value) if kind is float else _as(kind, float(value))
    raise TypeError("expected a number")


def _bool(value: Any, _: Any) -> Any:
    if value.__class__ is bool:
        return value
    raise TypeError("expected true or false")


def _as(kind: Any, value: Any) -> Any:
    return kind(value) if isinstance(kind, type) else value


def _integer_key(name: Any, _: Any) -> int:
    number = int(name)
    if str(number) != name:  # int() takes "+1", " 1 " and "1_0" as well, which would be one key by many names
        raise ValueError("expected an integer")
    return number


def _decimal(value: Any, _: Any) -> Decimal:
    if value.__class__ is not str and value.__class__ is not int:  # a float has lost digits already
        raise TypeError("expected a string or an integer")
    number = Decimal(value)  # ArithmeticError for what is no number
    if not number.is_finite():
        raise ValueError("expected a finite number")
    return number


def _from_base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("expected Base64") from error


def _is_made_of_a_list(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    try:
        known = origin in _MADE_OF_A_LIST
    except TypeError:  # an annotation that cannot be hashed
        return False
    arguments = get_args(kind)
    return known and (origin is not tuple or not arguments or arguments[1:] == (...,))


def _list_factory(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    make = _MADE_OF_A_LIST[get_origin(kind) or kind]
    element = (*get_args(kind), Any)[0]
    kind_of_list = GenericAlias(list, (element,))
    structure = list_structure_factory(cast(type, kind_of_list), converter)

    def from_list(value: Any, _: Any) -> Any:
        if value.__class__ is not list:
            raise TypeError("expected a list")
        elements = structure(value, kind_of_list)
        return elements if make is None else make(elements)

    return from_list


def _has_integer_keys(kind: Any) -> bool:
    return get_origin(kind) is dict and get_args(kind)[0] is int


def _integer_keys_factory(kind: Any, converter: cattrs.BaseConverter) -> Callable[[Any, Any], Any]:
    return mapping_structure_factory(
        kind, converter, key_type=_IntegerKey, detailed_validation=converter.detailed_validation
    )
