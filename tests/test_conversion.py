"""Bodies to values and back: content-types, strictness, and the texts that clients read."""

from __future__ import annotations

import enum
import json
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NewType, TypedDict

import attrs
import cattrs
import pytest
from cattrs.strategies import configure_tagged_union

from trio_stomp.errors import ConversionError
from trio_stomp.messages.conversion import Converter, split_optional, type_name


@attrs.frozen
class Say:
    text: str
    size: int = 1
    loud: bool = False


@attrs.frozen
class Talk:
    said: list[Say]
    by: dict[str, Say] = attrs.field(factory=dict)


@attrs.frozen
class Even:
    number: int = attrs.field()

    @number.validator
    def _check(self, _: object, number: int) -> None:
        if number % 2:
            raise ValueError(f"{number} is odd")


@attrs.frozen
class Loose:
    anything: object
    ratio: float = 0.0


@dataclass
class Point:
    x: float
    y: float


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


class Unknown:
    pass


@attrs.frozen
class Chain:
    next: Chain | None


class Place(TypedDict):
    x: int


RoomId = NewType("RoomId", int)


@pytest.fixture
def converter() -> Converter:
    return Converter()


def problems(
    converter: Converter, annotation: Any, body: bytes, content_type: str | None = None
) -> list[str]:
    hook = converter.reader(annotation)
    with pytest.raises(ConversionError) as caught:
        hook(body, content_type)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("annotation", "body", "value"),
    [
        (Say, b'{"text":"hi","size":2}', Say("hi", 2)),
        (Say, b' \r\n{"text": "hi"}\n', Say("hi")),
        (Say | None, b"null", None),
        (Say | None, b'{"text":"hi"}', Say("hi")),
        (Point, b'{"x":1,"y":2.5}', Point(1.0, 2.5)),
        (list[Say], b'[{"text":"a"},{"text":"b"}]', [Say("a"), Say("b")]),
        (dict[str, int], b'{"a":1}', {"a": 1}),
        (int, b"5", 5),
        (float, b"5", 5.0),
        (bool, b"true", True),
        (int | str, b'"x"', "x"),
        (Any, b'{"a":[1,null]}', {"a": [1, None]}),
        (object, b'{"a":[1,null]}', {"a": [1, None]}),
        (dict[str, object], b'{"a":[1]}', {"a": [1]}),
        (Loose, b'{"anything":{"a":1}}', Loose({"a": 1})),
        (datetime, b'"2026-11-01T10:00:00+00:00"', datetime(2026, 11, 1, 10, tzinfo=UTC)),
        (Colour, b'"red"', Colour.RED),
        (tuple[int, str], b'[1,"a"]', (1, "a")),
    ],
)
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json;charset=UTF-8",
        'Application/JSON; charset="utf-8"',
        "application/x+json",
    ],
)
def test_json_becomes_the_value(
    converter: Converter, annotation: Any, body: bytes, value: object, content_type: str | None
) -> None:
    assert converter.reader(annotation)(body, content_type) == value


@pytest.mark.parametrize("content_type", [None, "application/json", "image/png", "text/plain"])
def test_bytes_are_the_body_whatever_the_content_type(converter: Converter, content_type: str | None) -> None:
    assert converter.reader(bytes)(b"\xff{", content_type) == b"\xff{"


@pytest.mark.parametrize("annotation", [str, str | None])
@pytest.mark.parametrize("content_type", [None, "text/plain", "text/markdown;charset=utf-8"])
def test_str_is_the_text(converter: Converter, annotation: Any, content_type: str | None) -> None:
    assert converter.reader(annotation)('"grüß"'.encode(), content_type) == '"grüß"'


def test_str_sent_as_json_is_a_json_string(converter: Converter) -> None:
    assert converter.reader(str)(b'"hi"', "application/json") == "hi"
    assert problems(converter, str, b"5", "application/json") == ["invalid value for type, expected str @ $"]


