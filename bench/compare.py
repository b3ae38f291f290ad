#!/usr/bin/env python3
"""Compare with other servers: the same work, ours and theirs in turn, per server CPU second.

Both run pinned to one core, the generator to the other; each round measures ours, then theirs (A B A B).
Printed are the medians and the ratio of ours to theirs with the range of the rounds. A round in which other
processes used 0.15 of a core is measured again; a row that kept such a one is marked. A window of 64 messages
lets a server batch: see window 1 and the paced scenario as well. Exit status 1: a target was missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from common import LOAD, machine, parser, print_table
from peering import OTHERS, OURS, Peer, PeerError, running
from results import HEAD, Result, cells, disturbance, is_marked, missed, read, side_by_side, target_rows
from scenarios import SCENARIOS, Scenario

AGAIN = 3
"""Rounds more at most, in place of disturbed ones."""
DISTURBED_AGAIN = 5.0
"""Seconds to wait before such a round: what disturbs may end."""
FAILED_IN_A_ROW = 3
"""After so many a peer's other scenarios are left out: it would cost minutes and give nothing."""


def main() -> int:
    """Run the comparison."""
    options = _options()
    _allow_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # no server is left behind
    names = options.peers.split(",")
    results = read([options.json]) if options.resume and options.json and options.json.exists() else []
    done = {(result["peer"], result["scenario"]) for result in results if not result["failed"]}
    if options.json is not None and not options.resume:
        options.json.write_text("")
    able: dict[str, Peer] = {}
    for name in names:
        why = OTHERS[name].make()
        if why is None:
            able[name] = OTHERS[name]
        else:
            print(f"{name} is left out: {why}", flush=True)
    jobs = [
        (name, key)
        for name in able
        for key in chosen(options.only)
        if is_asked(able[name], name, SCENARIOS[key]) and (name, key) not in done
    ]
    results += run(jobs, able, options)
    return show_all(results)


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.set_defaults(duration=2.0, warmup=0.7)
    made.add_argument("--rounds", dest="repeat", type=int, help="the same as --repeat")
    made.add_argument("--peers", default=",".join(OTHERS), help="comma list (default all)")
    made.add_argument(
        "--only", default="", help=f"scenarios or beginnings of their names, of {', '.join(SCENARIOS)}"
    )
    made.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    made.add_argument("--resume", action="store_true", help="leave out what is in the file of --json")
    options = made.parse_args()
    unknown = set(options.peers.split(",")) - set(OTHERS)
    if unknown:
        made.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(OTHERS)}")
    if not chosen(options.only):
        made.error(f"no scenario {options.only!r}; there are {', '.join(SCENARIOS)}")
    return options


def _allow_files() -> None:
    """As many connections as the machine lets us have, here and in what is started."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def chosen(only: str) -> list[str]:
    """Scenarios by name or by the beginning of it: ``A10w64,B``."""
    if not only:
        return list(SCENARIOS)
    wanted = only.split(",")
    return [key for key in SCENARIOS if key in wanted or any(_begins(key, each) for each in wanted)]


def _begins(key: str, beginning: str) -> bool:
    """``A`` and ``A10`` begin A10w64; ``A1`` does not, nor does ``A10`` begin A100w64."""
    rest = key.removeprefix(beginning)
    return beginning not in SCENARIOS and rest != key and not (beginning[-1:].isdigit() and rest[0].isdigit())


def is_asked(peer: Peer, name: str, scenario: Scenario) -> bool:
    """Whether a peer can do this work and is asked for it."""
    if scenario.handler and peer.application is None:
        return False
    if peer.only:
        return scenario in [SCENARIOS[key] for key in peer.only]
    return not scenario.others or name in scenario.others


def seconds_of(peer: Peer, scenario: Scenario, options: argparse.Namespace) -> float:
    """About what a comparison takes."""
    each = options.warmup + (scenario.seconds or options.duration) + 1.5
    rounds = min(options.repeat, scenario.rounds or options.repeat)
    return 5 + peer.warmup * (not scenario.is_fresh) + 2 * rounds * each


def run(
    jobs: Sequence[tuple[str, str]], peers: Mapping[str, Peer], options: argparse.Namespace
) -> list[Result]:
    """Do one comparison after the other, telling each result; a peer that fails loses only its own."""
    results: list[Result] = []
    planned = [seconds_of(peers[name], SCENARIOS[key], options) for name, key in jobs]
    failed: dict[str, int] = {}
    begun = time.monotonic()
    for number, (name, key) in enumerate(jobs):
        if failed.get(name, 0) >= FAILED_IN_A_ROW:
            continue
        result = compare(name, peers[name], key, options)
        results.append(result)
        failed[name] = failed.get(name, 0) + 1 if result["failed"] else 0
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(json.dumps(result) + "\n")
        for row in cells(result):
            print("  ".join(row), flush=True)
        spent = time.monotonic() - begun
        left = sum(planned[number + 1 :]) * spent / sum(planned[: number + 1])
        print(f"    {number + 1} of {len(jobs)}, about {left / 60:.0f} min left", flush=True)
    return results


def compare(name: str, peer: Peer, key: str, options: argparse.Namespace) -> Result:
    """Measure one scenario with ours and a peer in turn."""
    scenario = SCENARIOS[key]
    rounds: list[tuple[dict[str, Any], dict[str, Any]]] = []
    wanted = min(options.repeat, scenario.rounds or options.repeat)
    failed = ""
    try:
        if scenario.is_fresh:
            rounds = [_fresh(name, peer, scenario, options) for _ in range(wanted)]
        else:
            rounds = _in_turn(name, peer, scenario, wanted, options)
    except PeerError as error:
        failed = str(error)
    ours, theirs = [one for one, _ in rounds], [other for _, other in rounds]
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    common = {"peer": name, "scenario": key, "failed": failed, "at": when, "machine": machine()}
    return {**common, "ours": ours, "theirs": theirs}


def _fresh(
    name: str, peer: Peer, scenario: Scenario, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One round with processes that have done nothing yet, one at a time."""
    found = []
    for who, server in (("ours", OURS), (name, peer)):
        with running(who, server, scenario, options.server_cpu) as (url, pid):
            found.append(measure(scenario, server, url, pid, options))
    return found[0], found[1]


