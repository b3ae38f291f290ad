"""DESIGN section 6 on real sockets: the same cases, but for those that need the server's end of a stream."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from hardening import CASES, Case, CaseFailed, open_ours_on_a_socket, put_to
from naive import open_naive_on_a_socket
from trio.testing import MockClock

QUIET_SECONDS = 0.01
"""Of real time without an event, after which the clock jumps: what is on its way has arrived by then."""

ON_SOCKETS = [case for case in CASES if not case.wraps]


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast path", "library only"])
@pytest.mark.parametrize("case", ON_SOCKETS, ids=str)
def test_our_server_withstands(case: Case, is_fast: bool) -> None:
    trio.run(put_to, case, open_ours_on_a_socket(is_fast=is_fast), clock=_clock())


@pytest.mark.xfail(raises=CaseFailed, reason="trio_websocket.serve_websocket does not withstand")
@pytest.mark.parametrize("case", [case for case in ON_SOCKETS if case.bites is not None], ids=str)
def test_the_naive_server_withstands(case: Case) -> None:
    run = partial(put_to, case, open_naive_on_a_socket(), wanted=case.bites)
    trio.run(run, clock=_clock())


def _clock() -> MockClock:
    return MockClock(autojump_threshold=QUIET_SECONDS)
