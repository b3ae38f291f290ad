"""The command line as far as it starts no loop: usage and check. (Help: test_help; the rest: network.)"""

from __future__ import annotations

import contextlib
import gc
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from trio_stomp import StompApp
from trio_stomp.cli import main
from trio_stomp.cli.usage import UsageError, load_app

GOOD = """
from trio_stomp import Message, StompApp
app = StompApp(title="a chat")
other = 7

@app.on_message("/app/say/{room}", send_to="/topic/{room}")
async def say(room: str, message: Message) -> str:
    return room
"""

BAD = """
from trio_stomp import StompApp
app = StompApp()

@app.on_message("/app/one")
async def one(a: int, b: int) -> None: ...

@app.on_message("/app/two", send_to="/topic/{nothing}")
async def two(a: int) -> str: ...
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory of the test's own as the current one; what was imported from it is forgotten."""
    path, known = list(sys.path), set(sys.modules)
    with contextlib.chdir(tmp_path):
        yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["check"],
        ["send"],
        ["send", "ws://h/ws"],
        ["subscribe", "ws://h/ws"],
        ["serve", "--nonsense"],
        ["subscribe", "ws://h/ws", "/topic/a", "--count", "many"],
        ["subscribe", "ws://h/ws", "/topic/a", "--ack", "later"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: trio-stomp" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["serve", "--help"], ["check", "--help"], ["send", "--help"]]
)
def test_help_goes_to_standard_output(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 0
    assert "usage: trio-stomp" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert re.match(r"trio-stomp \d+\.\d+", capsys.readouterr().out)


def test_check_shows_the_routes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "good_app.py").write_text(GOOD)
    assert main(["check", "good_app:app"]) == 0
    said = capsys.readouterr().out
    assert "a chat" in said
    assert "/app/say/{room}" in said
    assert "client_inbound" in said


def test_check_tells_all_that_is_wrong_and_exits_with_1(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad_app.py").write_text(BAD)
    assert main(["check", "bad_app:app"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "one" in said.err
    assert "{nothing}" in said.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("good_app", "is not MODULE:APP"),
        (":app", "is not MODULE:APP"),
        ("good_app:", "is not MODULE:APP"),
        ("no_such_module:app", "there is no module 'no_such_module'"),
        ("good_app.deeper:app", "there is no module"),
        ("good_app:missing", "found nothing"),
        ("good_app:other", "found int"),
    ],
)
def test_an_app_that_is_not_there_exits_with_2_and_one_line(
    name: str, text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "good_app.py").write_text(GOOD)
    assert main(["check", name]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_load_app_gives_the_app(here: Path) -> None:
    (here / "good_app.py").write_text(GOOD)
    assert isinstance(load_app("good_app:app"), StompApp)


def test_a_module_that_lacks_another_one_says_so_itself(here: Path) -> None:
    (here / "lacking.py").write_text("import no_such_dependency")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load_app("lacking:app")


def test_load_app_names_what_it_did_not_find(here: Path) -> None:
    with pytest.raises(UsageError, match="no module 'nothing'"):
        load_app("nothing:app")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "outbox.bytes"], "expected NAME=VALUE"),
        (["--set", "outbox.byte=1"], "outbox.bytes"),
        (["--port", "many"], "port"),
        (["--port", "70000"], "65535"),
        (["--config", "no_such_file.toml"], "no_such_file.toml"),
        (["--tls-cert", "x.pem"], "tls_key"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_one_line(
    arguments: list[str], text: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) in (1, 2)
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "interrupt", [KeyboardInterrupt(), BaseExceptionGroup("in a task", [KeyboardInterrupt(), ValueError()])]
)
def test_an_interrupt_exits_with_130_wherever_it_came(
    interrupt: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> None:
        raise interrupt

    monkeypatch.setattr("trio_stomp.cli.messaging.trio.run", run)
    assert main(["subscribe", "ws://127.0.0.1:1/ws", "/topic/a"]) == 130


@pytest.mark.parametrize("command", ["subscribe", "send"])
def test_an_interrupt_breaks_into_no_task(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised where the main task waits: in the middle of starting a task it leaves Trio hanging."""
    went_on: list[bool] = []

    @contextlib.asynccontextmanager
    async def open_client(*_: object, **__: object) -> AsyncIterator[None]:
        async def be_interrupted() -> None:
            signal.raise_signal(signal.SIGINT)
            went_on.append(True)
            await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(be_interrupted)
            await trio.sleep_forever()
            yield

    monkeypatch.setattr("trio_stomp.cli.messaging.open_client", open_client)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest's workers ignore it
    try:
        assert main([command, "ws://127.0.0.1:1/ws", "/topic/a"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert went_on == [True]


def test_what_is_no_interrupt_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise ExceptionGroup("in a task", [ZeroDivisionError()])

    monkeypatch.setattr("trio_stomp.cli.messaging.trio.run", run)
    with pytest.raises(ExceptionGroup):
        main(["subscribe", "ws://127.0.0.1:1/ws", "/topic/a"])


def test_serving_has_the_collector_look_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` up to the event loop, where it is looked at what the process has become."""
    before = gc.get_threshold()
    seen: list[tuple[int, int]] = []

    def run(*_: object) -> int:
        seen.append((gc.get_threshold()[0], gc.get_freeze_count()))
        return 0

    monkeypatch.setattr(trio, "run", run)
    try:
        assert main(["serve"]) == 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
    ((threshold, frozen),) = seen
    assert threshold > 10_000
    assert frozen > 10_000
