"""The outbox: bounded offers, one piece for the writer, an end that keeps what was promised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from trio_stomp.channels.outbox import Outbox
from trio_stomp.config import OutboxConfig


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    made = Outbox(OutboxConfig(messages=5))
    made.max_bytes = 100  # the configuration takes no less than 1 KiB
    yield made
    made.close()


class Writer:
    """Takes until the end, each piece when the test lets it."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.written: list[bytes] = []
        self.has_ended = False
        self._may_write = trio.Semaphore(0)

    async def run(self) -> None:
        while data := await self.outbox.take():
            await self._may_write.acquire()
            self.written.append(data)
        self.has_ended = True

    async def write(self, pieces: int = 1) -> None:
        for _ in range(pieces):
            self._may_write.release()
            await wait_all_tasks_blocked()


@pytest.fixture
async def writer(outbox: Outbox, nursery: trio.Nursery) -> Writer:
    made = Writer(outbox)
    nursery.start_soon(made.run)
    await wait_all_tasks_blocked()
    return made


async def test_what_was_offered_is_taken_as_one_piece_in_order(outbox: Outbox) -> None:
    for frame in (b"a", b"b", b"c"):
        assert outbox.offer(frame)
    outbox.flush()
    assert await outbox.take() == b"abc"


async def test_single_frame_is_the_same_object_that_was_offered(outbox: Outbox) -> None:
    frame = b"x" * 50
    outbox.offer(frame)
    outbox.flush()
    assert await outbox.take() is frame


async def test_writer_waits_for_a_flush(outbox: Outbox, writer: Writer) -> None:
    outbox.offer(b"a")
    await wait_all_tasks_blocked()
    outbox.offer(b"b")
    outbox.flush()
    await wait_all_tasks_blocked()
    await writer.write()
    assert writer.written == [b"ab"]


async def test_flush_of_nothing_wakes_nobody(outbox: Outbox, writer: Writer) -> None:
    outbox.flush()
    await wait_all_tasks_blocked()
    assert not writer.has_ended
    outbox.offer(b"a")
    outbox.flush()
    await writer.write()
    assert writer.written == [b"a"]


async def test_flush_clears_the_dirty_mark(outbox: Outbox) -> None:
    outbox.is_dirty = True
    outbox.flush()
    assert not outbox.is_dirty


async def test_what_gathers_during_a_write_is_the_next_piece(outbox: Outbox, writer: Writer) -> None:
    outbox.offer(b"a")
    outbox.flush()
    await wait_all_tasks_blocked()  # the writer holds "a"
    for frame in (b"b", b"c"):
        outbox.offer(frame)
        outbox.flush()
    outbox.offer(b"d")
    outbox.flush()
    await writer.write(3)
    assert b"".join(writer.written) == b"abcd"
    assert len(writer.written) <= 3


async def test_order_holds_over_many_flushes(outbox: Outbox, writer: Writer) -> None:
    offered = [b"%d," % number for number in range(30)]
    for number, frame in enumerate(offered):
        assert outbox.offer(frame)
        if number % 3:
            outbox.flush()
        if number % 2:
            await writer.write()
    outbox.finish(1000)
    await writer.write(30)
    assert b"".join(writer.written) == b"".join(offered)
    assert writer.has_ended


async def test_offers_past_the_bytes_are_refused(outbox: Outbox) -> None:
    assert outbox.offer(b"x" * 60)
    assert outbox.offer(b"x" * 40)
    assert not outbox.offer(b"x")
    assert outbox.size == 100


async def test_refused_frame_leaves_no_trace(outbox: Outbox) -> None:
    outbox.offer(b"x" * 60)
    assert not outbox.offer(b"y" * 60)
    outbox.flush()
    assert await outbox.take() == b"x" * 60


async def test_one_frame_larger_than_the_limit_passes_when_nothing_is_queued(outbox: Outbox) -> None:
    assert outbox.offer(b"x" * 500)
    outbox.flush()
    assert await outbox.take() == b"x" * 500


async def test_beside_a_larger_frame_there_is_room_as_ever(outbox: Outbox) -> None:
    assert outbox.offer(b"x" * 500)
    assert outbox.offer(b"y" * 60)
    assert not outbox.offer(b"z" * 41)
    outbox.flush()
    assert await outbox.take() == b"x" * 500 + b"y" * 60
    assert outbox.offer(b"z" * 40)  # while the larger one is being written


async def test_a_second_larger_frame_is_refused_until_the_first_is_written(
    outbox: Outbox, writer: Writer
) -> None:
    assert outbox.offer(b"x" * 500)
    outbox.flush()
    await wait_all_tasks_blocked()  # the writer holds it
    assert not outbox.offer(b"y" * 500)
    await writer.write()
    assert outbox.offer(b"y" * 500)


async def test_room_is_as_before_once_a_larger_frame_is_written(outbox: Outbox, writer: Writer) -> None:
    assert outbox.offer(b"x" * 500)
    outbox.flush()
    await wait_all_tasks_blocked()
    assert outbox.offer(b"y" * 100)
    outbox.flush()
    await writer.write()  # the larger one; the writer has taken the next
    assert not outbox.offer(b"z")


