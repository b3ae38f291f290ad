"""The stress test's own server process, real sockets and the way it all ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from network.support import ROOT, serving
from trio.testing import MockClock

from trio_stomp.errors import ConnectionLost
from trio_stomp.stress.drive import Progress, measure, run_once
from trio_stomp.stress.endpoint import endpoint_at
from trio_stomp.stress.plan import Plan, Ramp, StressError, Sweep
from trio_stomp.stress.scrape import scrape
from trio_stomp.stress.target import command, open_target

APP = """
import os
import sys
import time
from pathlib import Path

from trio_stomp import StompApp

app = StompApp()
app.pool("slow", threads=1)
print("a line of the app's own")
Path(os.environ["STRESS_PIDS"]).open("a").write(f"{os.getpid()}\\n")


@app.on_message("/app/quick", send_to_user="/queue/answers")
async def quick(n: dict[str, int]) -> dict[str, int]:
    return n


@app.on_message("/app/slow", send_to_user="/queue/answers", pool="slow")
def slow(n: dict[str, int]) -> dict[str, int]:
    time.sleep(0.02)
    return n


@app.on_message("/app/die")
async def die(n: dict[str, int]) -> None:
    print("about to die", file=sys.stderr, flush=True)
    os._exit(3)


@app.on_message("/app/talk", send_to_user="/queue/answers")
async def talk(n: dict[str, int]) -> dict[str, int]:
    print("x" * 100_000, flush=True)
    print("x" * 100_000, file=sys.stderr, flush=True)
    return n
"""


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the servers leave their ids; none of them may be left at the end."""
    (tmp_path / "stress_app.py").write_text(APP)
    pids = tmp_path / "pids"
    monkeypatch.setenv("STRESS_PIDS", str(pids))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    yield pids
    for pid in ids(pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def ids(pids: Path) -> list[int]:
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def a_plan(**changes: Any) -> Plan:
    whole = {
        "target": "stress_app:app",
        "destination": "/app/quick",
        "body": b'{"n": 1}',
        "content_type": "application/json",
        "reply": "/user/queue/answers",
        "clients": 4,
        "rate": 100,
        "duration": 0.5,
        "warm_up": 0.2,
    }
    return Plan(**(whole | changes))


async def test_a_run_measures_a_server_that_it_starts_and_ends(pids: Path) -> None:
    run = await run_once(a_plan())
    assert (run.sent, run.answered, run.disconnects, run.failures) == (50, 50, 0, ())
    assert 0 < run.raw.p50 <= run.corrected.p50
    assert run.server is not None
    assert run.server.rss > 10 << 20
    assert run.server.cpu > 0
    assert run.generator.cpu > 0
    assert len(ids(pids)) == 1


async def test_a_sweep_shows_where_the_time_goes(pids: Path) -> None:
    plan = a_plan(destination="/app/slow", sweep=Sweep("slow", (1, 4)), duration=1, clients=20)
    runs = await measure(plan)
    by_size = {run.threads: run for run in runs}
    assert len(ids(pids)) == len(runs)
    one, four = by_size[1], by_size[4]
    assert 25 < one.achieved < 55  # 50 at the best
    assert four.achieved > 1.5 * one.achieved
    assert one.split is not None
    assert one.split.call is not None
    assert one.split.pool is not None
    assert one.split.call == pytest.approx(0.02, rel=0.5)
    assert one.split.pool > one.split.call
    parts = (one.split.late, one.split.session, one.split.pool, one.split.call, one.split.rest)
    assert sum(parts) == pytest.approx(one.raw.mean + one.split.late)


async def test_a_ramp_has_one_server(pids: Path) -> None:
    runs = await measure(a_plan(ramp=Ramp(50, 100, steps=2)))
    assert [run.label for run in runs] == ["50/s", "100/s"]
    assert all(run.answered == run.sent for run in runs)
    assert len(ids(pids)) == 1


async def test_a_server_that_runs_already_is_measured_at_its_url() -> None:
    with serving() as server:
        plan = a_plan(target=server.url, destination="/topic/a", reply=None)
        run = await run_once(plan)
        assert (run.label, run.answered, run.disconnects) == (server.url, 50, 0)
        assert run.server is not None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target": "no_such_module:app"}, "no module 'no_such_module'"),
        ({"target": "stress_app:nothing"}, "expected a StompApp called 'nothing'"),
        ({"sweep": Sweep("no_pool", (1,))}, "no_pool"),
        ({"settings": ("outbox.bites=1",)}, "outbox.bites"),
        ({"config": Path("/no/such/file.toml")}, "no/such/file.toml"),
    ],
    ids=["module", "app", "pool", "setting", "file"],
)
async def test_a_server_that_does_not_start_says_why(changes: dict[str, Any], text: str, pids: Path) -> None:
    with pytest.raises(StressError, match=r"the server did not start: exit code [12]:\n") as refused:
        await measure(a_plan(**changes))
    assert text in str(refused.value)
    assert "Traceback" not in str(refused.value)


