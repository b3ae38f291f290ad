"""Matching: which frame answers which request, in order and out of it."""

from __future__ import annotations

import json
import math

import pytest

from trio_stomp.stomp.frames import Frame
from trio_stomp.stress.matching import ERRORS_ID, REPLY_ID, Session
from trio_stomp.stress.schedule import Schedule
from trio_stomp.stress.tally import Tally

REPLY = "/user/queue/receipts"


class Talk:
    """A session whose requests were all sent at 100, and the frames that come after."""

    def __init__(self, requests: int = 4, *, reply: str | None = REPLY, receipts: bool = True) -> None:
        self.tally = Tally(Schedule(begin=100.0, rate=requests, duration=1, warm_up=0, clients=1))
        self.session = Session(reply, receipts=receipts)
        self.numbers = [self.session.send(self.tally, k, 100.0) for k in range(requests)]

    def take(self, frame: Frame, at: float = 101.0) -> None:
        self.session.take(frame, at, self.tally)

    def reply(self, at: float = 101.0) -> None:
        self.take(Frame("MESSAGE", {"subscription": REPLY_ID, "destination": REPLY, "message-id": "1"}), at)

    def receipt(self, number: int | str, at: float = 101.0) -> None:
        self.take(Frame("RECEIPT", {"receipt-id": str(number)}), at)

    def error(self, number: int | None, body: object, at: float = 101.0, *, id: str = ERRORS_ID) -> None:
        headers = {"subscription": id, "destination": "/user/queue/errors", "message-id": "1"}
        if number is not None:
            headers["receipt-id"] = str(number)
        self.take(
            Frame("MESSAGE", headers, body if isinstance(body, bytes) else json.dumps(body).encode()), at
        )

    def close(self) -> dict[str, int]:
        """What each request came to, those that are 0 left out."""
        self.session.settle(self.tally)
        self.tally.close(110.0)
        tally = self.tally
        counts = {
            "answered": tally.count_answered,
            "rejected": tally.count_rejected,
            "errors": tally.count_errors,
            "lost": tally.count_lost,
            "unanswered": tally.count_open,
            "duplicates": tally.duplicates,
        }
        return {name: count for name, count in counts.items() if count}


def test_receipts_are_numbered_from_1() -> None:
    assert Talk(3).numbers == [1, 2, 3]


def test_a_reply_belongs_to_the_receipt_after_it_and_ends_the_latency() -> None:
    talk = Talk(1)
    talk.reply(at=100.25)
    talk.receipt(1, at=100.5)
    assert talk.close() == {"answered": 1}
    assert list(talk.tally.raw()) == pytest.approx([0.25])


def test_handlers_that_overtake_are_matched_by_their_receipts() -> None:
    talk = Talk(3)
    for number, at in ((3, 100.1), (1, 100.2), (2, 100.3)):
        talk.reply(at)
        talk.receipt(number, at)
    assert talk.close() == {"answered": 3}
    assert list(talk.tally.raw()) == pytest.approx([0.2, 0.3, 0.1])


def test_a_receipt_without_a_reply_is_a_lost_one() -> None:
    talk = Talk(2)
    talk.receipt(1)
    talk.reply()
    talk.receipt(2)
    assert talk.close() == {"answered": 1, "lost": 1}
    assert talk.tally.failures == ((f"RECEIPT without a MESSAGE on {REPLY}", 1),)


def test_replies_beyond_the_first_are_duplicates() -> None:
    talk = Talk(1)
    for at in (100.1, 100.2, 100.3):
        talk.reply(at)
    talk.receipt(1, 100.4)
    assert talk.close() == {"answered": 1, "duplicates": 2}
    assert list(talk.tally.raw()) == pytest.approx([0.1])


def test_a_second_receipt_is_a_duplicate_as_are_the_replies_before_it() -> None:
    talk = Talk(1)
    talk.reply()
    talk.receipt(1)
    talk.receipt(1)
    talk.reply()
    talk.reply()
    talk.receipt(1)
    assert talk.close() == {"answered": 1, "duplicates": 3}


def test_without_a_reply_the_receipt_is_the_answer_and_messages_are_nothing() -> None:
    talk = Talk(2, reply=None)
    talk.reply()
    talk.receipt(1, 100.5)
    assert talk.close() == {"answered": 1, "unanswered": 1}


@pytest.mark.parametrize(
    ("body", "outcome", "failure"),
    [
        ({"code": "overloaded", "message": "no room"}, "rejected", "overloaded: no room"),
        ({"code": "timeout", "message": "too long"}, "errors", "timeout: too long"),
        ({"code": "internal_error"}, "errors", "internal_error"),
        ({"text": "ours"}, "errors", "error"),
        (["code"], "errors", "error"),
        ("code", "errors", "error"),
        (b"\xff", "errors", "error"),
        (b"", "errors", "error"),
    ],
    ids=str,
)
def test_an_error_answers_its_request(body: object, outcome: str, failure: str) -> None:
    talk = Talk(1)
    talk.error(1, body)
    assert talk.close() == {outcome: 1}
    assert talk.tally.failures == ((failure, 1),)


