"""Autobahn's cases, against our transport (fast path and library only) and trio-websocket's own server."""

from __future__ import annotations

import pytest
from autobahn import Behavior, Case, put_to_case
from autobahn_cases import CASES
from autobahn_echo import open_library, open_ours
from autobahn_table import DOCUMENT, battery, with_part
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
    assert verdict.code in (case.codes if case.id != "7.3.1" else {1005}), "a Close without code for one"


@each_case
async def test_trio_websockets_own_server_does_what_the_table_says(
    case: Case, autojump_clock: MockClock
) -> None:
    async with open_library() as stream:
        verdict = await put_to_case(stream, case)
    wanted = Behavior.INFORMATIONAL if case.is_free else Behavior.OK
    assert verdict.close is wanted
    assert verdict.behavior in ({wanted, Behavior.NON_STRICT} if case.is_race else {wanted})
    assert (verdict.code is None) == case.is_illegal, "it hangs up without a Close, and only then"


def test_the_table_in_the_documentation_is_that_of_the_cases() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert with_part(text, "battery", battery()) == text, "run: python tests/autobahn_table.py"


def test_a_part_of_the_documentation_without_its_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="no marks 'battery'"):
        with_part("<!-- battery -->\n", "battery", "")
