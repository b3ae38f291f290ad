"""The README tells the truth: its snippets run, its commands parse, its tables are what a client sees."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from network.support import PATIENCE
from peer import Peer, gated_peer, open_peer, stomp
from trio.testing import MockClock
from wire import client_frame

from trio_stomp import (
    AccessDenied,
    ConnectRefused,
    ConnectRequest,
    DestinationError,
    OutboxConfig,
    OverloadedError,
    ServerConfig,
    ServerError,
    StompApp,
    StompConfig,
    load_config,
    open_client,
    serve,
)
from trio_stomp.cli import _parser
from trio_stomp.cli.stressing import joined
from trio_stomp.config import BrokerConfig
from trio_stomp.testing import TestServer, open_test_server

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section_of(heading: str) -> str:
    """What stands under a heading."""
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a language; of ``""`` those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [content for name, content in found if name == language]


def run_snippet(section: str) -> dict[str, Any]:
    """Run the Python snippet under a heading; gives its names."""
    found = blocks("python", section_of(section))
    assert len(found) == 1, f"{section}: expected one snippet, found {len(found)}"
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(found[0], f"README.md, {section}", "exec"), names)
    return names


def table(section: str, heading: str) -> list[list[str]]:
    """The rows of the section's table whose first column has that heading, cell by cell."""
    _, _, after = section_of(section).partition(f"\n| {heading} |")
    rows = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]


# The snippets


def test_every_python_snippet_has_its_test_here() -> None:
    headings = re.findall(r"\n## ([^\n]+)\n(?:(?!\n## ).)*?```python", README, re.DOTALL)
    here = Path(__file__).read_text(encoding="utf-8")
    assert headings
    assert [heading for heading in headings if f'run_snippet("{heading}")' not in here] == []


def test_every_snippet_has_ten_lines_at_most() -> None:
    for snippet in blocks("python"):
        assert len([line for line in snippet.splitlines() if line]) <= 10, snippet


async def test_the_handler_answers_the_room(autojump_clock: MockClock) -> None:
    app: StompApp = run_snippet("A handler in ten lines")["app"]
    await run_snippet("Tests without sockets")["test_the_room_hears_it"](app)


async def test_the_blocking_handler_answers_the_sender() -> None:
    app: StompApp = run_snippet("Blocking calls")["app"]
    with trio.fail_after(PATIENCE):
        async with (
            open_test_server(app) as server,
            server.client() as ada,
            ada.subscribe("/user/queue/receipts") as receipts,
        ):
            await ada.send("/app/pay", {"amount": 3})
            assert (await receipts.receive()).text == "paid 3"


async def test_the_embedded_server_starts_publishes_and_drains(capsys: pytest.CaptureFixture[str]) -> None:
    with trio.fail_after(PATIENCE):
        await run_snippet("In your own program")["main"](StompApp())
    assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/ws\n", capsys.readouterr().out)


async def test_the_client_hears_itself(capsys: pytest.CaptureFixture[str]) -> None:
    converse = run_snippet("The client")["converse"]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve, None, ServerConfig(port=0))
            await converse(server.url)
            await server.drain(delay=0, window=0)
    assert capsys.readouterr().out == '/topic/x {"text":"hello"}\n'


async def test_the_worker_takes_a_job_and_leaves_its_result() -> None:
    work = run_snippet("Jobs from a queue")["work"]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve, None, ServerConfig(port=0))
            async with open_client(server.url) as client, client.subscribe("/queue/results") as results:
                await client.send("/queue/jobs", "a job")
                await work(server.url)
                assert (await results.receive()).text == "A JOB"
            assert server.statistics().metrics.messages_queued == 0
            await server.drain(delay=0, window=0)


# The commands

IN_BLOCKS = [
    re.split(r" {2,}", line)[0]
    for block in blocks("")
    for line in block.replace("\\\n", "").splitlines()
    if line.startswith("trio-stomp ")
]
IN_TEXT = [code for code in re.findall(r"`(trio-stomp [^`\n]+)`", README) if " listening on " not in code]
OPTIONS = sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)))


