"""The extra ``fast``: compiled JSON libraries give what the standard library gives, to the bit."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_stomp.errors import ConversionError
from trio_stomp.messages.conversion import Converter
from trio_stomp.messages.json_codec import fast_reader, fast_writer, standard_writer

fast, plain = Converter(fast_json=True), Converter(fast_json=False)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    __slots__ = ()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(
        [2**63, 2**64, -(2**63) - 1, Colour.RED, Level.LOW, Text("a"), uuid.UUID(int=1), decimal.Decimal(1)]
    )
    | st.sampled_from(
        [datetime.date(2026, 1, 2), datetime.time(1), datetime.timedelta(1), b"\0\xff", 1 + 2j]
    ),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


def outcome(converter: Converter, value: Any) -> object:
    """What is written, as JSON means it; an error by its kind."""
    try:
        body, content_type = converter.encode([value])
    except ValueError:
        return ValueError
    return repr(json.loads(body)), content_type


@given(values)
@example(float("nan"))
@example([None, float("inf")])
@example("null")
def test_what_is_written_means_the_same(value: Any) -> None:
    assert outcome(fast, value) == outcome(plain, value)


def read(converter: Converter, body: bytes) -> object:
    try:
        return repr(converter.reader(Any)(body, "application/json")), repr(
            converter.reader(list[Any])(body, None)
        )
    except ConversionError as error:
        return str(error)


@given(
    values.map(lambda value: json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace"))
)
@example(b"NaN")
@example(b"[1e400]")
@example(b"[1e-400, -0, -0.0, 1E5, 0.1e1]")
@example(b"[123456789012345678901, 18446744073709551616]")
@example(b'["\\ud800"]')
@example(b'[{"a": 1, "a": 2}]')
@example(b" [1]\n")
@example(b"[1],")
@example(b"\xef\xbb\xbf[1]")
@example(b"[\xff]")
@example(b"[" + b"1" * 5000 + b"]")
@example(b"[" * 100_000)
@example(b"")
def test_what_is_read_is_the_same(body: bytes) -> None:
    assert read(fast, body) == read(plain, body)


@given(st.binary(max_size=20) | st.text('[]{}",:0123456789.eE+-\\untrfalse ', max_size=20).map(str.encode))
def test_nonsense_is_the_same_nonsense(body: bytes) -> None:
    assert read(fast, body) == read(plain, body)


def test_the_libraries_are_used_where_they_are_installed() -> None:
    reader, writer = fast_reader(), fast_writer()
    assert reader is not None
    assert reader(b"[1]") == [1]
    assert writer is not None
    assert writer([1]) == b"[1]"
    assert fast._read_json.__module__ != plain._read_json.__module__


@given(values)
@example([[[]], {}, {"": {}}, "\u2028", 1e16, -0.0])
def test_the_kept_writer_writes_what_the_usual_one_does(value: Any) -> None:
    usual = json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
    ).encode
    assert attempt(standard_writer(), value) == attempt(usual, value)


def attempt(write: Callable[[Any], str], value: Any) -> str:
    """What is written, or which error."""
    try:
        return write(value)
    except (TypeError, ValueError) as error:
        return repr(error)


def test_where_the_standard_library_has_no_such_part_all_is_as_usual(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert standard_writer()({"a": [1, 2]}) == '{"a":[1,2]}'


@pytest.mark.parametrize("missing", ["msgspec", "orjson"])
def test_without_them_it_goes_on(missing: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from trio_stomp.messages.conversion import Converter\n"
            "made = Converter()\n"
            "print(made.reader(dict)(made.encode({'a': 1})[0], None))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{'a': 1}\n"


def test_they_are_imported_only_for_an_app() -> None:
    code = (
        "import sys, trio_stomp.messages.conversion, trio_stomp.app.application\n"
        "print({'msgspec', 'orjson'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
