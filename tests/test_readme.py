"""The README tells the truth: every snippet in it runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_stomp import ServerConfig, StompApp, serve
from trio_stomp.cli import _parser
from trio_stomp.testing import open_test_server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run_snippet(section: str) -> dict[str, Any]:
    """Run the Python snippet under a heading; gives its names."""
    body = README.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"```python\n(.*?)```", body, re.DOTALL)
    assert len(found) == 1, f"{section}: expected one snippet, found {len(found)}"
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(found[0], f"README.md, {section}", "exec"), names)
    return names


def test_every_python_snippet_has_its_test_here() -> None:
    headings = re.findall(r"\n## ([^\n]+)\n(?:(?!\n## ).)*?```python", README, re.DOTALL)
    here = Path(__file__).read_text(encoding="utf-8")
    assert headings
    assert [heading for heading in headings if f'run_snippet("{heading}")' not in here] == []


async def test_the_handler_answers_the_room(autojump_clock: trio.abc.Clock) -> None:
    app: StompApp = run_snippet("A handler in ten lines")["app"]
    await run_snippet("Tests without sockets")["test_the_room_hears_it"](app)


async def test_the_blocking_handler_answers_the_sender() -> None:
    app: StompApp = run_snippet("Blocking calls")["app"]
    async with (
        open_test_server(app) as server,
        server.client() as ada,
        ada.subscribe("/user/queue/receipts") as receipts,
    ):
        await ada.send("/app/pay", {"amount": 3})
        assert (await receipts.receive()).text == "paid 3"


async def test_the_embedded_server_starts_publishes_and_drains(capsys: pytest.CaptureFixture[str]) -> None:
    await run_snippet("In your own program")["main"](StompApp())
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/ws\n", capsys.readouterr().out)


async def test_the_client_hears_itself(capsys: pytest.CaptureFixture[str]) -> None:
    converse = run_snippet("The client")["converse"]
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, None, ServerConfig(port=0))
        await converse(server.url)
        await server.drain()
    assert capsys.readouterr().out == '/topic/x {"text":"hello"}\n'


COMMANDS = [line for line in README.splitlines() if re.match(r"trio-stomp [a-z]+ .* {2,}", line)]


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.split()[1])
def test_each_command_is_one_that_the_command_line_knows(line: str) -> None:
    words = shlex.split(re.split(r" {2,}", line)[0].replace("[", "").replace("]", "").replace("...", ""))
    options = _parser().parse_args(words[1:])
    assert options.run is not None


def test_files_that_it_links_to_are_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