async def test_offers_past_the_messages_are_refused(outbox: Outbox) -> None:
    for _ in range(5):
        assert outbox.offer(b"x")
    assert not outbox.offer(b"x")


async def test_what_is_being_written_counts_until_it_is(outbox: Outbox, writer: Writer) -> None:
    outbox.offer(b"x" * 100)
    outbox.flush()
    await wait_all_tasks_blocked()  # the writer holds it
    assert (outbox.is_idle, outbox.offer(b"x")) == (False, False)
    await writer.write()
    assert (outbox.is_idle, outbox.offer(b"x")) == (True, True)


async def test_take_does_not_yield_when_something_gathered_during_a_write(outbox: Outbox) -> None:
    outbox.offer(b"a")
    outbox.flush()
    await outbox.take()
    outbox.offer(b"b")
    with assert_no_checkpoints():
        assert await outbox.take() == b"b"


async def test_cancelling_take_loses_nothing(outbox: Outbox) -> None:
    with trio.move_on_after(0):
        await outbox.take()
    outbox.offer(b"a")
    outbox.flush()
    with trio.CancelScope() as scope:
        scope.cancel()
        await outbox.take()
    assert outbox.size == 1
    assert await outbox.take() == b"a"


async def test_finish_lets_the_writer_send_what_is_there(outbox: Outbox, writer: Writer) -> None:
    outbox.offer(b"a")
    outbox.flush()
    await wait_all_tasks_blocked()  # the writer holds "a"
    outbox.offer(b"b")
    outbox.flush()
    outbox.offer(b"c")
    outbox.finish(4500, "too slow")
    assert (outbox.close_code, outbox.close_reason) == (4500, "too slow")
    await writer.write(4)
    assert b"".join(writer.written) == b"abc"
    assert writer.has_ended


async def test_finish_without_a_flush_sends_what_was_offered(outbox: Outbox, writer: Writer) -> None:
    outbox.offer(b"a")
    outbox.finish(1000)
    await writer.write(2)
    assert writer.written == [b"a"]
    assert writer.has_ended


async def test_finish_ends_a_writer_that_waits(outbox: Outbox, writer: Writer) -> None:
    outbox.finish(1000)
    await wait_all_tasks_blocked()
    assert writer.has_ended


async def test_take_after_the_end_is_empty_again_and_again(outbox: Outbox) -> None:
    outbox.finish(1000)
    assert await outbox.take() == b""
    assert await outbox.take() == b""


async def test_first_finish_counts(outbox: Outbox) -> None:
    outbox.finish(1002, "protocol")
    outbox.finish(1000, "bye")
    outbox.discard(1006)
    assert (outbox.close_code, outbox.close_reason) == (1002, "protocol")


async def test_offers_after_finish_are_taken_and_dropped(outbox: Outbox) -> None:
    outbox.offer(b"a")
    outbox.finish(1000)
    assert outbox.offer(b"x" * 1000)
    outbox.flush()
    assert await outbox.take() == b"a"
    assert await outbox.take() == b""


async def test_discard_drops_what_is_queued_and_what_comes(outbox: Outbox) -> None:
    outbox.offer(b"a")
    outbox.flush()
    outbox.offer(b"b")
    outbox.discard()
    assert outbox.close_code == 1006
    assert outbox.offer(b"c")
    assert await outbox.take() == b""
    assert outbox.is_idle


async def test_discard_leaves_only_the_last_words(outbox: Outbox) -> None:
    outbox.offer(b"a")
    outbox.flush()
    outbox.offer(b"b")
    outbox.discard(4500, "too slow", last_words=b"ERROR")
    assert await outbox.take() == b"ERROR"
    assert await outbox.take() == b""
    assert outbox.is_idle


async def test_discard_during_a_write_ends_the_writer_after_it(outbox: Outbox, writer: Writer) -> None:
    outbox.offer(b"a")
    outbox.flush()
    await wait_all_tasks_blocked()  # the writer holds "a"
    outbox.offer(b"b")
    outbox.discard(last_words=b"z")
    await writer.write(2)
    assert writer.written == [b"a", b"z"]
    assert writer.has_ended
    assert outbox.is_idle


async def test_last_words_count_as_queued_until_they_are_written(outbox: Outbox, writer: Writer) -> None:
    outbox.offer(b"aaa")
    outbox.flush()
    await wait_all_tasks_blocked()  # the writer holds "aaa"
    outbox.discard(last_words=b"z")
    assert outbox.size == 4
    await writer.write()
    assert outbox.size == 1
    await writer.write()
    assert outbox.size == 0


async def test_discard_wakes_a_writer_that_waits_for_the_last_words(outbox: Outbox, writer: Writer) -> None:
    outbox.discard(last_words=b"z")
    await writer.write(2)
    assert writer.written == [b"z"]
    assert writer.has_ended


async def test_discard_after_finish_drops_what_was_still_to_be_sent(outbox: Outbox) -> None:
    outbox.offer(b"a")
    outbox.finish(1000, "bye")
    outbox.discard()
    assert (outbox.close_code, outbox.close_reason) == (1000, "bye")
    assert await outbox.take() == b""


