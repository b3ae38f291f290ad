"""Autobahn's cases against our transport on real sockets, where it reads and writes by other ways."""

from __future__ import annotations

import pytest
import trio
from autobahn import Behavior, Case, put_to_case
from autobahn_cases import CASES
from autobahn_echo import open_ours_on_a_socket
from trio.testing import MockClock

QUIET_SECONDS = 0.01
"""Of real time without an event, after which the clock jumps: what is on its way has arrived by then."""

ON_SOCKETS = [case for case in CASES if case.section != 6 or int(case.id.split(".")[1]) < 5]
"""Which bytes are UTF-8 does not depend on the stream."""


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast path", "library only"])
@pytest.mark.parametrize("case", ON_SOCKETS, ids=str)
def test_our_transport_is_strict(case: Case, is_fast: bool) -> None:
    trio.run(_put_to, case, is_fast, clock=MockClock(autojump_threshold=QUIET_SECONDS))


async def _put_to(case: Case, is_fast: bool) -> None:
    async with open_ours_on_a_socket(is_fast=is_fast) as stream:
        verdict = await put_to_case(stream, case)
    wanted = Behavior.INFORMATIONAL if case.is_free else Behavior.OK
    assert (verdict.behavior, verdict.close) == (wanted, wanted), verdict
    assert verdict.code in (case.codes if case.id != "7.3.1" else {1005}), "a Close without code for one"