def test_an_error_on_another_queue_answers_by_its_receipt_id() -> None:
    talk = Talk(1)
    talk.error(1, {"code": "declined", "message": "no money"}, id=REPLY_ID)
    assert talk.close() == {"errors": 1}


def test_a_reply_before_its_error_is_one_too_many() -> None:
    talk = Talk(2)
    talk.reply()
    talk.error(1, {"code": "timeout"})
    talk.reply()
    talk.receipt(2)
    assert talk.close() == {"answered": 1, "errors": 1, "duplicates": 1}


def test_an_error_that_names_no_request_is_told_and_ends_none() -> None:
    talk = Talk(1)
    talk.error(None, {"code": "internal_error", "message": "internal error"})
    assert talk.close() == {"unanswered": 1}
    assert talk.tally.failures == (("internal_error: internal error", 1),)


def test_a_receipt_that_is_no_number_of_ours_is_a_duplicate() -> None:
    talk = Talk(1)
    for text in ("abc", "²", "77"):
        talk.receipt(text)
    assert talk.close() == {"unanswered": 1, "duplicates": 3}


# What is silent at the end


def test_silent_requests_before_an_answered_one_are_lost_those_after_it_unanswered() -> None:
    talk = Talk(5)
    talk.reply()
    talk.receipt(3)
    assert talk.close() == {"lost": 2, "answered": 1, "unanswered": 2}


def test_an_error_shows_as_well_that_those_before_are_lost() -> None:
    talk = Talk(3)
    talk.error(2, {"code": "timeout"})
    assert talk.close() == {"lost": 1, "errors": 1, "unanswered": 1}


def test_one_that_was_overtaken_may_still_be_answered_before_the_end() -> None:
    talk = Talk(2)
    for number in (2, 1):
        talk.reply()
        talk.receipt(number)
    assert talk.close() == {"answered": 2}


def test_what_was_open_when_the_connection_ended_is_lost() -> None:
    talk = Talk(3)
    talk.reply()
    talk.receipt(1)
    talk.session.end()
    assert talk.close() == {"answered": 1, "lost": 2}


def test_a_late_answer_of_the_run_before_counts_for_neither() -> None:
    talk = Talk(2)
    talk.close()
    then = Tally(Schedule(begin=120.0, rate=10, duration=10, warm_up=0, clients=1))
    talk.session.send(then, 0, 120.0)
    for number in (1, 2):
        talk.session.take(Frame("MESSAGE", {"subscription": REPLY_ID}), 120.5, then)
        talk.session.take(Frame("RECEIPT", {"receipt-id": str(number)}), 120.5, then)
    talk.session.settle(then)
    assert (then.count_answered, then.count_open, then.count_lost, then.duplicates) == (0, 1, 0, 0)
    assert (then.answers, talk.tally.count_answered) == (0, 0)


def test_between_two_runs_nothing_is_counted() -> None:
    session = Session(REPLY)
    session.take(Frame("RECEIPT", {"receipt-id": "1"}), 1.0, None)
    session.take(Frame("MESSAGE", {"subscription": ERRORS_ID}), 1.0, None)
    session.end()


# The session's wait


def test_a_request_waits_for_the_answer_before_it() -> None:
    talk = Talk(3)
    talk.reply(100.2)
    talk.receipt(1, 100.2)
    talk.error(2, {"code": "timeout"}, 100.5)
    talk.reply(100.6)
    talk.receipt(3, 100.6)
    assert talk.close() == {"answered": 2, "errors": 1}
    assert talk.tally.session_wait == pytest.approx(0.5)  # the third, for the second


def test_a_write_that_took_long_is_put_right_unless_the_answer_is_there() -> None:
    talk = Talk(2)
    talk.reply(100.1)
    talk.receipt(1, 100.1)
    for number in talk.numbers:
        talk.session.sent(number, 100.7)
    talk.close()
    assert list(talk.tally.late()) == pytest.approx([0.0, 0.2])  # the second was due at 100.5


# Without receipts


def test_without_receipts_replies_match_in_order() -> None:
    talk = Talk(3, receipts=False)
    talk.reply(100.1)
    talk.reply(100.2)
    assert talk.close() == {"answered": 2, "unanswered": 1}
    assert list(talk.tally.raw()) == pytest.approx([0.1, 0.2])
    assert talk.tally.session_wait == pytest.approx(0.1)


def test_without_receipts_an_error_is_the_oldest_requests() -> None:
    talk = Talk(2, receipts=False)
    talk.error(None, {"code": "overloaded", "message": "no room"})
    talk.reply()
    assert talk.close() == {"answered": 1, "rejected": 1}


def test_without_receipts_a_reply_too_many_is_a_duplicate() -> None:
    talk = Talk(1, receipts=False)
    talk.reply()
    talk.reply()
    talk.error(None, {"code": "overloaded"})
    assert talk.close() == {"answered": 1, "duplicates": 2}


def test_the_first_answer_waits_for_nothing() -> None:
    talk = Talk(1, reply=None)
    talk.receipt(1, 100.5)
    assert talk.tally.session_wait == 0.0
    assert not math.isnan(talk.tally.session_wait)
