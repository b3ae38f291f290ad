#!/usr/bin/env python3
"""Deployments of N servers behind the real HAProxy, while C clients are connected and send requests.

Rolling: each server in turn is drained (SIGTERM) and its new version started in its place.
Blue/green: N new servers are started beside the old ones, the traffic is switched, the old ones are drained.
Each row is one deployment; HAProxy runs the configuration of examples/deploy/. Prints what the clients saw,
beside theory, and exits with 1 when a row is not what it must be. With the defaults it takes about 9 minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio
from common import machine, print_table
from deploy_kinds import KINDS, Result
from deploy_run import Deployment
from deploy_stage import haproxy_path


def main() -> None:
    options = _options()
    if haproxy_path() is None:
        raise SystemExit("haproxy is not installed (Debian: apt-get install haproxy)")
    results = []
    for key in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            deployment = Deployment(key, options, Path(folder))
            result = trio.run(deployment.run)
        results.append(result)
        print(f"{result.title}: {result.seconds:.0f} s", flush=True)
    _print(results)
    if options.json is not None:
        text = json.dumps({"machine": machine(), "deployments": [attrs.asdict(result) for result in results]})
        options.json.write_text(text + "\n")
    if options.svg is not None:
        from deploy_plot import plot  # only whoever asks for it needs what draws

        options.svg.write_text(plot(results))
    faults = [
        f"{one.title}: {fault}" for one in results if KINDS[one.kind].is_judged for fault in one.faults()
    ]
    if faults:
        raise SystemExit("\n".join(faults))


def _options() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--servers", type=int, default=4, metavar="N", help="servers of a set (default 4)")
    made.add_argument("--clients", type=int, default=400, metavar="C", help="clients (default 400)")
    made.add_argument("--window", type=float, default=20.0, help="drain.window, seconds (default 20)")
    made.add_argument("--delay", type=float, default=5.0, help="drain.delay, seconds (default 5)")
    made.add_argument(
        "--inter", type=float, default=1.0, help="seconds between HAProxy's health checks (default 1)"
    )
    made.add_argument(
        "--kinds",
        type=_kinds,
        default=list(KINDS),
        metavar="KIND,...",
        help=f"which deployments (default: all of {', '.join(KINDS)})",
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="also write all that was measured")
    made.add_argument("--svg", type=Path, metavar="FILE", help="also plot the connections of each server")
    return made.parse_args()


def _kinds(text: str) -> list[str]:
    for key in text.split(","):
        if key not in KINDS:
            raise argparse.ArgumentTypeError(f"{key!r} is none of {', '.join(KINDS)}")
    return text.split(",")


def _print(results: Sequence[Result]) -> None:
    first = results[0]
    print_table(
        f"{first.clients} clients, {first.servers} servers, a window of {first.window:g} s",
        [
            "deployment",
            "reconnects",
            "theory",
            "most",
            "failed",
            "lost",
            "sent again",
            "peak/s",
            "stall s",
            "retries",
            "spread",
        ],
        [
            [
                one.title,
                f"{one.mean:.2f}",
                f"{one.theory:.2f}",
                str(one.most),
                str(one.failed),
                f"{one.lost} of {one.requests}",
                str(one.resent),
                str(one.peak_rate),
                f"{one.stall:.1f}",
                str(one.retries),
                " ".join(map(str, one.spread)),
            ]
            for one in results
        ],
    )


if __name__ == "__main__":
    main()
