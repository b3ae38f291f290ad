"""Deployments with real programs: HAProxy, what examples/deploy/ holds, drains under load, hand-overs."""

from __future__ import annotations

import collections
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from network.support import PATIENCE, ROOT, eventually, program_path, running, serving

from trio_stomp import DrainConfig, load_config, open_client

EXAMPLES = ROOT / "examples" / "deploy"

pytestmark = pytest.mark.slow


def haproxy() -> str:
    """Where it is; Debian puts it where only root looks. Without it the test is skipped."""
    return shutil.which("haproxy", path="/usr/sbin") or program_path("haproxy")


# What examples/deploy/ holds


@pytest.mark.parametrize("name", ["haproxy-rolling.cfg", "haproxy-blue-green.cfg"])
def test_haproxy_accepts_the_example(name: str, tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "active.map", tmp_path)
    text = re.sub(r"/(etc|run)/haproxy", str(tmp_path), (EXAMPLES / name).read_text())
    (tmp_path / name).write_text(text)
    command = [haproxy(), "-c", "-f", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, "warning" in done.stderr.lower()) == (0, False), done.stderr


@pytest.mark.parametrize("name", ["haproxy-rolling.cfg", "haproxy-blue-green.cfg"])
def test_haproxy_notices_a_drain_before_its_delay_is_over(name: str) -> None:
    found = re.findall(
        r"^ +default-server check inter (\d+)s fastinter (\d+)ms .*\bfall 2\b",
        (EXAMPLES / name).read_text(),
        flags=re.M,
    )
    assert found
    for inter, fast in found:
        assert int(inter) + int(fast) / 1000 < DrainConfig().delay


