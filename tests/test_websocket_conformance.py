"""Autobahn's cases, against our transport (fast path and library only) and trio-websocket's own server."""

from __future__ import annotations

import pytest
from autobahn import Behavior, Case, put_to_case
from autobahn_cases import CASES
from autobahn_echo import open_library, open_ours
from paths import both_paths
from trio.testing import MockClock

each_case = pytest.mark.parametrize("case", CASES, ids=str)


@both_paths
@each_case
async def test_our_transport_is_strict(case: Case, is_fast: bool, autojump_clock: MockClock) -> None:
    async with open_ours(is_fast=is_fast) as stream:
        verdict = await put_to_case(stream, case)
    wanted = Behavior.INFORMATIONAL if case.is_free else Behavior.OK
    assert (verdict.behavior, verdict.close) == (wanted, wanted), verdict
    assert verdict.code is not None, "we never hang up without a Close"


@each_case
async def test_trio_websockets_own_server_does_what_the_table_says(
    case: Case, autojump_clock: MockClock
) -> None:
    async with open_library() as stream:
        verdict = await put_to_case(stream, case)
    assert verdict.close is (Behavior.INFORMATIONAL if case.is_free else Behavior.OK)
    if case.is_free:
        assert verdict.behavior is Behavior.INFORMATIONAL
    elif case.tolerates is None:
        assert verdict.behavior is Behavior.OK
    else:
        assert verdict.behavior in (Behavior.OK, Behavior.NON_STRICT)
    assert (verdict.code is None) == case.is_illegal, "it hangs up without a Close, and only then"
