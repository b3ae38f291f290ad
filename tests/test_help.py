"""The help texts of the command line. (What commands do: test_cli.py, network/test_command_line.py.)"""

from __future__ import annotations

import argparse
import re

import pytest

from trio_stomp.cli import _parser, main
from trio_stomp.config import ServerConfig


def commands() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser by name, and the outermost one as ``""``."""
    parser = _parser()
    found = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return {"": parser, **found[0].choices}


ALL = commands()
ARGUMENTS = [
    (command, action)
    for command, parser in ALL.items()
    for action in parser._actions
    if not isinstance(action, argparse._SubParsersAction)
]


@pytest.mark.parametrize("command", ALL)
def test_help_fits_a_narrow_terminal_and_any_encoding(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"] if command else ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("command", ALL)
def test_a_description_is_made_of_sentences(command: str) -> None:
    assert re.fullmatch(r"[A-Z].*\.", ALL[command].description or "")


@pytest.mark.parametrize(
    ("command", "action"), ARGUMENTS, ids=[f"{command} {action.dest}" for command, action in ARGUMENTS]
)
def test_every_argument_says_what_it_is(command: str, action: argparse.Action) -> None:
    assert action.help
    assert not action.help.endswith(".")


@pytest.mark.parametrize("name", ["host", "port", "path", "log_level"])
def test_the_defaults_told_are_the_settings(name: str) -> None:
    [action] = [each for each in ALL["serve"]._actions if each.dest == name]
    told = re.search(r"\(default (.*)\)$", action.help or "")
    assert told is not None
    assert told[1] == str(getattr(ServerConfig(), name))


def test_each_option_of_serve_is_a_setting_of_its_name() -> None:
    others = {"help", "app", "config", "set"}
    for action in ALL["serve"]._actions:
        assert action.dest in others or hasattr(ServerConfig(), action.dest), action.dest
