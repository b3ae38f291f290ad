"""The inbox: everything at once, in order, with a soft bound that feeders ask about."""

from __future__ import annotations

import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from trio_stomp.channels.inbox import Inbox


async def test_take_gives_all_that_was_put_in_order() -> None:
    inbox: Inbox[int] = Inbox(10)
    inbox.put(1)
    inbox.extend([2, 3], 2)
    inbox.put(4)
    assert len(inbox) == 4
    assert await inbox.take() == [1, 2, 3, 4]
    assert len(inbox) == 0


async def test_take_waits_for_something(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(10)
    taken: list[list[int]] = []

    async def take() -> None:
        taken.append(await inbox.take())

    nursery.start_soon(take)
    await wait_all_tasks_blocked()
    assert taken == []
    inbox.put(1)
    inbox.put(2)  # before the taker has run
    await wait_all_tasks_blocked()
    assert taken == [[1, 2]]


async def test_extend_wakes_the_taker(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(10)
    taken: list[list[int]] = []

    async def take() -> None:
        taken.append(await inbox.take())

    nursery.start_soon(take)
    await wait_all_tasks_blocked()
    inbox.extend([1, 2], 2)
    await wait_all_tasks_blocked()
    assert taken == [[1, 2]]


async def test_take_does_not_yield_when_something_is_there() -> None:
    inbox: Inbox[int] = Inbox(10)
    inbox.put(1)
    with assert_no_checkpoints():
        assert await inbox.take() == [1]


async def test_take_nowait_gives_what_is_there() -> None:
    inbox: Inbox[int] = Inbox(10)
    assert inbox.take_nowait() == []
    inbox.put(1)
    assert inbox.take_nowait() == [1]


async def test_cancelling_take_loses_nothing_and_another_may_take(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(10)
    with trio.move_on_after(0):
        await inbox.take()
    inbox.put(1)  # nobody to wake
    assert await inbox.take() == [1]


async def test_taker_that_is_cancelled_after_it_was_woken_still_gets_it(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(10)
    taken: list[list[int]] = []
    async with trio.open_nursery() as inner:

        async def take() -> None:
            taken.append(await inbox.take())

        inner.start_soon(take)
        await wait_all_tasks_blocked()
        inbox.put(1)
        inner.cancel_scope.cancel()
    assert taken == [[1]]


async def test_room_does_not_yield_below_the_capacity() -> None:
    inbox: Inbox[int] = Inbox(2)
    inbox.put(1)
    assert not inbox.is_full
    with assert_no_checkpoints():
        await inbox.room()
    assert inbox.full_waits == 0


async def test_put_is_never_refused_and_feeders_wait_until_it_was_taken(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(2)
    for number in range(5):
        inbox.put(number)
    assert inbox.is_full
    passed: list[str] = []

    async def feed(name: str) -> None:
        await inbox.room()
        passed.append(name)

    nursery.start_soon(feed, "a")
    nursery.start_soon(feed, "b")
    await wait_all_tasks_blocked()
    assert passed == []
    assert inbox.full_waits == 2
    assert await inbox.take() == [0, 1, 2, 3, 4]
    await wait_all_tasks_blocked()
    assert sorted(passed) == ["a", "b"]
    assert inbox.full_waits == 2


async def test_feeder_that_finds_it_full_again_waits_again(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(1)
    inbox.put(1)
    passed: list[int] = []

    async def feed() -> None:
        await inbox.room()
        passed.append(1)

    nursery.start_soon(feed)
    await wait_all_tasks_blocked()
    inbox.take_nowait()
    inbox.put(2)  # before the feeder has run
    await wait_all_tasks_blocked()
    assert passed == []
    inbox.take_nowait()
    await wait_all_tasks_blocked()
    assert passed == [1]


async def test_room_is_counted_by_weight() -> None:
    inbox: Inbox[str] = Inbox(100)
    inbox.put("light", 99)
    assert (inbox.weight, inbox.is_full) == (99, False)
    inbox.put("drop")
    assert (inbox.weight, inbox.is_full) == (100, True)
    inbox.take_nowait()
    assert (inbox.weight, inbox.is_full) == (0, False)


async def test_waiting_for_room_can_be_cancelled() -> None:
    inbox: Inbox[int] = Inbox(1)
    inbox.put(1)
    with trio.move_on_after(0) as scope:
        await inbox.room()
    assert scope.cancelled_caught
    inbox.take_nowait()
    with assert_no_checkpoints():
        await inbox.room()


async def test_closed_inbox_gives_what_is_left_and_then_empty_lists() -> None:
    inbox: Inbox[int] = Inbox(10)
    inbox.put(1)
    inbox.close()
    assert await inbox.take() == [1]
    assert await inbox.take() == []
    assert await inbox.take() == []


async def test_close_wakes_the_taker_and_the_feeders(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(10)
    full: Inbox[int] = Inbox(1)
    full.put(1)
    ended: list[object] = []

    async def take() -> None:
        ended.append(await inbox.take())

    async def feed() -> None:
        await full.room()
        ended.append("fed")

    nursery.start_soon(take)
    nursery.start_soon(feed)
    await wait_all_tasks_blocked()
    inbox.close()
    full.close()
    await wait_all_tasks_blocked()
    assert len(ended) == 2
    assert [] in ended


async def test_closing_twice_is_closing_once(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(10)
    nursery.start_soon(inbox.take)
    await wait_all_tasks_blocked()
    inbox.close()
    inbox.close()
    inbox.put(1)  # what comes late is not lost
    assert await inbox.take() == [1]


async def test_room_does_not_wait_once_closed() -> None:
    inbox: Inbox[int] = Inbox(1)
    inbox.put(1)
    inbox.close()
    with assert_no_checkpoints():
        await inbox.room()


async def test_extend_by_nothing_wakes_nobody_with_nothing(nursery: trio.Nursery) -> None:
    """`take` promises an empty list only once closed: its caller ends at one."""
    inbox: Inbox[int] = Inbox(10)
    taken: list[list[int]] = []

    async def take() -> None:
        taken.append(await inbox.take())

    nursery.start_soon(take)
    await wait_all_tasks_blocked()
    inbox.extend([], 0)
    await wait_all_tasks_blocked()
    assert taken == []
    inbox.put(1)
    await wait_all_tasks_blocked()
    assert taken == [[1]]


async def test_take_nowait_between_waking_and_running_leaves_the_taker_waiting(nursery: trio.Nursery) -> None:
    inbox: Inbox[int] = Inbox(10)
    taken: list[list[int]] = []

    async def take() -> None:
        taken.append(await inbox.take())

    nursery.start_soon(take)
    await wait_all_tasks_blocked()
    inbox.put(1)
    assert inbox.take_nowait() == [1]
    await wait_all_tasks_blocked()
    assert taken == []
    inbox.put(2)
    await wait_all_tasks_blocked()
    assert taken == [[2]]