async def test_a_server_that_dies_meanwhile_is_told_with_its_last_words(pids: Path) -> None:
    with pytest.raises(StressError) as told:
        await measure(a_plan(destination="/app/die", reply=None))
    assert str(told.value) == "the server ended with exit code 3 while it was tested:\nabout to die"


async def test_a_server_that_is_killed_meanwhile_is_told_as_such(pids: Path) -> None:
    def kill(progress: Progress) -> None:
        if progress.phase == "measuring":
            for pid in ids(pids):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(StressError, match="ended with signal 9 while it was tested"):
        await measure(a_plan(duration=5), on_progress=kill)


async def test_a_server_that_dies_while_we_connect_is_told_with_its_last_words(
    pids: Path, tmp_path: Path
) -> None:
    (tmp_path / "dying_app.py").write_text(
        APP
        + "@app.on_connect\nasync def connect(): print('no more', file=sys.stderr, flush=True); os._exit(4)\n"
    )
    with pytest.raises(StressError) as told:
        await measure(a_plan(target="dying_app:app"))
    assert str(told.value) == "the server ended with exit code 4 while it was tested:\nno more"


async def test_a_server_that_never_listens_is_given_up(
    pids: Path, tmp_path: Path, autojump_clock: MockClock
) -> None:
    (tmp_path / "slow_app.py").write_text(APP + "time.sleep(1000)\n")
    with pytest.raises(StressError, match="did not listen within 30 seconds"):
        await measure(a_plan(target="slow_app:app"))


async def test_a_server_that_closes_its_outputs_did_not_start(pids: Path, tmp_path: Path) -> None:
    (tmp_path / "mute_app.py").write_text(APP + "os.close(1); os.close(2); time.sleep(1000)\n")
    with pytest.raises(StressError, match="did not start: no exit"):
        await measure(a_plan(target="mute_app:app"))


async def test_a_server_that_talks_much_is_not_held_up(pids: Path) -> None:
    run = await run_once(a_plan(destination="/app/talk", rate=20))
    assert run.answered == 10


async def test_cancelling_ends_the_server(pids: Path) -> None:
    phases = []
    with trio.CancelScope() as scope:

        def stop(progress: Progress) -> None:
            phases.append(progress.phase)
            if progress.phase == "measuring":
                scope.cancel()

        await measure(a_plan(duration=60), on_progress=stop)
    assert scope.cancelled_caught
    assert phases[-1] == "measuring"
    assert len(ids(pids)) == 1


async def test_cancelling_ends_a_server_that_starts(pids: Path) -> None:
    with trio.CancelScope() as scope:

        def stop(progress: Progress) -> None:
            scope.cancel()

        await measure(a_plan(), on_progress=stop)
    assert scope.cancelled_caught


async def test_a_server_that_will_not_end_is_killed(pids: Path, tmp_path: Path) -> None:
    (tmp_path / "stubborn_app.py").write_text(
        APP + "import signal\nfor n in (signal.SIGINT, signal.SIGTERM): signal.pthread_sigmask(0, [n])\n"
    )
    async with open_target(a_plan(target="stubborn_app:app")) as endpoint:
        assert await scrape(endpoint) is not None


def test_the_command_line_has_the_settings() -> None:
    plan = a_plan(config=Path("x.toml"), settings=("a=1", "b=2"), sweep=Sweep("slow", (4,)))
    words = command(plan, 4)
    assert words[:5] == [sys.executable, "-m", "trio_stomp", "serve", "stress_app:app"]
    assert words[5:11] == ["--host", "127.0.0.1", "--port", "0", "--log-level", "warning"]
    assert words[11:] == [
        *("--config", "x.toml", "--set", "a=1", "--set", "b=2", "--set", "pools.slow.threads=4"),
    ]


async def test_a_server_that_does_not_take_connections_is_given_up(autojump_clock: MockClock) -> None:
    async with await listening() as listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(ConnectionLost, match=f"no connection to 127.0.0.1 port {port} within 10 seconds"):
            await endpoint_at(f"wss://127.0.0.1:{port}/").dial()


async def listening() -> trio.SocketListener:
    """One that accepts nothing: the kernel shakes hands, nobody speaks TLS."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    return listener


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that nobody trusts, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return str(folder / "cert.pem"), str(folder / "key.pem")


async def test_a_server_of_our_own_is_trusted(pids: Path, certificate: tuple[str, str]) -> None:
    cert, key = certificate
    run = await run_once(a_plan(settings=(f"tls_cert={cert}", f"tls_key={key}")))
    assert run.answered == 50
    assert run.server is not None


async def test_somebody_elses_certificate_is_checked(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    with serving("--tls-cert", cert, "--tls-key", key) as server:
        with pytest.raises(StressError, match=r"cannot connect: TLS handshake with 127.0.0.1: .*certificate"):
            await run_once(a_plan(target=server.url))
        with pytest.raises(ConnectionLost):
            await endpoint_at(server.url).dial()
