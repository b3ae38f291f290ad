"""JSON's types are taken for themselves alone, and what JSON lacks is written as text."""

from __future__ import annotations

import enum
from collections import deque
from datetime import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import cattrs
import pytest
from cattrs.preconf.json import make_converter

from trio_stomp.messages.strict import make_strict

ID = "12345678-1234-5678-1234-567812345678"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Ratio(float, enum.Enum):
    HALF = 0.5


@pytest.fixture
def converter() -> cattrs.Converter:
    return make_strict(make_converter())


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (str, "a", "a"),
        (int, 5, 5),
        (float, 1.5, 1.5),
        (float, 1, 1.0),
        (bool, False, False),
        (object, [None], [None]),
        (Level, 1, Level.LOW),
        (Word, "yes", Word.YES),
        (Ratio, 0.5, Ratio.HALF),
        (list, [1, "a"], [1, "a"]),
        (list[int], [1], [1]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple, [1, "a"], (1, "a")),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int], [1], (1,)),
        (set[int], [1, 1], {1}),
        (frozenset[int], [1], frozenset({1})),
        (deque[int], [1], deque([1])),
        (list[tuple[int, ...]], [[1], [2]], [(1,), (2,)]),
        (dict[int, str], {"1": "a", "-2": "b"}, {1: "a", -2: "b"}),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (UUID, ID, UUID(ID)),
        (Decimal, "1.50", Decimal("1.50")),
        (Decimal, 2, Decimal(2)),
        (time, "10:00:00", time(10)),
        (bytes, "AP8=", b"\x00\xff"),
    ],
)
@pytest.mark.parametrize("detailed", [True, False])
def test_value_is_made(
    converter: cattrs.Converter, kind: Any, value: object, made: object, detailed: bool
) -> None:
    result = converter.copy(detailed_validation=detailed).structure(value, kind)
    assert result == made
    assert type(result) is type(made)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, None),
        (str, 5),
        (int, "5"),
        (int, 1.0),
        (int, True),
        (float, "1.5"),
        (float, True),
        (bool, 1),
        (bool, "true"),
        (Level, 7),
        (Level, True),
        (Word, "no"),
        (Ratio, 0.6),
        (list[str], "ab"),
        (set[str], "ab"),
        (tuple[str, ...], "ab"),
        (frozenset[str], {"a": 1}),
        (set[list[int]], [[1]]),
        (tuple[int], [1, 2]),
        (dict[int, str], {"x": "a"}),
        (dict[int, str], {"01": "a"}),
        (dict[int, str], {" 1": "a"}),
        (dict[int, str], ["a"]),
        (UUID, "x"),
        (UUID, 5),
        (Decimal, 1.5),
        (Decimal, "x"),
        (Decimal, "NaN"),
        (time, "x"),
        (time, 5),
        (bytes, "AP8"),
        (bytes, "ä"),
        (bytes, 5),
    ],
)
@pytest.mark.parametrize("detailed", [True, False])
def test_value_of_another_type_is_refused(
    converter: cattrs.Converter, kind: Any, value: object, detailed: bool
) -> None:
    own = converter.copy(detailed_validation=detailed)
    with pytest.raises((TypeError, ValueError, ArithmeticError, AttributeError, cattrs.BaseValidationError)):
        own.structure(value, kind)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"\x00\xff", "AP8="),
        (UUID(ID), ID),
        (Decimal("1.50"), "1.50"),
        (time(10), "10:00:00"),
        ({"at": [UUID(ID)]}, {"at": [ID]}),
    ],
)
def test_what_json_lacks_is_written_as_text(
    converter: cattrs.Converter, value: object, written: object
) -> None:
    assert converter.unstructure(value) == written
