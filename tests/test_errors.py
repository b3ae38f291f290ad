"""The exceptions: one tree, as its docstring draws it, and what each of them carries."""

from __future__ import annotations

import inspect

import pytest

import trio_stomp
from trio_stomp import errors
from trio_stomp.errors import (
    ConnectionLost,
    ConnectRefused,
    ConversionError,
    DestinationError,
    HandshakeRefused,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    ServerError,
    TrioStompError,
)
from trio_stomp.stomp.frames import Frame

EVERY = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
]


def drawn() -> list[tuple[str, str]]:
    """Each exception of the docstring's tree and the one that it hangs from."""
    above: list[str] = []
    pairs = []
    for line in inspect.cleandoc(TrioStompError.__doc__ or "").splitlines():
        branch, mark, rest = line.strip(": ").rpartition("── ")
        name = rest.split(" ")[0]
        if not mark:
            if rest == "TrioStompError":
                above = [name]
            continue
        depth = len(branch) // 4 + 1
        above = [*above[:depth], name]
        pairs.append((name, above[depth - 1]))
    return pairs


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    real = {(error.__name__, error.__bases__[0].__name__) for error in EVERY if error is not TrioStompError}
    assert set(drawn()) == real
    assert len(drawn()) == len(real)


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_each_is_documented_and_comes_from_the_one_base(error: type[Exception]) -> None:
    assert issubclass(error, TrioStompError)
    assert error.__doc__


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_each_can_be_caught_from_the_package(error: type[Exception]) -> None:
    assert getattr(trio_stomp, error.__name__) is error


def test_you_and_the_peer_are_told_apart() -> None:
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)


def test_a_remote_error_is_a_matter_of_protocol_unless_it_says_otherwise() -> None:
    error = RemoteProtocolError("no 'id' header")
    assert (str(error), error.message) == ("no 'id' header", "no 'id' header")
    assert (error.close_code, error.frame, error.limit) == (1002, None, None)
    assert dict(error.headers) == {}


def test_a_remote_error_carries_what_the_answer_needs() -> None:
    frame = Frame("SEND", {"receipt": "1"})
    error = RemoteProtocolError(
        "too big", frame=frame, close_code=1009, headers={"version": "1.2"}, limit="stomp.body"
    )
    assert error.frame is frame
    assert (error.close_code, error.limit, dict(error.headers)) == (1009, "stomp.body", {"version": "1.2"})


def test_the_headers_of_one_remote_error_are_not_those_of_another() -> None:
    assert RemoteProtocolError("a").headers is not RemoteProtocolError("b").headers


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (DestinationError("'/x/'", "/x/"), ValueError),
        (errors.ConfigError("queue"), ValueError),
        (errors.HandlerSignatureError("parameter 'x'"), TypeError),
    ],
)
def test_an_error_of_the_programmer_is_also_what_python_would_raise(
    error: TrioStompError, builtin: type[Exception]
) -> None:
    assert isinstance(error, builtin)


def test_a_destination_error_names_the_destination() -> None:
    assert DestinationError("'**' is the last segment", "/**/a").destination == "/**/a"
    assert DestinationError("a destination is empty").destination == ""


def test_a_conversion_error_has_each_problem_with_its_path() -> None:
    problems = ["required field missing @ $.text", "invalid value @ $.room"]
    error = ConversionError(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "required field missing @ $.text; invalid value @ $.room"
    problems.clear()
    assert len(error.problems) == 2


def test_a_refused_connect_says_little_unless_told() -> None:
    assert str(ConnectRefused()) == "access refused"
    assert str(ConnectRefused("bad passcode")) == "bad passcode"


def test_a_lost_connection_without_a_close_has_the_code_for_that() -> None:
    error = ConnectionLost("gone")
    assert (str(error), error.code, error.reason) == ("gone", 1006, "")
    error = ConnectionLost("drained", code=1012, reason="restart")
    assert (error.code, error.reason) == (1012, "restart")


def test_a_refused_handshake_is_a_lost_connection_with_the_answer() -> None:
    error = HandshakeRefused(403, "no such origin", {"x": "y"})
    assert isinstance(error, ConnectionLost)
    assert (error.status, error.body, error.headers) == (403, "no such origin", {"x": "y"})
    assert (error.code, error.reason) == (1006, "")
    assert str(error) == "the server refused the WebSocket with HTTP status 403: no such origin"


def test_a_server_error_has_the_whole_frame() -> None:
    frame = Frame("ERROR", {"message": "no"}, b"details")
    error = ServerError("no", frame)
    assert (str(error), error.message, error.frame) == ("no", "no", frame)