def _in_turn(
    name: str, peer: Peer, scenario: Scenario, wanted: int, options: argparse.Namespace
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Rounds with both running, only one of them loaded; the quietest of all that were made."""
    rounds: list[tuple[dict[str, Any], dict[str, Any]]] = []
    cpu = options.server_cpu
    with (
        running("ours", OURS, scenario, cpu) as ours,
        running(name, peer, scenario, cpu) as theirs,
    ):
        for server, where in ((peer, theirs), (OURS, ours)):
            warm(scenario, server, *where, options)
        while sum(disturbance(each) == 0 for each in rounds) < wanted and len(rounds) < wanted + AGAIN:
            if len(rounds) >= wanted:
                time.sleep(DISTURBED_AGAIN)
            one = measure(scenario, OURS, *ours, options)
            rounds.append((one, measure(scenario, peer, *theirs, options)))
    return sorted(rounds, key=disturbance)[:wanted]


def warm(scenario: Scenario, server: Peer, url: str, pid: int, options: argparse.Namespace) -> None:
    """Have a server do the very work that will be measured, until it is warm."""
    seconds = min(server.warmup, 3.0) if options.quick else server.warmup
    end = time.monotonic() + seconds
    once = seconds if scenario.arguments[0] != "idle" else scenario.seconds
    while time.monotonic() < end:
        measure(scenario, server, url, pid, options, seconds=once)


def measure(
    scenario: Scenario, server: Peer, url: str, pid: int, options: argparse.Namespace, *, seconds: float = 0.0
) -> dict[str, Any]:
    """One run of the generator, for so many seconds or as long as asked; its row.

    Raises:
        PeerError: if a message was lost, a connection closed, or nothing came.
    """
    arguments = [*scenario.arguments, *server.asking]
    if scenario.handler:
        arguments += ["--send-dest", scenario.handler, "--dest", "/user/queue/echo"]
    duration = seconds or (0.7 if options.quick else scenario.seconds or options.duration)
    arguments += ["--url", url, "--pid", str(pid), "--cpu", str(options.load_cpu), "--repeat", "1"]
    arguments += ["--duration", str(duration), "--warmup", str(options.warmup)]
    done = subprocess.run(
        [sys.executable, str(LOAD), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout:
        raise PeerError(done.stderr.strip()[-200:] or f"the generator's exit status is {done.returncode}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    wrong = {name: row[name] for name in ("error", "lost", "closed", "stalled", "note") if row.get(name)}
    if wrong:
        raise PeerError(", ".join(f"{name} {value}" for name, value in wrong.items())[:200])
    if row.get("connect_cpu_s"):
        row["connects_per_cpu_s"] = round(row["clients"] / row["connect_cpu_s"])
    return row


def show_all(results: Sequence[Result]) -> int:
    """Print everything; the exit status."""
    if not results:
        return 1
    print_table("ours against theirs", HEAD, [row for result in results for row in cells(result)])
    if any(is_marked(result) for result in results):
        print("* other processes used 0.15 of a core or more meanwhile: run it again")
    print_table(*side_by_side(results))
    reached = target_rows(results)
    if reached:
        print_table(*reached)
    lacking = missed(results)
    print(f"missed: {', '.join(lacking)}" if lacking else "every target that was measured is met")
    return 1 if lacking or any(result["failed"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