def test_nginx_conf_is_one() -> None:
    path = EXAMPLES / "nginx.conf"
    depth = 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        code = line.split("#")[0].strip()
        assert not code or code[-1] in ";{}", f"line {number}: {line}"
        depth += code.count("{") - code.count("}")
        assert depth >= 0, f"line {number}: {line}"
    assert depth == 0
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is not None:  # CI has none: nothing else here needs it
        command = [nginx, "-t", "-c", str(path), "-g", "pid /dev/null; error_log stderr;"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert "syntax is ok" in done.stderr, done.stderr


def unit(name: str) -> dict[str, dict[str, str]]:
    """A systemd unit: its sections, and their settings, each of which stands once."""
    sections: dict[str, dict[str, str]] = {}
    section = ""
    for line in (EXAMPLES / name).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if head := re.fullmatch(r"\[(\w+)\]", line):
            section = head[1]
            assert section not in sections
            sections[section] = {}
            continue
        key, equals, value = line.partition("=")
        assert section
        assert re.fullmatch(r"[A-Z]\w+", key), line
        assert equals, line
        assert value, line
        assert key not in sections[section], line
        sections[section][key] = value
    return sections


def test_systemd_gives_the_drain_its_time_and_its_socket(tmp_path: Path) -> None:
    service, listening = unit("trio-stomp@.service")["Service"], unit("trio-stomp.socket")["Socket"]
    assert int(service["TimeoutStopSec"]) > DrainConfig().deadline
    assert service["KillSignal"] == "SIGTERM"
    assert "-HUP" in service["ExecReload"]
    assert "--fd 3 " in service["ExecStart"]
    assert service["Sockets"] == "trio-stomp.socket"
    assert listening["Accept"] == "no"
    analyze = shutil.which("systemd-analyze")
    if analyze is None:  # not everywhere; what is above holds without it
        return
    text = (EXAMPLES / "trio-stomp@.service").read_text()
    installed = text.replace("/opt/trio-stomp/%i/bin/trio-stomp", sys.executable)
    (tmp_path / "trio-stomp@blue.service").write_text(installed)
    shutil.copy(EXAMPLES / "trio-stomp.socket", tmp_path)
    done = subprocess.run(
        [analyze, "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def yaml(text: str) -> Any:
    """The part of YAML that the manifest uses: block mappings and sequences, scalars, ``|``, JSON lists."""
    lines = [
        (len(line) - len(line.lstrip()), line.strip())
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]

    def value_of(said: str) -> Any:
        if said.startswith("["):
            return json.loads(said)
        return int(said) if said.isdecimal() else said

    def block(depth: int) -> Any:
        found: Any = None
        while lines and lines[0][0] >= depth:
            at, said = lines[0]
            assert at == depth, f"{said!r} is indented by {at}, expected {depth}"
            if said.startswith("- "):
                found = [] if found is None else found
                lines[0] = (depth + 2, said[2:])
                found.append(block(depth + 2))
                continue
            found = {} if found is None else found
            lines.pop(0)
            key, colon, rest = said.partition(":")
            assert colon, said
            assert re.fullmatch(r"[\w./-]+", key), said
            assert key not in found, said
            if rest.strip() == "|":
                literal = []
                while lines and lines[0][0] > depth:
                    literal.append(lines.pop(0)[1])
                found[key] = "\n".join(literal)
            elif rest:
                assert rest[0] == " ", said
                found[key] = value_of(rest.strip())
            else:
                assert lines, said
                found[key] = block(lines[0][0])
        return found

    made = block(0)
    assert not lines, lines[0]
    return made


def test_kubernetes_gives_the_drain_its_time(tmp_path: Path) -> None:
    texts = (EXAMPLES / "kubernetes.yaml").read_text().split("\n---\n")
    found = {document["kind"]: document for document in map(yaml, texts)}
    assert set(found) == {"Deployment", "ConfigMap", "Service"}
    ((name, settings),) = found["ConfigMap"]["data"].items()
    (tmp_path / name).write_text(settings)
    drain = load_config(file=tmp_path / name, environ={}).drain
    deployment = found["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] > before + drain.deadline
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < drain.delay
    assert probe["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": "100%", "maxUnavailable": 0}
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == deployment["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]


# Behind HAProxy


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What bench/deploy.py measures on a small scale."""
    haproxy()
    report = tmp_path_factory.mktemp("deploy") / "report.json"
    size = ("--servers", "2", "--clients", "40", "--window", "2", "--delay", "1", "--inter", "0.2")
    kinds = ("--kinds", "blue-green,rolling-leastconn")
    with running("bench/deploy.py", *size, *kinds, "--json", str(report)) as program:
        program.process.wait(2 * PATIENCE)  # its judgement is for a machine that has nothing else to do
        assert report.exists(), program.log()
    return {row["kind"]: row for row in json.loads(report.read_text())["deployments"]}


def test_blue_green_costs_every_client_one_reconnect(deployments: dict[str, dict[str, Any]]) -> None:
    row = deployments["blue-green"]
    assert (row["fewest"], row["most"]) == (1, 1)
    assert sum(row["spread"]) == 40


def test_rolling_costs_a_client_one_reconnect_per_server_at_most(
    deployments: dict[str, dict[str, Any]],
) -> None:
    row = deployments["rolling-leastconn"]
    assert row["most"] <= 2
    assert row["mean"] == pytest.approx(1.5, rel=0.1)


@pytest.mark.parametrize("kind", ["blue-green", "rolling-leastconn"])
def test_a_deployment_loses_nothing(kind: str, deployments: dict[str, dict[str, Any]]) -> None:
    row = deployments[kind]
    assert row["requests"] > 20
    assert (row["lost"], row["twice"], row["failed"]) == (0, 0, 0), row["failures"]
    assert set(row["close_codes"]) == {"1012"}
    assert not any(row["exit_statuses"])


# Drains under load

SLOW_APP = """
import time
import trio
from trio_stomp import StompApp

app = StompApp()
slow = app.pool("slow", threads=200)

@app.on_message("/app/async", send_to_user="/queue/answers")
async def waits(text: str) -> str:
    await trio.sleep(1)
    return text

@app.on_message("/app/plain", send_to_user="/queue/answers", pool=slow)
def blocks(text: str) -> str:
    time.sleep(1)
    return text
"""

HANDLERS = 200


def metric(http_url: str, name: str) -> float:
    with urllib.request.urlopen(f"{http_url}/metrics", timeout=PATIENCE) as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), flags=re.M)
    assert found is not None, name
    return float(found[1])


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_drain_loses_no_answer_of_200_running_handlers(kind: str, tmp_path: Path) -> None:
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    environ = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    answers: collections.Counter[str] = collections.Counter()
    receipts = 0

    async with trio.open_nursery() as nursery:
        everybody = trio.Event()
        waiting = 0

        async def ask(url: str, number: int) -> None:
            nonlocal receipts, waiting
            async with open_client(url) as client, client.subscribe("/user/queue/answers") as messages:
                waiting += 1
                await everybody.wait()
                async with trio.open_nursery() as both:

                    async def listen() -> None:
                        answers[(await messages.receive()).text] += 1

                    both.start_soon(listen)
                    await client.send(f"/app/{kind}", f"{number}", receipt=True)
                    receipts += 1

        with serving("slow_app:app", "--set", "drain.window=0.5", environ=environ) as server:
            for number in range(HANDLERS):
                nursery.start_soon(ask, server.url, number)
            while waiting < HANDLERS:  # noqa: ASYNC110  # all of them, not one event
                await trio.sleep(0.01)
            everybody.set()
            http_url = server.http_url

            def all_run() -> bool:
                return metric(http_url, "trio_stomp_handlers_run_total") == HANDLERS

            await trio.to_thread.run_sync(eventually, all_run, "200 handlers were started")
            running_now = metric(http_url, "trio_stomp_handlers_running")
            server.send_signal(signal.SIGTERM)
            assert await trio.to_thread.run_sync(server.wait) == 0, server.log()
    assert running_now > HANDLERS / 2, "most of them ended before the drain: nothing was tested"
    assert receipts == HANDLERS
    assert answers == {f"{number}": 1 for number in range(HANDLERS)}


# Two generations on one port

KNOCK = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@contextlib.contextmanager
def generation(listening: socket.socket | None, port: int) -> Iterator[subprocess.Popen[str]]:
    """A server on the shared port, entered when it listens."""
    command = [sys.executable, "-m", "trio_stomp", "serve", "--set", "drain.delay=0.3"]
    command += ["--set", "drain.window=0", "--log-level", "warning"]
    command += (
        ["--reuse-port", "--port", str(port)] if listening is None else ["--fd", str(listening.fileno())]
    )
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=() if listening is None else (listening.fileno(),),
    )
    try:
        assert process.stdout is not None
        assert "listening" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()  # type: ignore[union-attr]  # it is a pipe


@contextlib.asynccontextmanager
async def knocking(port: int) -> AsyncIterator[collections.Counter[str]]:
    """Connect again and again, ten at a time, half of them slow to ask; what became of it."""
    outcomes: collections.Counter[str] = collections.Counter()

    async def knock(pause: float) -> None:
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await trio.sleep(pause)
                    await stream.send_all(KNOCK)
                    answer = await stream.receive_some()
                outcomes[answer[9:12].decode() or "hung up"] += 1
            except (OSError, trio.BrokenResourceError) as error:
                outcomes[type(error).__name__] += 1
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(knock, 0.1 * (number % 2))
        yield outcomes
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["fd", "reuse_port"])
async def test_a_hand_over_loses_no_connection(way: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        if way == "fd":
            listening.listen(128)
            shared: socket.socket | None = listening
        else:
            listening.close()
            shared = None
        with generation(shared, port) as old:
            async with knocking(port) as outcomes:
                while not outcomes["101"]:  # noqa: ASYNC110  # counted by many tasks
                    await trio.sleep(0.01)
                with generation(shared, port):  # nobody knocks while it starts: this task waits for it
                    old.send_signal(signal.SIGTERM)
                    assert await trio.to_thread.run_sync(old.wait, PATIENCE) == 0
                    served = outcomes["101"]
                    while outcomes["101"] < served + 20:  # noqa: ASYNC110  # as above
                        await trio.sleep(0.01)
    assert set(outcomes) == {"101"}, outcomes
