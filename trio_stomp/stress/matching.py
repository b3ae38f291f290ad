"""Which answer belongs to which request: one session's frames, seen in order.

Rule 1: the server puts a handler's reply and then its RECEIPT into the session, with nothing between them:
MESSAGEs since the last RECEIPT belong to the next one, in whatever order the handlers end.
Rule 2: a MESSAGE with a ``receipt-id`` tells that this request failed.
Rule 3: without receipts answers belong to requests in order; there is nothing else to go by.
Rule 4: whether a silent request is lost is decided at the end: handlers may run at once and overtake.
"""

from __future__ import annotations

import json
import math
from typing import Final

import attrs

from trio_stomp.stomp.frames import Frame
from trio_stomp.stress.tally import Tally

REPLY_ID: Final = "reply"
ERRORS_ID: Final = "errors"
"""The ids of the two subscriptions."""


@attrs.define
class _Request:
    tally: Tally
    k: int


class Session:
    """One client's requests that have no answer yet.

    Args:
        reply: where replies arrive; None: the RECEIPT is the answer.
        receipts: whether the server sends any.
    """

    def __init__(self, reply: str | None, *, receipts: bool = True) -> None:
        self._reply = reply
        self._receipts = receipts
        self._open: dict[int, _Request] = {}
        self._number = 0
        self._newest_answered = 0
        self._replies: list[float] = []
        self._last_answer = -math.inf

    def send(self, tally: Tally, k: int, at: float) -> int:
        """Note that request ``k`` goes out now; the number for its receipt, which counts from 1."""
        self._number += 1
        self._open[self._number] = _Request(tally, k)
        tally.sent(k, at)
        return self._number

    def sent(self, number: int, at: float) -> None:
        """Its last byte was taken only now; an answer that has come already stands."""
        request = self._open.get(number)
        if request is not None:
            request.tally.sent(request.k, at)

    def take(self, frame: Frame, at: float, tally: Tally | None) -> None:
        """See one frame that has come; duplicates count for ``tally``, the run that goes on."""
        headers = frame.headers
        if frame.command == "RECEIPT":
            self._receipt(headers["receipt-id"], at, tally)
        elif "receipt-id" in headers:
            self._error(_number(headers["receipt-id"]), frame, at, tally)
        elif headers.get("subscription") == ERRORS_ID:
            if not self._receipts:
                self._error(next(iter(self._open), None), frame, at, tally)
            elif tally is not None:
                tally.failure(": ".join(part for part in _told(frame) if part))
        elif self._reply is not None:
            if self._receipts:
                self._replies.append(at)
            else:
                self._in_order(at, tally)

    def end(self) -> None:
        """The connection is over: nobody will answer what is open."""
        for request in self._open.values():
            request.tally.lost(request.k)
        self._open.clear()

    def settle(self, tally: Tally) -> None:
        """The wait is over: what is open and older than an answered request is lost, the rest silent."""
        for number, request in self._open.items():
            if request.tally is tally and number < self._newest_answered:
                tally.lost(request.k)

    def _receipt(self, text: str, at: float, tally: Tally | None) -> None:
        replies, self._replies = self._replies, []
        request = self._answer(_number(text), tally, len(replies))
        if request is None:
            return
        if self._reply is None:
            request.tally.answered(request.k, at, self._last_answer)
        elif replies:
            request.tally.answered(request.k, replies[0], self._last_answer)
            request.tally.duplicate(len(replies) - 1)
        else:
            request.tally.lost(request.k, f"RECEIPT without a MESSAGE on {self._reply}")
        self._last_answer = at

    def _error(self, number: int | None, frame: Frame, at: float, tally: Tally | None) -> None:
        replies, self._replies = self._replies, []
        request = self._answer(number, tally, len(replies) + 1)
        if request is not None:
            code, text = _told(frame)
            request.tally.refused(request.k, at, code, text)
            request.tally.duplicate(len(replies))
            self._last_answer = at

    def _in_order(self, at: float, tally: Tally | None) -> None:
        request = self._answer(next(iter(self._open), None), tally, 1)
        if request is not None:
            request.tally.answered(request.k, at, self._last_answer)
            self._last_answer = at

    def _answer(self, number: int | None, tally: Tally | None, answers: int) -> _Request | None:
        """Return the request and forget it; without one, so many answers are each one too many."""
        if number is not None and (request := self._open.pop(number, None)) is not None:
            self._newest_answered = max(self._newest_answered, number)
            return request
        if tally is not None:
            tally.duplicate(max(answers, 1))
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _told(frame: Frame) -> tuple[str, str]:
    """Code and text of an error's body; what is no JSON object of ours is "error" without a text."""
    try:
        body = json.loads(frame.body)
        code, text = body["code"], body.get("message", "")
    except (ValueError, TypeError, KeyError, AttributeError):
        return "error", ""
    return str(code), str(text)