@pytest.mark.parametrize(
    ("annotation", "body", "expected"),
    [
        (Say, b"{}", ["required field missing @ $.text"]),
        (Say, b'{"text":null}', ["invalid value for type, expected str @ $.text"]),
        (Say, b'{"text":5}', ["invalid value for type, expected str @ $.text"]),
        (Say, b'{"text":"a","size":1.9}', ["invalid value for type, expected int @ $.size"]),
        (Say, b'{"text":"a","size":"1"}', ["invalid value for type, expected int @ $.size"]),
        (Say, b'{"text":"a","size":true}', ["invalid value for type, expected int @ $.size"]),
        (Say, b'{"text":"a","loud":0}', ["invalid value for type, expected bool @ $.loud"]),
        (
            Say,
            b'{"size":"1"}',
            ["required field missing @ $.text", "invalid value for type, expected int @ $.size"],
        ),
        (Say, b"[]", ["expected a JSON object for Say @ $"]),
        (Say, b"null", ["expected a JSON object for Say @ $"]),
        (Talk, b'{"said":[{"text":"a"},{}]}', ["required field missing @ $.said[1].text"]),
        (Talk, b'{"said":"ab"}', ["invalid value for type, expected list[Say] @ $.said"]),
        (
            Talk,
            b'{"said":[],"by":{"ada":{"text":1}}}',
            ["invalid value for type, expected str @ $.by['ada'].text"],
        ),
        (list[int], b'[1,"x"]', ["invalid value for type, expected int @ $[1]"]),
        (list[int], b'{"1":2}', ["invalid value for type, expected list[int] @ $"]),
        (int, b'"x"', ["invalid value for type, expected int @ $"]),
        (Even, b'{"number":3}', ["invalid value: 3 is odd @ $"]),
        (Colour, b'"green"', ["invalid value for type, expected Colour @ $"]),
        (Say, b"", ["required payload missing: the body is empty"]),
        (Say, b" \n", ["required payload missing: the body is empty"]),
        (
            Say,
            b"{",
            ["body is not JSON: Expecting property name enclosed in double quotes at line 1 column 2"],
        ),
        (Say, b'{"text":"a"} x', ["body is not JSON: Extra data at line 1 column 14"]),
        (Say, b'\xff{"text":"a"}', ["body is not UTF-8 text: invalid start byte at byte 0"]),
        (str, b"\xff", ["body is not UTF-8 text: invalid start byte at byte 0"]),
        (float, b"NaN", ["body is not usable JSON: NaN is not JSON"]),
        (float, b"-Infinity", ["body is not usable JSON: -Infinity is not JSON"]),
        (Any, b"[" * 100_000, ["body is not usable JSON: nested too deeply"]),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(
    converter: Converter, annotation: Any, body: bytes, expected: list[str]
) -> None:
    assert [
        text.replace("test_conversion.", "") for text in problems(converter, annotation, body)
    ] == expected


def test_integer_of_too_many_digits_is_refused_in_words_for_strangers(converter: Converter) -> None:
    found = problems(converter, int, b"1" * 5000)
    assert found == ["body is not usable JSON: an integer has too many digits"]


def test_answer_to_a_body_with_many_problems_stays_small(converter: Converter) -> None:
    found = problems(converter, list[int], b"[" + b'"",' * 1000 + b"1]")
    assert len(found) == 21
    assert found[-1] == "and 980 more"


def test_problem_that_quotes_a_long_name_is_shortened(converter: Converter) -> None:
    found = problems(converter, dict[str, int], json.dumps({"k" * 5000: "x"}).encode())
    assert len(found[0]) == 200
    assert found[0].startswith("invalid value for type, expected int @ $['kkk")


def test_large_body_is_refused_at_its_first_problem(converter: Converter) -> None:
    """4 MiB of bad elements took 35 s, in which the server did nothing else."""
    made: list[object] = []

    def fail(value: object, _: object) -> Unknown:
        made.append(value)
        raise ValueError

    converter.cattrs.register_structure_hook(Unknown, fail)
    found = problems(converter, list[Unknown], b"[" + b"0," * 10_000 + b"0]")
    assert found == ["invalid value for type, expected list[Unknown] @ $"]
    assert len(made) == 1


def test_hook_registered_after_another_type_was_read_counts(converter: Converter) -> None:
    converter.reader(Say)
    converter.cattrs.register_structure_hook(Unknown, lambda value, _: value)
    assert converter.reader(list[Unknown])(b"[7]", None) == [7]


def test_deep_chain_of_a_type_that_holds_itself_is_refused_or_read(converter: Converter) -> None:
    assert problems(converter, Chain, b'{"next":' * 100_000) == ["body is not usable JSON: nested too deeply"]
    read = converter.reader(Chain)
    assert read(b'{"next":' * 3 + b"null" + b"}" * 3, None) == Chain(Chain(Chain(None)))


def test_typed_dict_is_read_and_told_about(converter: Converter) -> None:
    assert converter.reader(Place)(b'{"x":1}', None) == {"x": 1}
    assert problems(converter, Place, b"{}") == ["required field missing @ $.x"]
    assert problems(converter, Place, b"[]") == ["expected a JSON object for Place @ $"]


@pytest.mark.parametrize(
    ("body", "value"), [(b'{"text":"a"}', Say("a")), (b'{"number":2}', Even(2)), (b"5", 5)]
)
def test_union_takes_the_member_that_fits(converter: Converter, body: bytes, value: object) -> None:
    assert converter.reader(Say | Even | int)(body, None) == value


def test_unknown_fields_are_passed_over(converter: Converter) -> None:
    assert converter.reader(Say)(b'{"text":"a","more":1}', None) == Say("a")


def test_deep_nesting_is_refused_for_a_class(converter: Converter) -> None:
    assert problems(converter, Say, b"[" * 100_000) == ["body is not usable JSON: nested too deeply"]


@pytest.mark.parametrize(
    ("annotation", "content_type", "text"),
    [
        (Say, "text/plain", "cannot read content-type 'text/plain' as Say: send application/json"),
        (Any, "image/png", "cannot read content-type 'image/png' as JSON value: send application/json"),
        (str, "image/png", "cannot read content-type 'image/png' as str: send application/json"),
        (Say, "application/json;charset=latin-1", "cannot read charset 'latin-1': send UTF-8"),
        (str, "text/plain; charset=utf-16", "cannot read charset 'utf-16': send UTF-8"),
    ],
)
def test_content_type_that_cannot_be_read_is_refused(
    converter: Converter, annotation: Any, content_type: str, text: str
) -> None:
    assert problems(converter, annotation, b'{"text":"a"}', content_type) == [text]


def test_type_that_cattrs_cannot_make_is_a_type_error(converter: Converter) -> None:
    with pytest.raises(TypeError, match="cattrs cannot make a Unknown"):
        converter.reader(Unknown)


def test_own_cattrs_converter_is_used_as_it_is() -> None:
    own = cattrs.Converter(forbid_extra_keys=True)
    own.register_structure_hook(Unknown, lambda value, _: value)
    converter = Converter(own)
    assert converter.reader(Unknown)(b"7", None) == 7
    assert converter.reader(Say)(b'{"text":5}', None) == Say("5")
    assert problems(converter, Say, b'{"text":"a","more":1}') == ["extra fields found (more) @ $"]


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "5", 5),
        (float, "1.5", 1.5),
        (bool, "True", True),
        (bool, "0", False),
        (int | None, "5", 5),
        (RoomId, "5", 5),
        (Colour, "red", Colour.RED),
        (Level, "1", Level.LOW),
        (
            uuid.UUID,
            "12345678-1234-5678-1234-567812345678",
            uuid.UUID("12345678-1234-5678-1234-567812345678"),
        ),
        (Literal["a", "b"], "b", "b"),
        (datetime, "2026-11-01T10:00:00", datetime(2026, 11, 1, 10)),
    ],
)
def test_text_becomes_the_value(converter: Converter, annotation: Any, text: str, value: object) -> None:
    hook = converter.text_hook(annotation)
    assert hook is not None
    assert hook(text) == value


