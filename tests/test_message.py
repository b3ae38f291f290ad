"""What a handler sees of a message and its sender."""

from __future__ import annotations

import attrs
import pytest

from trio_stomp.errors import ConversionError
from trio_stomp.messages.message import Message, User


@attrs.frozen
class Member(User):
    plan: str


def test_content_type_is_the_header_or_none() -> None:
    assert Message("/app/x", {"content-type": "text/plain"}, b"").content_type == "text/plain"
    assert Message("/app/x", {}, b"").content_type is None


def test_text_is_the_decoded_body() -> None:
    assert Message("/app/x", {}, "grüß".encode()).text == "grüß"


def test_text_that_is_not_utf8_is_a_conversion_error() -> None:
    with pytest.raises(ConversionError, match="not UTF-8 text: invalid start byte at byte 1"):
        _ = Message("/app/x", {}, b"a\xff").text


def test_repr_hides_the_body() -> None:
    assert "secret" not in repr(Message("/app/x", {}, b"secret"))
    assert "<6 bytes>" in repr(Message("/app/x", {}, b"secret"))


def test_users_of_one_name_are_equal_whatever_their_attributes() -> None:
    assert User("ada", attributes={"a": 1}) == User("ada")
    assert {User("ada", attributes={"a": 1}), User("ada")} == {User("ada")}


def test_user_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        User("")


def test_user_can_be_subclassed_with_a_required_field() -> None:
    member = Member("ada", "gold", attributes={"a": 1})
    assert (member.name, member.plan, member.attributes) == ("ada", "gold", {"a": 1})


def test_repr_hides_the_attributes() -> None:
    assert "token" not in repr(User("ada", attributes={"token": 1}))


def test_body_is_empty_by_default() -> None:
    assert Message("/app/x", {}).body == b""
