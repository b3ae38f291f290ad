"""DESIGN section 6 over memory streams: our server withstands, and the naive one is known not to."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from hardening import CASES, Case, CaseFailed, open_ours, put_to
from naive import open_naive
from trio.testing import MockClock


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast path", "library only"])
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_our_server_withstands(case: Case, is_fast: bool, autojump_clock: MockClock) -> None:
    await put_to(case, open_ours(is_fast=is_fast))


@pytest.mark.xfail(raises=CaseFailed, reason="trio_websocket.serve_websocket does not withstand")
@pytest.mark.parametrize("case", [case for case in CASES if case.bites is not None], ids=str)
def test_the_naive_server_withstands(case: Case) -> None:
    # Not an async test: pytest-trio would wrap the failure in a group, which `raises` takes for any.
    run = partial(put_to, case, open_naive(), wanted=case.bites)
    trio.run(run, clock=MockClock(autojump_threshold=0))
