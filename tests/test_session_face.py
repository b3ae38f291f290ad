"""What a handler sees of its client: the request to connect, and the session."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio

from trio_stomp.app.session import ConnectRequest, Session
from trio_stomp.messages.message import User


def session_of(close: Callable[[str, int], None]) -> Session:
    headers = {"cookie": "secret-cookie"}
    return Session(id="s1", user=User("ada"), remote="h:1", version="1.2", headers=headers, close=close)


def test_request_shows_no_secret_in_its_repr() -> None:
    request = ConnectRequest(
        login="ada",
        passcode="secret-1",
        host="h",
        headers={"login": "ada", "passcode": "secret-1", "x-token": "t"},
        http_headers={"authorization": "secret-2", "cookie": "secret-3"},
        remote="127.0.0.1:5",
        path="/ws",
        query="token=secret-4",
        subprotocol="v12.stomp",
        session_id="s1",
    )
    assert "secret" not in repr(request)
    assert "ada" in repr(request)
    assert "127.0.0.1:5" in repr(request)


def test_request_cannot_be_changed() -> None:
    request = ConnectRequest(login="ada")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.login = "eve"  # type: ignore[misc]


def test_session_shows_no_header_in_its_repr() -> None:
    assert "secret" not in repr(session_of(lambda reason, code: None))


def test_session_is_equal_to_itself_only() -> None:
    one, other = session_of(print), session_of(print)
    assert one != other
    assert {one: 1}[one] == 1


def test_session_keeps_what_the_app_puts_into_its_attributes() -> None:
    one, other = session_of(print), session_of(print)
    one.attributes["cart"] = [1]
    assert (one.attributes, other.attributes) == ({"cart": [1]}, {})


async def test_close_asks_the_server_with_reason_and_code() -> None:
    asked: list[tuple[str, int]] = []
    session = session_of(lambda reason, code: asked.append((reason, code)))
    session.close()
    session.close("kicked", 4000)
    assert asked == [("", 1008), ("kicked", 4000)]


async def test_close_from_a_worker_thread_reaches_the_server_in_the_event_loop() -> None:
    asked: list[tuple[str, int, bool]] = []
    session = session_of(lambda reason, code: asked.append((reason, code, trio.lowlevel.in_trio_run())))
    await trio.to_thread.run_sync(session.close, "bye", 1000)
    assert asked == [("bye", 1000, True)]


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
async def test_code_that_nobody_may_send_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        session_of(print).close("", code)


async def test_reason_may_have_123_bytes() -> None:
    asked: list[str] = []
    session = session_of(lambda reason, code: asked.append(reason))
    session.close("é" * 61 + "x")
    with pytest.raises(ValueError, match="124"):
        session.close("é" * 62)
    assert len(asked) == 1
