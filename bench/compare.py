#!/usr/bin/env python3
"""Compare with other servers: the same work, ours and theirs in turn, per server CPU second.

Both run pinned to one core, the generator to the other; each round measures ours, then theirs (A B A B).
Printed are the medians and the ratio of ours to theirs with the range of the rounds. A row in which other
processes used 0.15 of a core is marked. A window of 64 messages lets a server batch: see window 1 as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import attrs
from common import LOAD, parser, print_table
from peering import BROKER, HANDLERS, OTHERS, Peer, running

DISTURBED = 0.15
"""Cores used by others from which on a row is marked (PERFORMANCE.md)."""


@attrs.frozen
class Scenario:
    """One kind of work.

    Attributes:
        arguments: of the generator.
        figure: which of its numbers counts.
        is_less_better: for memory, CPU, and latency.
        needs_handler: the peer has to answer requests.
    """

    title: str
    arguments: tuple[str, ...]
    figure: str
    is_less_better: bool = False
    needs_handler: bool = False


def _fanout(subscribers: int, window: int, body: int = 100) -> Scenario:
    sizes = ("--subs", str(subscribers), "--window", str(window), "--body", str(body))
    of = f", {body // 1024} KiB" if body > 100 else ""
    title = f"fan-out to {subscribers:,}, window {window}{of}"
    return Scenario(title, ("fanout", *sizes), "deliveries_per_cpu_s")


def _echo(window: int, *, handler: bool) -> Scenario:
    kind = (
        "a JSON handler" if handler else "a topic"
    )  # the next client's: stomp-broker-js gives nobody his own
    where = () if handler else ("--dest", "/topic/e-{i}", "--send-dest", "/topic/e-{next}")
    arguments = ("echo", "--clients", "50", "--window", str(window), *where)
    title = f"request-reply by {kind}, window {window}"
    return Scenario(title, arguments, "roundtrips_per_cpu_s", needs_handler=handler)


_IDLE = ("idle", "--clients", "2000", "--dest", "/topic/i-{i}")

SCENARIOS: Mapping[str, Scenario] = {
    "A10": _fanout(10, 64),
    "A100": _fanout(100, 64),
    "A1000": _fanout(1000, 64),
    "A100w1": _fanout(100, 1),
    "A1000w1": _fanout(1000, 1),
    "B1": _echo(1, handler=True),
    "B16": _echo(16, handler=True),
    "Bt1": _echo(1, handler=False),
    "Bt16": _echo(16, handler=False),
    "C": Scenario(
        "100 messages/s to 100: cores", ("paced", "--rate", "100", "--subs", "100"), "server_cores", True
    ),
    "D": Scenario(
        "2,000 idle: KiB each",
        ("idle", "--clients", "2000", "--dest", "/topic/i-{i}"),
        "rss_per_conn_kb",
        True,
    ),
    "Dc": Scenario(
        "2,000 connects: per second", ("idle", "--clients", "2000", "--dest", "/topic/i-{i}"), "connects_s"
    ),
    "F": Scenario(
        "1,000 topics of one, window 1,024",
        ("topics", "--subs", "1000", "--window", "1024", "--dest", "/topic/t-{i}"),
        "deliveries_per_cpu_s",
    ),
    "G1": _fanout(100, 64, 1024),
    "G64": _fanout(100, 4, 65536),
}

TARGETS: Mapping[tuple[str, str], float] = {
    ("spring", "A10"): 3.0,
    ("spring", "A100"): 6.0,
    ("spring", "A1000"): 7.0,
    ("spring", "A100w1"): 1.0,
    ("spring", "B1"): 1.0,
    ("spring", "B16"): 1.5,
    ("spring", "C"): 1.0,
    ("spring", "D"): 0.2,
    ("spring", "F"): 1.0,
    **{(peer, "A10"): 2.0 for peer in ("stomp-broker-js", "broadcast")},
    **{(peer, "A100"): 3.0 for peer in ("stomp-broker-js", "broadcast")},
    **{(peer, "A1000"): 3.0 for peer in ("stomp-broker-js", "broadcast")},
    **{(peer, "Bt16"): 1.0 for peer in ("stomp-broker-js", "broadcast")},
    **{(peer, "Bt1"): 0.45 for peer in ("stomp-broker-js", "broadcast")},
    ("ceiling", "A100"): 1.0,
    ("ceiling", "A1000"): 1.0,
}
"""What ours has to reach of the peer's figure: at least, for memory and CPU at most."""


def main() -> int:
    """Run the comparison; exit status 1 when a target was missed."""
    options = _options()
    wanted = options.only.split(",") if options.only else list(SCENARIOS)
    results: list[dict[str, Any]] = []
    for name in options.peers.split(","):
        peer = OTHERS[name]
        why = peer.make()
        if why is not None:
            print(f"{name} is left out: {why}", flush=True)
            continue
        for key in wanted:
            if SCENARIOS[key].needs_handler and peer.handler is None:
                continue
            results.append(compare(name, peer, key, options))
            show(results[-1])
            if options.json is not None:
                with options.json.open("a") as file:
                    file.write(json.dumps(results[-1]) + "\n")
    return report(results)


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.set_defaults(repeat=3, duration=3.0, warmup=1.0)
    made.add_argument("--peers", default=",".join(OTHERS), help="comma list (default all)")
    made.add_argument("--only", help=f"scenarios, comma list, of {', '.join(SCENARIOS)} (default all)")
    return made.parse_args()


