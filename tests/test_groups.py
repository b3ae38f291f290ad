"""What comes out of nested nurseries when several tasks fail."""

from __future__ import annotations

import pytest
import trio

from trio_stomp.errors import ConnectionLost, TrioStompError
from trio_stomp.groups import bare_errors

OURS, SYSTEMS = TrioStompError("ours"), ConnectionRefusedError("the system's")
FOREIGN = ValueError("foreign")


@pytest.mark.parametrize(
    ("inner", "told"),
    [([OURS], OURS), ([SYSTEMS], SYSTEMS), ([FOREIGN], FOREIGN), ([SYSTEMS, OURS], SYSTEMS)],
    ids=["ours", "the system's", "foreign", "several with one cause"],
)
def test_one_error_is_let_out(inner: list[Exception], told: Exception) -> None:
    with pytest.raises(type(told)) as raised, bare_errors():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", inner)])
    assert raised.value is told


@pytest.mark.parametrize("inner", [[OURS, FOREIGN], [FOREIGN, FOREIGN]], ids=["one", "two"])
def test_a_group_with_errors_that_are_not_ours_stays(inner: list[Exception]) -> None:
    group = ExceptionGroup("outer", inner)
    with pytest.raises(ExceptionGroup) as raised, bare_errors():
        raise group
    assert raised.value is group


async def test_who_is_cancelled_is_told_of_that_alone() -> None:
    async def lose() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ConnectionLost("because everything ends")

    with trio.CancelScope() as scope:
        with bare_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose)
                nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        pytest.fail("bare_errors() let nothing out")
    assert scope.cancelled_caught


async def test_a_foreign_error_is_not_lost_to_a_cancellation() -> None:
    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise FOREIGN

    with pytest.RaisesGroup(ValueError), trio.CancelScope() as scope, bare_errors():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
