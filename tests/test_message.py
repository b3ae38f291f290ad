"""What a handler sees of a message and of its user."""

from __future__ import annotations

import attrs
import pytest

from trio_stomp.errors import ConversionError
from trio_stomp.messages.message import Message, User


def test_content_type_is_the_header_or_none() -> None:
    assert Message("/app/x", {"content-type": "text/plain"}, b"").content_type == "text/plain"
    assert Message("/app/x", {}, b"").content_type is None


def test_text_is_the_body_as_utf8() -> None:
    assert Message("/app/x", {}, "Grüße".encode()).text == "Grüße"


def test_text_of_a_body_that_is_not_utf8_is_a_conversion_error_naming_the_byte() -> None:
    with pytest.raises(ConversionError, match="not UTF-8 at byte 2"):
        _ = Message("/app/x", {}, b"ab\xff").text


def test_repr_of_a_message_shows_no_body() -> None:
    shown = repr(Message("/app/x", {}, b"secret"))
    assert "secret" not in shown
    assert "<6 bytes>" in shown


def test_message_has_no_room_for_stray_attributes() -> None:
    with pytest.raises(AttributeError):
        Message("/app/x", {}, b"").tetx = ""  # type: ignore[attr-defined]  # the claim


def test_user_cannot_be_changed() -> None:
    user = User("ada", attributes={"role": "admin"})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        user.name = "eve"  # type: ignore[misc]  # the claim
    with pytest.raises(TypeError):
        user.attributes["role"] = "none"  # type: ignore[index]  # the claim


def test_later_changes_of_what_a_user_was_made_from_do_not_reach_it() -> None:
    given: dict[str, object] = {"role": "admin"}
    user = User("ada", attributes=given)
    given["role"] = "none"
    assert user.attributes["role"] == "admin"


def test_user_is_its_name() -> None:
    assert User("ada", attributes={"a": 1}) == User("ada")
    assert len({User("ada", attributes={"a": []}), User("ada"), User("eve")}) == 2


def test_repr_of_a_user_shows_no_attributes() -> None:
    assert repr(User("ada", attributes={"token": "s3cret"})) == "User(name='ada')"


@pytest.mark.parametrize("name", ["", None, 5])
def test_user_without_a_name_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="expected text that is not empty"):
        User(name)  # type: ignore[arg-type]  # the claim


def test_user_can_be_subclassed_with_fields_that_have_no_default() -> None:
    @attrs.frozen
    class Customer(User):
        tenant: str

    customer = Customer("ada", "acme")
    assert (customer.name, customer.tenant, dict(customer.attributes)) == ("ada", "acme", {})
    assert customer != Customer("ada", "other")
