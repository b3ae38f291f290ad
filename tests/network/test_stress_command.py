"""`trio-stomp stress` as a person runs it: the report, its files, exit codes, options that cannot be."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from network.support import PATIENCE, ROOT, run_command, serving

APP = "examples.external_api.app:app"
QUOTES = ("--destination", "/app/quote", "--body", '{"sku": "A"}', "--reply", "/user/queue/quotes")
SHORT = ("--duration", "0.5", "--warm-up", "0.1", "--grace", "0.5")
FAST = {"EXTERNAL_API_SECONDS": "0.005", "EXTERNAL_API_CAPACITY": "4"}


def test_a_sweep_tells_sizes_recommends_one_and_writes_its_files(tmp_path: Path) -> None:
    files = ("--json", str(tmp_path / "a.json"), "--html", str(tmp_path / "a.html"))
    load = ("--clients", "8", "--rate", "300", "--sweep", "external_api=1,2")
    done = run_command("stress", APP, *QUOTES, *SHORT, *load, *files, environ=FAST)
    assert done.returncode == 0, done.stderr
    assert "run 1 of 2: external_api=1: measuring" in done.stderr
    assert "[pools.external_api]\n" in done.stdout
    saved = json.loads((tmp_path / "a.json").read_text())
    threads = [run["threads"] for run in saved["runs"]]
    assert threads == sorted(threads)
    assert threads[:2] == [1, 2]
    assert f"threads = {saved['recommendation']['threads']}" in done.stdout
    first = saved["runs"][0]
    assert first["sent"] == 150
    assert first["answered"] + first["unanswered"] == 150
    assert first["split"]["call"] >= 0.005
    page = (tmp_path / "a.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<svg" in page
    assert "external_api" in page
    compared = run_command("stress", "compare", str(tmp_path / "a.json"), str(tmp_path / "a.json"))
    assert compared.returncode == 0
    assert "external_api=1" in compared.stdout


def test_a_ramp_finds_where_it_breaks() -> None:
    load = ("--clients", "8", "--ramp", "50:1000:4", "--set", "pools.external_api.threads=1")
    done = run_command("stress", APP, *QUOTES, *SHORT, *load, environ=FAST)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ +50/s", done.stdout, re.MULTILINE)
    assert "1,000/s" not in done.stdout.split("Result", 1)[0]  # it has broken before


@pytest.mark.parametrize(
    ("criteria", "status"), [("p99>10s,lost>0", 0), ("p50>1us", 1), ("answered<1000000,lost>0", 1)]
)
def test_a_url_is_measured_as_it_is_and_judged(criteria: str, status: int) -> None:
    with serving() as server:
        done = run_command(
            *("stress", server.url, "--destination", "/topic/x", "--body", "hello", "--login", "ada"),
            *(*SHORT, "--clients", "3", "--rate", "100", "--fail-if", criteria, "--passcode", "hidden"),
        )
    assert done.returncode == status, done.stderr
    assert ("failed: " in done.stderr) == bool(status)
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stdout


def test_a_passcode_is_not_saved(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    secrets = ("--passcode=hidden1", "--header", "x:y")
    with serving() as server:
        done = run_command(
            *("stress", server.url, "--destination", "/topic/x", *SHORT, "--json", str(file), *secrets)
        )
    assert done.returncode == 0, done.stderr
    assert "hidden1" not in file.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_a_signal_reports_what_was_measured_and_leaves_no_server(number: signal.Signals) -> None:
    command = (sys.executable, "-m", "trio_stomp", "stress", APP, *QUOTES, *SHORT, "--sweep")
    process = subprocess.Popen(
        [*command, "external_api=1,2,3,4,5,6,7,8"],
        cwd=ROOT,
        env={**os.environ, **FAST, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "external_api=2: measuring" in line:
                process.send_signal(number)
                break
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait(PATIENCE)
    assert process.returncode == 1
    assert "; this is what was measured before" in err
    assert "Traceback" not in err
    assert re.search(r"^ +1\*? ", out, re.MULTILINE)


def test_a_terminal_gets_a_bar_and_a_table() -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    with serving() as server:
        command = (sys.executable, "-m", "trio_stomp", "stress", server.url, "--destination", "/topic/x")
        process = subprocess.Popen(
            [*command, *SHORT],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"},
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # how Linux says that the other end is closed
            pass
        finally:
            os.close(ours)
            assert process.wait(PATIENCE) == 0
    text = shown.decode()
    assert "\x1b[" in text
    assert "measuring" in text
    assert "achieved" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sweep", "external_api"), "expected POOL=SIZE,SIZE"),
        (("--sweep", "external_api=0"), "expected 1 to 10,000 threads"),
        (("--ramp", "100"), "expected FROM:TO"),
        (("--ramp", "200:100"), "expected a rate and a higher one"),
        (("--sweep", "a=1", "--ramp", "1:2"), "not allowed with"),
        (("--target", "p98<1s"), "p98"),
        (("--fail-if", "p99>"), "p99>"),
        (("--rate", "0"), "rate is 0"),
        (("--clients", "many"), "many"),
        (("--header", "x"), "expected NAME:VALUE"),
        (("--json", "no/such/folder/a.json"), "expected a file in a folder that is there"),
        (("--body", "@no-such-file"), "no-such-file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_with_the_options_is_told_before_anything_starts(
    arguments: tuple[str, ...], said: str
) -> None:
    done = run_command("stress", APP, "--destination", "/app/quote", *arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "run 1" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((APP, "--sweep", "external_ap=1,2"), "the app has no such pool; the nearest is 'external_api'"),
        (("no.such.module:app",), "there is no module 'no'"),
        (("ws://127.0.0.1:1/ws",), "127.0.0.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_tested_is_exit_code_1_and_says_why(arguments: tuple[str, ...], said: str) -> None:
    done = run_command("stress", *arguments, "--destination", "/app/quote", *SHORT)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    done = run_command("stress", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    assert done.returncode == 1
    assert "a.json" in done.stderr
    assert "Traceback" not in done.stderr
