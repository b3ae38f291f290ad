"""The comparison with other servers: what is asked of whom, ratios, targets, and the page of them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent / "bench"))

import compare  # the benchmarks are no package
import peering
import performance
import results
import scenarios


def result(
    scenario: str = "A10w64", peer: str = "spring", failed: str = "", **figures: Any
) -> results.Result:
    names = [figure.name for figure in scenarios.SCENARIOS[scenario].figures]
    sides = {
        side: [
            {**dict.fromkeys(names, value), "p50_ms": 1.5, "p99_ms": 2.5, "other_cores": 0.01}
            for value in figures.get(side, [])
        ]
        for side in ("ours", "theirs")
    }
    said = {"peer": peer, "scenario": scenario, "failed": failed, "at": "2026-11-23 10:00", "machine": "one"}
    return {**said, **sides}


def test_the_ratio_is_that_of_the_medians_and_its_range_that_of_the_rounds() -> None:
    found = result(ours=[300, 330, 450], theirs=[100, 110, 90])
    assert results.ratios(found, "deliveries_per_cpu_s") == (3.3, 3.0, 5.0)


@pytest.mark.parametrize(
    ("scenario", "ours", "is_met"),
    [("F", 100, True), ("F", 99, False), ("B16", 150, True), ("B16", 149, False)],
)
def test_a_target_is_met_or_missed(scenario: str, ours: float, is_met: bool) -> None:
    assert (results.missed([result(scenario, ours=[ours], theirs=[100])]) == []) is is_met


def test_memory_has_to_be_less_and_connects_are_counted_by_themselves() -> None:
    assert results.missed([result("D", ours=[20], theirs=[100])]) == ["spring D connects per CPU s"]
    assert results.missed([result("D", ours=[1200], theirs=[6000])]) == []


def test_a_missed_target_is_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.show_all([result("F", ours=[300], theirs=[100])]) == 0
    assert compare.show_all([result("F", ours=[99], theirs=[100])]) == 1
    assert "missed: spring F deliveries per CPU s" in capsys.readouterr().out


def test_a_run_that_failed_is_told_and_has_no_verdict() -> None:
    failed = result("F", failed="lost 3")
    assert results.cells(failed)[0][2] == "failed: lost 3"
    assert results.outcomes([failed]) == []
    assert compare.show_all([failed]) == 1


def test_a_disturbed_round_is_marked() -> None:
    disturbed = result("F", ours=[300], theirs=[100])
    disturbed["theirs"][0]["other_cores"] = 0.2
    assert results.cells(disturbed)[0][5] == "3.00 (3.00-3.00) *"


def test_every_target_is_of_what_is_measured() -> None:
    for target in scenarios.TARGETS:
        scenario = scenarios.SCENARIOS[target.scenario]
        assert compare.is_asked(peering.OTHERS[target.peer], target.peer, scenario)
        assert target.figure in (*scenario.figures, scenarios.P99)


def test_a_peer_without_handlers_is_asked_for_none() -> None:
    asked = {
        name: {key for key, each in scenarios.SCENARIOS.items() if compare.is_asked(peer, name, each)}
        for name, peer in peering.OTHERS.items()
    }
    assert asked["trio-stomp[fast]"] == {"B1", "B16"}
    assert asked["spring"] == set(scenarios.SCENARIOS)
    assert asked["broadcast"] & {"B1", "B16", "E4", "E16", "E64"} == set()
    assert asked["ceiling"] >= {"A100w64", "A1000w64"}


@pytest.mark.parametrize(
    ("only", "found"),
    [
        ("A10", ["A10w64", "A10w1"]),
        ("A100w1,E", ["A100w1", "E4", "E16", "E64"]),
        ("B1", ["B1"]),
        ("x", []),
    ],
)
def test_scenarios_are_chosen_by_how_they_begin(only: str, found: list[str]) -> None:
    assert compare.chosen(only) == found


def test_the_page_gets_the_figures_and_keeps_its_words() -> None:
    page = performance.PAGE.read_text(encoding="utf-8")
    rows = [result(ours=[3000], theirs=[1000]), result("B1", failed="no")]
    made = performance.renewed(page, rows)
    assert made.startswith(page.partition("<!-- figures -->")[0])
    assert made.endswith(page.partition("<!-- /figures -->")[2])
    assert (
        "| spring | fan-out to 10, window 64 | deliveries per CPU s | at least 3 x | 3.00 x | met |" in made
    )
    assert (
        "| A10w64 fan-out to 10, window 64 | deliveries per CPU s | 3,000 | 1,000 | 3.00 (3.00-3.00) |"
        in made
    )
    assert performance.renewed(made, rows) == made


def test_the_raw_socket_stands_beside_the_others() -> None:
    rows = [result(ours=[30], theirs=[10]), result(peer="ceiling", ours=[40], theirs=[20])]
    _, head, lines = results.side_by_side([*rows, result("C", ours=[1], theirs=[1])])
    assert head == ["scenario", "ours", "spring", "ceiling"]
    assert lines == [["fan-out to 10, window 64", "35", "10", "20"]]


def test_the_plot_has_a_bar_for_each_ratio_of_work() -> None:
    svg = performance.plot("spring", [result(ours=[300], theirs=[100]), result("C", ours=[3], theirs=[100])])
    assert "fan-out to 10, window 64" in svg
    assert "100 messages/s" not in svg


def test_every_plot_has_a_plain_name() -> None:
    names = [performance.plot_name(peer) for peer in peering.OTHERS]
    assert len(set(names)) == len(names)
    assert "performance-trio-stomp-fast.svg" in names


# The raw socket.


@pytest.fixture(scope="module")
def ceiling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    made = tmp_path_factory.mktemp("ceiling") / "ceiling"
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-o", made, peering.PEERS / "ceiling.c"], check=True)
    return made


def masked(text: bytes) -> bytes:
    """A client's frame, with a mask of zeros."""
    return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text


class Client:
    """Blocking, and as small as can be."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.close = self.socket.close
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self.until(b"\r\n\r\n")
        self.send(b"CONNECT\naccept-version:1.2\nhost:x\n\n\0")
        assert b"CONNECTED\n" in self.until(b"\0")

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(map(masked, frames)))

    def until(self, end: bytes) -> bytes:
        got = b""
        while not got.endswith(end):
            more = self.socket.recv(65536)
            assert more, got
            got += more
        return got


@pytest.mark.parametrize("arguments", [[], ["--coalesce"]])
def test_the_ceiling_delivers_in_order_to_each_subscriber(ceiling: Path, arguments: list[str]) -> None:
    with (
        subprocess.Popen([ceiling, *arguments], stdout=subprocess.PIPE, text=True) as server,
        contextlib.ExitStack() as cleanup,
    ):
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rpartition(":")[2].partition("/")[0])
            clients = [cleanup.enter_context(contextlib.closing(Client(port))) for _ in range(2)]
            for client in clients:
                client.send(b"SUBSCRIBE\nid:7\ndestination:/topic/a\n\n\0")
                client.send(b"SEND\ndestination:/topic/a\n\nhere\0")
                client.until(b"here\0")  # it is heard by now
            clients[0].until(b"here\0")
            sent = [b"SEND\ndestination:/topic/a\n\nm%d\0" % number for number in range(20)]
            clients[1].send(*sent)
            for client in clients:
                got = client.until(b"m19\0")
                assert [got.count(b"\n\nm%d\0" % number) for number in range(20)] == [1] * 20
                assert got.index(b"m3\0") < got.index(b"m12\0")
                assert b"subscription:7\n" in got
        finally:
            server.terminate()