@pytest.mark.parametrize("annotation", [str, str | None, Any, object])
def test_text_as_it_is_needs_no_hook(converter: Converter, annotation: Any) -> None:
    assert converter.text_hook(annotation) is None


@pytest.mark.parametrize(
    ("annotation", "text", "name"),
    [
        (int, "x", "int"),
        (bool, "maybe", "bool"),
        (Colour, "green", "Colour"),
        (Literal["a"], "b", "Literal['a']"),
    ],
)
def test_text_that_does_not_fit_is_a_conversion_error(
    converter: Converter, annotation: Any, text: str, name: str
) -> None:
    hook = converter.text_hook(annotation)
    assert hook is not None
    with pytest.raises(ConversionError) as caught:
        hook(text)
    assert caught.value.problems == (f"invalid value, expected {name}",)


def test_text_hook_of_an_unknown_type_is_a_type_error(converter: Converter) -> None:
    with pytest.raises(TypeError, match="Unknown"):
        converter.text_hook(Unknown)


@pytest.mark.parametrize(
    ("value", "body", "content_type"),
    [
        ("grüß", "grüß".encode(), "text/plain;charset=utf-8"),
        (b"\xff", b"\xff", "application/octet-stream"),
        (bytearray(b"a"), b"a", "application/octet-stream"),
        (memoryview(b"a"), b"a", "application/octet-stream"),
        (Say("ü"), '{"text":"ü","size":1,"loud":false}'.encode(), "application/json"),
        ([Say("a", 2)], b'[{"text":"a","size":2,"loud":false}]', "application/json"),
        ({"a": Say("a"), "b": 1}, b'{"a":{"text":"a","size":1,"loud":false},"b":1}', "application/json"),
        (Loose(Say("a")), b'{"anything":{"text":"a","size":1,"loud":false},"ratio":0.0}', "application/json"),
        (Point(1, 2), b'{"x":1,"y":2}', "application/json"),
        (5, b"5", "application/json"),
        (True, b"true", "application/json"),
        (None, b"null", "application/json"),
        (Colour.RED, b'"red"', "application/json"),
        (datetime(2026, 11, 1, tzinfo=UTC), b'"2026-11-01T00:00:00+00:00"', "application/json"),
        (("a", 1), b'["a",1]', "application/json"),
    ],
)
def test_value_becomes_a_body(converter: Converter, value: object, body: bytes, content_type: str) -> None:
    assert converter.encode(value) == (body, content_type)