async def test_size_is_right_after_each_step(outbox: Outbox) -> None:
    outbox.offer(b"aa")
    outbox.flush()
    assert outbox.size == 2
    await outbox.take()
    outbox.offer(b"bbb")
    assert outbox.size == 5
    await outbox.take()
    assert outbox.size == 3
    with trio.move_on_after(0):
        await outbox.take()
    assert outbox.size == 0
    assert outbox.is_idle


async def test_wait_for_a_batch_that_was_woken_and_cancelled_keeps_the_batch(outbox: Outbox) -> None:
    async with trio.open_nursery() as inner:
        taken: list[bytes] = []

        async def take() -> None:
            taken.append(await outbox.take())

        inner.start_soon(take)
        await wait_all_tasks_blocked()
        outbox.offer(b"a")
        outbox.flush()
        inner.cancel_scope.cancel()
    assert taken == [b"a"]


async def test_closing_leaves_no_open_channel() -> None:
    outbox = Outbox(OutboxConfig())
    outbox.offer(b"a")
    outbox.close()
    outbox.close()
    assert outbox.offer(b"b")


# Writing in the flush.


class Socket:
    """Takes so many bytes of each piece without waiting."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.got: list[bytes] = []

    def send_now(self, data: bytes) -> int:
        taken = data[: self.room]
        self.got += [taken] if taken else []
        return len(taken)


@pytest.fixture
def straight() -> Iterator[tuple[Outbox, Socket]]:
    socket = Socket(room=1000)
    made = Outbox(OutboxConfig(messages=5), socket.send_now)
    made.max_bytes = 100
    yield made, socket
    made.close()


async def start(outbox: Outbox, nursery: trio.Nursery) -> Writer:
    writer = Writer(outbox)
    nursery.start_soon(writer.run)
    await wait_all_tasks_blocked()
    return writer


async def half_sent(outbox: Outbox, socket: Socket, nursery: trio.Nursery) -> Writer:
    """A writer that has to write ``cde``; the socket has taken ``ab``."""
    writer = await start(outbox, nursery)
    socket.room = 2
    outbox.offer(b"abcde")
    outbox.flush()
    return writer


async def test_a_flush_sends_itself_what_goes_while_the_writer_has_nothing_to_do(
    straight: tuple[Outbox, Socket], nursery: trio.Nursery
) -> None:
    outbox, socket = straight
    writer = await start(outbox, nursery)
    for _ in range(2):
        outbox.offer(b"a")
        outbox.offer(b"b")
        outbox.flush()
        assert outbox.is_idle
    await writer.write()
    assert socket.got == [b"ab", b"ab"]
    assert writer.written == []


async def test_before_the_writer_is_there_a_flush_sends_nothing(straight: tuple[Outbox, Socket]) -> None:
    outbox, socket = straight
    outbox.offer(b"a")
    outbox.flush()
    assert socket.got == []
    assert await outbox.take() == b"a"


async def test_what_does_not_go_is_the_writers(
    straight: tuple[Outbox, Socket], nursery: trio.Nursery
) -> None:
    outbox, socket = straight
    writer = await start(outbox, nursery)
    socket.room = 0
    outbox.offer(b"abc")
    outbox.flush()
    assert outbox.size == 3
    await writer.write()
    assert writer.written == [b"abc"]


async def test_the_rest_goes_before_all_else_and_nothing_straight_meanwhile(
    straight: tuple[Outbox, Socket], nursery: trio.Nursery
) -> None:
    outbox, socket = straight
    writer = await half_sent(outbox, socket, nursery)
    assert outbox.size == 3
    for frame in (b"f", b"g"):  # before and while the writer writes
        outbox.offer(frame)
        outbox.flush()
        await wait_all_tasks_blocked()
    await writer.write(2)
    assert (socket.got, writer.written) == ([b"ab"], [b"cde", b"fg"])
    assert outbox.is_idle


async def test_a_discard_drops_no_rest_whose_beginning_has_been_sent(
    straight: tuple[Outbox, Socket], nursery: trio.Nursery
) -> None:
    outbox, socket = straight
    writer = await half_sent(outbox, socket, nursery)
    outbox.offer(b"dropped")
    outbox.discard(4500, last_words=b"too slow")
    assert outbox.size == 3 + 8
    await writer.write(2)
    assert writer.written == [b"cde", b"too slow"]
    assert writer.has_ended


async def test_a_frame_larger_than_the_limit_is_the_writers(
    straight: tuple[Outbox, Socket], nursery: trio.Nursery
) -> None:
    outbox, socket = straight
    writer = await start(outbox, nursery)
    outbox.offer(bytes(101))
    outbox.flush()
    await writer.write()
    assert (socket.got, writer.written) == ([], [bytes(101)])


async def test_room_is_told_of_after_a_flush_as_well(
    straight: tuple[Outbox, Socket], nursery: trio.Nursery
) -> None:
    outbox, _ = straight
    await start(outbox, nursery)
    calls: list[int] = []
    outbox.offer(b"x" * 50)
    outbox.on_room = lambda: calls.append(outbox.size)
    outbox.flush()
    assert calls == [0]
