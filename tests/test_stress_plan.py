"""The plan: what can be asked for, and what is refused with the value and what was expected."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from trio_stomp.errors import ConfigError
from trio_stomp.stress.plan import Plan, Ramp, Sweep, label_of_rate, label_of_size

URL = "ws://127.0.0.1:8080/ws"


def a_plan(**changes: Any) -> Plan:
    return Plan(**({"target": "shop.app:app", "destination": "/app/pay"} | changes))


def test_an_app_and_a_url_are_targets() -> None:
    assert not a_plan().is_url
    assert a_plan(target=URL).is_url
    assert a_plan(target="wss://h/ws?x=1").is_url


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target": "shop"}, "target 'shop', expected MODULE:APP or ws://HOST:PORT/PATH"),
        ({"target": "shop:"}, "target 'shop:', expected MODULE:APP"),
        ({"target": "http://h/ws"}, "target 'http://h/ws', expected ws://HOST:PORT/PATH"),
        ({"target": "ws:///ws"}, "target 'ws:///ws', expected"),
        ({"destination": "pay"}, "destination 'pay', expected one like /app/pay"),
        ({"reply": "q"}, "reply 'q', expected a destination like"),
        ({"reply": "/user/queue/errors"}, "that is where errors arrive"),
        ({"receipts": False}, "neither receipts nor a reply"),
        ({"headers": (("Receipt", "1"),)}, "header 'Receipt' is set by the test itself"),
        ({"clients": 0}, "clients is 0, expected 1 to 100,000 connections"),
        ({"rate": 0}, "rate is 0, expected 0.001 to 1,000,000 requests per second"),
        ({"rate": math.nan}, "rate is nan, expected"),
        ({"duration": math.inf}, "duration is inf, expected"),
        ({"warm_up": -1}, "warm-up is -1, expected 0 to 3,600 seconds"),
        ({"grace": -0.5}, "grace is -0.5, expected"),
        ({"rate": 1, "duration": 0.5}, "1 requests per second for 0.5 seconds: not even one"),
        ({"ramp": Ramp(0.5, 10), "duration": 1}, "0.5 requests per second for 1 seconds: not even one"),
        ({"sweep": Sweep("a", (1,)), "ramp": Ramp(1, 2)}, "a sweep and a ramp at once"),
        ({"target": URL, "sweep": Sweep("a", (1,))}, f"a sweep for {URL}: expected MODULE:APP"),
        ({"target": URL, "config": Path("x")}, f"a settings file for {URL}: expected MODULE:APP"),
        ({"target": URL, "settings": ("a=1",)}, f"settings for {URL}: expected MODULE:APP"),
    ],
    ids=str,
)
def test_what_cannot_be_carried_out_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        a_plan(**changes)
    assert text in str(refused.value)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="expected login and passcode") as refused:
        a_plan(target="ws://ada:secret@h/ws")
    assert "secret" not in str(refused.value)


def test_secrets_and_bodies_are_not_shown() -> None:
    shown = repr(
        a_plan(passcode="s3cret", body=b"s3cret", headers=(("k", "s3cret"),), settings=("a=s3cret",))
    )
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("pool", "sizes", "text"),
    [
        ("", (1,), "the pool's name is empty"),
        ("a", (), "no sizes"),
        ("a", (4, 0), "size 0, expected 1 to 10,000 threads"),
        ("a", (10_001,), "size 10001, expected"),
        ("a", (4, 8, 4), "sizes 4,8,4, expected each only once"),
    ],
)
def test_a_sweep_checks_its_sizes(pool: str, sizes: tuple[int, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Sweep(pool, sizes)


@pytest.mark.parametrize("ends", [(0, 10), (10, 10), (10, 5), (1, math.inf), (math.nan, 5)])
def test_a_ramp_goes_up(ends: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="expected a rate and a higher one"):
        Ramp(*ends)


def test_a_ramp_has_two_steps_at_least() -> None:
    with pytest.raises(ConfigError, match="1 steps, expected at least 2"):
        Ramp(1, 2, steps=1)


def test_a_ramp_rises_in_equal_steps_of_whole_numbers() -> None:
    assert Ramp(100, 2000).rates == (100, 311, 522, 733, 944, 1156, 1367, 1578, 1789, 2000)
    assert Ramp(0.5, 2, steps=4).rates == (0.5, 1.0, 1.5, 2)


def test_labels_name_what_was_varied() -> None:
    assert label_of_size("payments", 16) == "payments=16"
    assert label_of_rate(300.0) == "300/s"
    assert label_of_rate(0.25) == "0.25/s"