@pytest.mark.parametrize("value", [math.nan, {"a": math.inf}, Unknown(), {"a": Unknown()}, object()])
def test_value_that_json_cannot_say_is_refused(converter: Converter, value: object) -> None:
    with pytest.raises(ValueError, match=f"cannot write a {type(value).__name__} as JSON"):
        converter.encode(value)


def test_circle_is_refused(converter: Converter) -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="cannot write a list as JSON"):
        converter.encode(circle)


def test_lone_surrogate_is_escaped(converter: Converter) -> None:
    body, _ = converter.encode(["\ud800"])
    assert body == b'["\\ud800"]'
    assert json.loads(body) == ["\ud800"]


def test_annotation_chooses_how_it_is_written() -> None:
    own = cattrs.Converter()
    configure_tagged_union(Say | Even, own)
    converter = Converter(own)
    assert converter.encode(Even(2), Say | Even) == (b'{"number":2,"_type":"Even"}', "application/json")


def test_cache_of_types_is_bounded(converter: Converter) -> None:
    for number in range(1100):
        converter.encode(attrs.make_class(f"C{number}", ["x"])(1))
    assert len(converter._unstructure_hooks) <= 1024


def test_optional_is_split() -> None:
    assert split_optional(int | None) == (True, int)
    assert split_optional(int) == (False, int)
    assert split_optional(int | str | None) == (True, int | str)


def test_types_are_called_what_people_call_them() -> None:
    assert type_name(Say) == "Say"
    assert type_name(list[int]) == "list[int]"
    assert type_name(int | None) == "int | None"
    assert type_name(dict[str, tuple[Say, ...]]) == "dict[str, tuple[Say, ...]]"
    assert type_name(Annotated[Say, 1]) == "Say"


@pytest.mark.parametrize("text", ["1_0", " 1", "+1", "\u0661", "1.0", "", "9" * 101])
def test_one_number_has_one_text(text: str) -> None:
    hook = Converter().text_hook(int)
    assert hook is not None
    assert (hook("-12"), hook("7")) == (-12, 7)
    with pytest.raises(ConversionError):
        hook(text)
