"""Frames: what the encoder writes for each version."""

from __future__ import annotations

import pytest
from pieces import raw

from trio_stomp.errors import LocalProtocolError
from trio_stomp.stomp.frames import (
    CLIENT_COMMANDS,
    SERVER_COMMANDS,
    UNESCAPED,
    WITH_BODY,
    Frame,
    Version,
    encode,
    encode_headers,
    escape,
    expressible,
)

V1_0, V1_1, V1_2 = ALL = tuple(Version)
LATER = (V1_1, V1_2)
COMMANDS = CLIENT_COMMANDS | SERVER_COMMANDS


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", ("plain", "plain", "plain")),
        ("a:b", ("a:b", "a\\cb", "a\\cb")),
        ("a\\b", ("a\\b", "a\\\\b", "a\\\\b")),
        ("a\nb", ("a\nb", "a\\nb", "a\\nb")),
        ("a\rb", ("a\rb", "a\rb", "a\\rb")),
        ("\\n", ("\\n", "\\\\n", "\\\\n")),
        ("", ("", "", "")),
    ],
)
def test_escape_is_by_version_row9_row10_row13(text: str, written: tuple[str, str, str]) -> None:
    assert tuple(escape(text, version) for version in ALL) == written


def test_encode_writes_content_length_for_what_has_a_body_row20() -> None:
    body = "é☃".encode()
    for command in WITH_BODY:
        assert encode(Frame(command, {"a": "b"}, body), V1_2) == raw(f"{command} a:b content-length:5", body)
        assert encode(Frame(command, {"a": "b"}), V1_2) == raw(f"{command} a:b")


def test_encode_believes_no_content_length_but_its_own() -> None:
    assert encode(Frame("SEND", {"content-length": "9"}, b"a\0b"), V1_2) == raw(
        "SEND content-length:3", b"a\0b"
    )
    assert encode(Frame("SEND", {"content-length": "9"}), V1_2) == b"SEND\n\n\0"


@pytest.mark.parametrize("command", sorted(COMMANDS - WITH_BODY))
def test_encode_refuses_a_body_where_there_is_none_row17(command: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"a {command} frame cannot have a body"):
        encode(Frame(command, {}, b"x"), V1_2)


@pytest.mark.parametrize("command", sorted(UNESCAPED))
def test_encode_escapes_nothing_of_what_opens_a_session_row14(command: str) -> None:
    assert encode(Frame(command, {"passcode": "a:\\b"}), V1_2) == raw(f"{command} passcode:a:\\b")
    # A CR too: to a reader of CRLF, which does not know the version yet, it ends the line or is none.
    for headers in ({"a:b": "c"}, {"a": "b\nc"}, {"a\nb": "c"}, {"a": "b\r"}, {"a": "b\rc"}, {"a\rb": "c"}):
        for version in ALL:
            with pytest.raises(LocalProtocolError):
                encode(Frame(command, headers), version)


UNSPEAKABLE = [
    ({"a": "b\nc"}, (V1_0,)),
    ({"a\nb": "c"}, (V1_0,)),
    ({"a:b": "c"}, (V1_0,)),
    ({"": "c"}, ALL),
    ({"a": "b\0"}, ALL),
    ({"a\0": "b"}, ALL),
]


@pytest.mark.parametrize(
    ("headers", "version"), [(headers, version) for headers, versions in UNSPEAKABLE for version in versions]
)
def test_encode_refuses_what_a_version_cannot_say(headers: dict[str, str], version: Version) -> None:
    with pytest.raises(LocalProtocolError):
        encode(Frame("SEND", headers), version)
    with pytest.raises(LocalProtocolError):
        encode_headers(headers, version)


def test_expressible_changes_what_a_version_cannot_say_and_nothing_else_row51() -> None:
    headers = {"a": "b\nc", "d:e": "f", "g\nh": "i", "": "j", "k": "l\0", "m\0": "n", "o": "p:\\\r"}
    assert expressible(headers, V1_0) == {"a": "b c", "k": "l ", "o": "p:\\\r"}
    for version in LATER:
        assert expressible(headers, version) == {
            "a": "b\nc",
            "d:e": "f",
            "g\nh": "i",
            "k": "l ",
            "o": "p:\\\r",
        }


@pytest.mark.parametrize("version", Version)
def test_half_a_surrogate_pair_is_a_local_error_and_can_be_made_expressible(version: Version) -> None:
    headers = {"x": "a\ud800b"}
    with pytest.raises(LocalProtocolError):
        encode_headers(headers, version)
    assert encode_headers(expressible(headers, version), version) == b"x:a?b\n"