def compare(name: str, peer: Peer, key: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one scenario with ours and a peer in turn; all runs."""
    scenario = SCENARIOS[key]
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    failed = ""
    our = HANDLERS if scenario.needs_handler else BROKER
    idle = scenario.arguments[0] == "idle"  # memory and first connects are those of a fresh process
    try:
        if idle:
            for _ in range(options.repeat):
                for side, server in (("ours", our), ("theirs", peer)):
                    with running(server, options) as (url, pid):
                        if side == "theirs" and peer.warmup > 10 and scenario.figure == "connects_s":
                            measure(scenario, peer, url, pid, options, seconds=1)
                        runs[side].append(measure(scenario, server, url, pid, options))
        else:
            with running(our, options) as ours, running(peer, options) as theirs:
                measure(scenario, peer, *theirs, options, seconds=peer.warmup)
                for _ in range(options.repeat):
                    runs["ours"].append(measure(scenario, our, *ours, options))
                    runs["theirs"].append(measure(scenario, peer, *theirs, options))
    except RuntimeError as error:
        failed = str(error)
    return {"peer": name, "scenario": key, "failed": failed, "at": time.strftime("%Y-%m-%d"), **runs}


def measure(
    scenario: Scenario, server: Peer, url: str, pid: int, options: argparse.Namespace, *, seconds: float = 0.0
) -> dict[str, Any]:
    """One run of the generator; for so many seconds, or as long as asked."""
    arguments = list(scenario.arguments)
    if scenario.needs_handler:
        assert server.handler is not None
        arguments += ["--send-dest", server.handler[0], "--dest", server.handler[1]]
    arguments += ["--url", url, "--pid", str(pid), "--cpu", str(options.load_cpu), "--repeat", "1"]
    arguments += ["--duration", str(seconds or options.duration), "--warmup", str(options.warmup)]
    done = subprocess.run(
        [sys.executable, str(LOAD), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout:
        raise RuntimeError(done.stderr.strip()[-200:] or f"exit status {done.returncode}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if row.get("error"):
        raise RuntimeError(f"{row['error']}: {row.get('note', '')}"[:200])
    if row.get("lost") or row.get("closed") or row.get("stalled"):
        raise RuntimeError(f"lost {row.get('lost')}, closed {row.get('closed')}: {row.get('note')}"[:200])
    return row


def summary(result: dict[str, Any]) -> dict[str, float]:
    """Medians of both sides, the ratio of ours to theirs and its range, p99 of both, what others used."""
    figure = SCENARIOS[result["scenario"]].figure
    ours, theirs = ([float(row[figure]) for row in result[side]] for side in ("ours", "theirs"))
    ratios = [one / other for one, other in zip(ours, theirs, strict=False) if other]
    found = {"ours": statistics.median(ours), "theirs": statistics.median(theirs)}
    found |= {"ratio": found["ours"] / found["theirs"], "least": min(ratios), "most": max(ratios)}
    for side in ("ours", "theirs"):
        p99 = [row["p99_ms"] for row in result[side] if "p99_ms" in row]
        if p99:
            found[f"{side}_p99_ms"] = statistics.median(p99)
    found["other_cores"] = max(row.get("other_cores", 0.0) for row in result["ours"] + result["theirs"])
    return found


def verdict(result: dict[str, Any]) -> str:
    """What a target says of a result: met, MISSED, or nothing."""
    target = TARGETS.get((result["peer"], result["scenario"]))
    if target is None or result["failed"]:
        return ""
    ratio = summary(result)["ratio"]
    is_met = ratio <= target if SCENARIOS[result["scenario"]].is_less_better else ratio >= target
    return f"{'met' if is_met else 'MISSED'} ({target:g})"


def cells(result: dict[str, Any]) -> list[str]:
    """One row of the table."""
    title = SCENARIOS[result["scenario"]].title
    if result["failed"] or not result["ours"] or not result["theirs"]:
        return [result["peer"], title, "-", "-", "-", "-", f"failed: {result['failed'][:60]}"]
    found = summary(result)
    number = "{:,.2f}" if found["theirs"] < 10 else "{:,.0f}"
    p99 = [found.get(f"{side}_p99_ms") for side in ("ours", "theirs")]
    mark = " *" if found["other_cores"] >= DISTURBED else ""
    return [
        result["peer"],
        title,
        number.format(found["ours"]),
        number.format(found["theirs"]),
        f"{found['ratio']:.2f} ({found['least']:.2f}-{found['most']:.2f}){mark}",
        " / ".join("-" if each is None else f"{each:.1f}" for each in p99),
        verdict(result) or "-",
    ]


HEAD = ["peer", "scenario", "ours", "theirs", "ratio (range)", "p99 ms, ours / theirs", "target"]


def show(result: dict[str, Any]) -> None:
    """One line as soon as it is known."""
    print("  ".join(cells(result)), flush=True)


def report(results: list[dict[str, Any]]) -> int:
    """Print everything; the exit status."""
    if not results:
        return 1
    print_table("per server CPU second, but where it says otherwise", HEAD, [cells(r) for r in results])
    if any(not r["failed"] and summary(r)["other_cores"] >= DISTURBED for r in results):
        print(f"* other processes used {DISTURBED} of a core or more meanwhile: run it again")
    missed = [f"{r['peer']} {r['scenario']}" for r in results if verdict(r).startswith("MISSED")]
    print(f"missed: {', '.join(missed)}" if missed else "every target is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