@pytest.mark.parametrize("line", [*IN_BLOCKS, *IN_TEXT])
def test_each_command_parses(line: str) -> None:
    words = shlex.split(re.sub(r"[\[\]]|\.\.\.", "", line))[1:]
    if words[-1] == "--help" or len(words) == 1:  # a command's name alone
        with pytest.raises(SystemExit, match=r"^0$"):
            _parser().parse_args([words[0], "--help"])
    else:
        assert callable(_parser().parse_args(joined(words)).run)


def test_every_command_is_told() -> None:
    known = re.findall(r"^ {4}([a-z]+)", _parser().format_help(), re.MULTILINE)
    assert known
    assert {line.split()[1] for line in IN_BLOCKS} == set(known)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_is_one_of_the_command_lines(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = ""
    for command in sorted({line.split()[1] for line in IN_BLOCKS}):
        with pytest.raises(SystemExit):
            _parser().parse_args([command, "--help"])
        shown += capsys.readouterr().out
    assert re.search(rf"{option}\b", shown), option


@pytest.mark.parametrize("script", re.findall(r"^python (\S+)", README, re.MULTILINE))
def test_each_benchmark_is_there(script: str) -> None:
    assert (ROOT / script).exists()


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_each_make_target_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


# The picture


def test_the_picture_names_what_there_is() -> None:
    picture = blocks("", section_of("The message path"))[0]
    defined: set[str] = set()
    for file in (ROOT / "trio_stomp").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                defined.add(node.name)
    classes = set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", picture)) - {"WebSocket"}
    functions = set(re.findall(r"\b(\w+)\(\)", picture))
    assert classes == {"FrameDecoder", "ServerProtocol"}
    assert functions == {"publish", "offer"}
    assert classes | functions | {"dispatch"} <= defined
    assert " ".join(BrokerConfig().prefixes) in picture


# Errors of handlers


async def problem_of(app: StompApp, destination: str, body: bytes = b"{}") -> dict[str, Any]:
    """What a client that sends this to the app gets on its error queue."""
    with trio.fail_after(PATIENCE):
        async with (
            open_test_server(app) as server,
            server.client() as ada,
            ada.subscribe("/user/queue/errors", dict[str, Any]) as errors,
        ):
            await ada.send(destination, body, headers={"content-type": "application/json"})
            problem: dict[str, Any] = await errors.receive()
            return problem


@attrs.frozen
class Say:
    text: str


def raising(error: Exception) -> StompApp:
    app = StompApp()

    @app.on_message("/app/x")
    async def fail() -> None:
        raise error

    return app


def app_whose_payload_does_not_fit() -> StompApp:
    app = StompApp()

    @app.on_message("/app/x")
    async def say(message: Say) -> None: ...

    return app


def app_whose_handler_is_slow() -> StompApp:
    app = StompApp()

    @app.on_message("/app/x", timeout=1)
    async def sleep() -> None:
        await trio.sleep_forever()

    return app


APPS: dict[str, Callable[[], StompApp]] = {
    "invalid_payload": app_whose_payload_does_not_fit,
    "invalid_destination": lambda: raising(DestinationError("'x' has no '/'", "x")),
    "access_denied": lambda: raising(AccessDenied("not yours")),
    "overloaded": lambda: raising(OverloadedError("full")),
    "timeout": app_whose_handler_is_slow,
    "internal_error": lambda: raising(RuntimeError("secret")),
}
ERRORS = "Errors that a client sees"


def test_every_code_is_told_and_tried() -> None:
    assert [row[0] for row in table(ERRORS, "code")] == list(APPS)
    source = (ROOT / "trio_stomp" / "server" / "handling.py").read_text(encoding="utf-8")
    assert set(re.findall(r'return "(\w+)", ', source)) == set(APPS)


@pytest.mark.parametrize("code", APPS)
async def test_a_code_is_what_the_client_gets(code: str, autojump_clock: MockClock) -> None:
    problem = await problem_of(APPS[code](), "/app/x")
    assert problem["code"] == code
    assert "secret" not in str(problem)


async def test_the_problem_shown_is_what_a_client_gets(autojump_clock: MockClock) -> None:
    app: StompApp = run_snippet("A handler in ten lines")["app"]
    [shown] = blocks("json", section_of(ERRORS))
    expected = json.loads(shown)
    got = await problem_of(app, expected["destination"])
    assert len(got["correlation_id"]) == len(expected["correlation_id"])
    assert {**got, "correlation_id": ""} == {**expected, "correlation_id": ""}


@pytest.mark.parametrize("code", APPS)
async def test_without_the_subscription_it_is_error_and_close(code: str, autojump_clock: MockClock) -> None:
    async with open_test_server(APPS[code]()) as server:
        peer = await open_peer(server)
        await peer.say("SEND", b"{}", destination="/app/x", content_type="application/json", receipt="r")
        [error] = await peer.to_end()
    assert error.command == "ERROR"
    assert error.headers["receipt-id"] == "r"
    assert peer.close_code == (1011 if code == "internal_error" else 1008)


# Endings of sessions

SMALL = ServerConfig(stomp=StompConfig(subscriptions=2, body=1000), outbox=OutboxConfig(bytes=2048))


def app_with_rules() -> StompApp:
    app = StompApp()
    app.allow_subscribe("/topic/open/*")
    app.allow_send("/topic/**")

    @app.on_connect
    async def judge(request: ConnectRequest) -> None:
        if request.login == "mallory":
            raise ConnectRefused("not you")
        if request.login == "bug":
            raise RuntimeError("secret")

    return app


Ending = Callable[[TestServer], Awaitable[Peer]]


def after(*frames: bytes) -> Ending:
    """A client that is connected and sends these."""

    async def end(server: TestServer) -> Peer:
        peer = await open_peer(server)
        await peer.send(*frames)
        return peer

    return end


def with_login(login: str) -> Ending:
    async def end(server: TestServer) -> Peer:
        peer = Peer(server.connect())
        await peer.wire.shake_hands()
        await peer.send(stomp("CONNECT", accept_version="1.2", host="h", login=login))
        return peer

    return end


async def without_connect(server: TestServer) -> Peer:
    peer = Peer(server.connect())
    await peer.wire.shake_hands()
    return peer


async def silent(server: TestServer) -> Peer:
    return await open_peer(server, heart_beat="1000,0")


SUBSCRIBE = {"destination": "/topic/open/a"}
ENDINGS: dict[str, list[Ending]] = {
    "a frame is malformed or not legal here, or names a message or transaction that is not there": [
        after(client_frame(b"SEND\nno colon\n\n\0")),
        after(stomp("CONNECTED", version="1.2")),
        after(stomp("ACK", id="1-1")),
        after(stomp("COMMIT", transaction="t")),
        after(stomp("SUBSCRIBE", id="1", selector="a = 1", **SUBSCRIBE)),
        after(stomp("SEND", destination="/topic/a", transaction="t")),
    ],
    "a header is not UTF-8": [after(client_frame(b"SEND\ndestination:/topic/\xff\n\n\0", opcode=2))],
    "on_connect refused, or no CONNECT came in time": [with_login("mallory"), without_connect],
    "a destination is unknown, or no rule allows it": [
        after(stomp("SEND", destination="/nowhere")),
        after(stomp("SEND", destination="/queue/x")),
        after(stomp("SEND", destination="/user/ada/queue/x")),
        after(stomp("SUBSCRIBE", id="1", destination="/topic/closed")),
        after(stomp("SUBSCRIBE", id="1", destination="/topic/**")),
        after(stomp("SUBSCRIBE", id="1", destination="/user/ada/queue/x")),
    ],
    "more subscriptions than stomp.subscriptions": [
        after(*[stomp("SUBSCRIBE", id=str(number), **SUBSCRIBE) for number in range(3)])
    ],
    "a header, their number or a body is over its limit": [
        after(stomp("SEND", bytes(1001), destination="/topic/a")),
        after(stomp("SEND", destination="/topic/a", long="x" * 20_000)),
        after(stomp("SEND", destination="/topic/a", **{f"h{number}": "" for number in range(300)})),
    ],
    "the server failed": [with_login("bug")],
    "the client was silent for twice the heart-beat agreed on": [silent],
    "the client sent DISCONNECT": [after(stomp("DISCONNECT"))],
}
ELSEWHERE = {"the client reads too slowly: its outbox is full", "the server goes away"}
ROWS = {what.replace("`", ""): (error, int(code)) for what, error, code in table(ERRORS, "what happened")}


def test_every_ending_told_is_tried() -> None:
    assert set(ENDINGS) | ELSEWHERE == set(ROWS)


@pytest.mark.parametrize(
    ("what", "end"),
    [(what, end) for what, ends in ENDINGS.items() for end in ends],
    ids=[f"{what}-{number}" for what, ends in ENDINGS.items() for number, _ in enumerate(ends)],
)
async def test_an_ending_is_what_the_client_gets(what: str, end: Ending, autojump_clock: MockClock) -> None:
    async with open_test_server(app_with_rules(), SMALL) as server:
        peer = await end(server)
        frames = [frame.command for frame in await peer.to_end()]
    assert (["no", "yes"][frames == ["ERROR"]], peer.close_code) == ROWS[what]


async def test_a_client_that_reads_too_slowly_is_told(autojump_clock: MockClock) -> None:
    async with open_test_server(None, SMALL) as server, gated_peer(server, heart_beat="0,0") as (peer, gate):
        await peer.subscribe("/topic/a")
        gate.shut()
        for _ in range(5):
            await peer.say("SEND", bytes(900), destination="/topic/a")
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
        *_, last = await peer.to_end()
    assert (last.command, peer.close_code) == ("ERROR", 4500)
    assert ROWS["the client reads too slowly: its outbox is full"] == ("yes", 4500)


async def test_a_drained_client_is_told(autojump_clock: MockClock) -> None:
    async with open_test_server(None, SMALL) as server:
        peer = await open_peer(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.server.drain)
            frames = await peer.to_end()
    assert (frames, peer.close_code) == ([], 1012)
    assert ROWS["the server goes away"] == ("no", 1012)


async def test_a_plain_broker_lets_anybody_do_anything(autojump_clock: MockClock) -> None:
    async with (
        open_test_server() as server,
        server.client() as ada,
        ada.subscribe("/topic/**") as messages,
    ):
        await ada.send("/topic/a/b", "hello")
        assert (await messages.receive()).text == "hello"
        with pytest.raises(ServerError):
            await ada.send("/nowhere", "hello", receipt=True)


# The rest


def test_the_http_statuses_told_are_those_that_are_sent() -> None:
    told = set(re.findall(r"\b([45]\d\d)\b", section_of(ERRORS).rpartition("\n\n")[2]))
    names = ("transport/http.py", "server/front.py", "server/admission.py")
    text = "".join((ROOT / "trio_stomp" / name).read_text(encoding="utf-8") for name in names)
    sent = set(re.findall(r"(?:HttpError|response)\(\s*([45]\d\d)", text))
    assert told - {"501"} == sent  # 501: h11's own hint for an unknown transfer-encoding


def test_a_setting_is_called_as_told_in_each_layer(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[stomp]\nbody = "1MiB"\n', encoding="utf-8")
    told = section_of("Settings")
    assert "`TRIO_STOMP_STOMP_BODY`" in told
    assert "`--set stomp.body=1MiB`" in told
    for config in (
        load_config(file=file),
        load_config(environ={"TRIO_STOMP_STOMP_BODY": "1MiB"}),
        load_config(overrides={"stomp.body": "1MiB"}),
    ):
        assert config.stomp.body == 1024 * 1024


def test_the_settings_shown_can_be_used(tmp_path: Path) -> None:
    [shown] = blocks("toml")
    file = tmp_path / "settings.toml"
    file.write_text(shown, encoding="utf-8")
    assert load_config(file=file).proxy.trusted == ("10.0.0.0/8",)


def test_files_that_it_links_to_are_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_it_is_the_packages_long_description() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["readme"] == "README.md"


def test_the_changelog_has_an_entry_for_what_is_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    _, _, unreleased = text.partition("\n## [Unreleased]\n")
    assert re.search(r"^- ", unreleased, re.MULTILINE)


def test_no_line_is_longer_than_a_screen() -> None:
    in_table_or_picture = re.compile(r"^\||[═─│]")
    for line in README.splitlines():
        assert len(line) <= 120 or in_table_or_picture.search(line), line
