"""What a lifespan may be, and how several are opened and closed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pytest

from trio_stomp.app.application import StompApp
from trio_stomp.app.lifespan import open_lifespan, read_lifespan
from trio_stomp.app.session import Session
from trio_stomp.errors import HandlerSignatureError
from trio_stomp.messages.message import User


class Api:
    pass


class Fetches(Protocol):
    def fetch(self) -> str: ...


async def api() -> AsyncIterator[Api]:
    yield Api()


async def text() -> AsyncIterator[str]:
    yield "text"


async def rows() -> AsyncIterator[list[Api]]:
    yield []


async def user() -> AsyncIterator[User]:
    yield User("ada")


async def session() -> AsyncIterator[Session]:
    yield Session(id="s", user=None, remote="", version="1.2", headers={}, close=print)


async def anything() -> Any:
    yield Api()


async def returns() -> None: ...


async def takes(name: str) -> AsyncIterator[Api]:
    yield Api()


@contextlib.asynccontextmanager
async def manager() -> AsyncIterator[Api]:
    yield Api()


async def wrong() -> AsyncIterator[Api]:
    yield User("ada")  # type: ignore[misc]  # the mistake that the test is about


async def fetches() -> AsyncIterator[Fetches]:
    yield Api()  # type: ignore[misc]  # any object: a Protocol cannot be checked at run time


@pytest.mark.parametrize("function", [returns, takes, manager, 5, None])
def test_what_cannot_be_a_lifespan_is_refused_at_once(function: Any) -> None:
    with pytest.raises(HandlerSignatureError, match="lifespan"):
        StompApp().lifespan(function)


@pytest.mark.parametrize("function", [text, rows, user, session, anything])
def test_type_that_handlers_could_not_ask_for_is_told(function: Callable[[], AsyncIterator[Any]]) -> None:
    with pytest.raises(HandlerSignatureError, match=function.__name__):
        read_lifespan(function)


async def test_value_of_another_type_than_annotated_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"wrong yielded a User .* Api"):
        async with open_lifespan([read_lifespan(wrong)]):
            raise NotImplementedError


async def test_protocol_is_taken_at_its_word() -> None:
    async with open_lifespan([read_lifespan(fetches)]) as resources:
        assert isinstance(resources[Fetches], Api)


async def test_what_fails_while_serving_is_raised_in_the_lifespan() -> None:
    seen: list[str] = []

    async def watches() -> AsyncIterator[Api]:
        try:
            yield Api()
        except RuntimeError as error:
            seen.append(str(error))
            raise

    with pytest.raises(RuntimeError, match="boom"):
        async with open_lifespan([read_lifespan(watches), read_lifespan(fetches)]):
            raise RuntimeError("boom")
    assert seen == ["boom"]
