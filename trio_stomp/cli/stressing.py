"""``trio-stomp stress`` and ``stress compare``: their options. What they do stands in `measuring`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trio_stomp.cli.usage import Commands


def add_commands(commands: Commands) -> None:
    """Add ``stress`` and ``stress compare``, which argparse sees as two commands (`joined`)."""
    parser = commands.add_parser(
        "stress",
        help="load a server, and find the size of a pool",
        description="Send messages at a constant rate over many connections, whatever the answers do, and "
        "tell how long they took from when they were due. MODULE:APP is served in a process of its own, "
        "with --sweep anew for each size of a pool; a URL is a server that runs already. Ends with the "
        "size to take, or with the rate at which it breaks. Exit status 1 when --fail-if holds. "
        "'trio-stomp stress compare A.json B.json' compares two results.",
    )
    parser.add_argument("target", metavar="MODULE:APP|URL", help="app to serve, or URL as ws://h:8080/ws")
    what = parser.add_argument_group("what is sent")
    what.add_argument("--destination", required=True, metavar="DEST", help="where to SEND, as /app/pay")
    what.add_argument(
        "--body", metavar="BODY", help="text; @FILE: a file's content; -: standard input (default: empty)"
    )
    what.add_argument(
        "--content-type", metavar="TYPE", help="of the body (default: application/json when it is JSON)"
    )
    what.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="another header; may be repeated"
    )
    what.add_argument(
        "--reply",
        metavar="DEST",
        help="where the answers arrive, as /user/queue/receipts (default: the RECEIPT is the answer)",
    )
    what.add_argument(
        "--no-receipts",
        action="store_true",
        help="ask for no RECEIPT, and match answers in order: for servers that send none",
    )
    what.add_argument("--login", help="login header of CONNECT")
    what.add_argument(
        "--passcode", help="passcode header of CONNECT (default: the environment's TRIO_STOMP_PASSCODE)"
    )
    load = parser.add_argument_group("how much")
    load.add_argument("--clients", type=int, default=50, metavar="N", help="connections (default 50)")
    load.add_argument(
        "--rate", type=float, default=100.0, metavar="N", help="messages per second in all (default 100)"
    )
    load.add_argument(
        "--duration", type=float, default=10.0, metavar="S", help="seconds measured of each run (default 10)"
    )
    load.add_argument(
        "--warm-up", type=float, default=1.0, metavar="S", help="seconds of load before that (default 1)"
    )
    load.add_argument(
        "--grace", type=float, default=3.0, metavar="S", help="seconds to wait for last answers (default 3)"
    )
    vary = load.add_mutually_exclusive_group()
    vary.add_argument(
        "--sweep",
        metavar="POOL=N,N,...",
        help="measure each of these sizes of a pool, then those between that look best",
    )
    vary.add_argument(
        "--ramp",
        metavar="FROM:TO[:STEPS]",
        help="raise the rate in steps (default 10) until it breaks",
    )
    verdict = parser.add_argument_group("what is told")
    verdict.add_argument(
        "--target", dest="goal", metavar="CRITERIA", help="what a size has to meet, as 'p99<250ms'"
    )
    verdict.add_argument(
        "--fail-if", metavar="CRITERIA", help="what makes the exit status 1, as 'p99>250ms,lost>0'"
    )
    verdict.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    verdict.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with plots; needs no network"
    )
    server = parser.add_argument_group("the server of MODULE:APP")
    server.add_argument("--config", metavar="FILE", type=Path, help="file with settings (TOML)")
    server.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting by its name, as pools.payments.queue=50; may be repeated",
    )
    parser.set_defaults(run=_stress)

    comparing = commands.add_parser(
        "stress compare",
        help="compare two results of stress",
        description="Compare two results that 'trio-stomp stress --json' wrote, run by run.",
    )
    comparing.add_argument("before", type=Path, metavar="A.json", help="one result")
    comparing.add_argument("after", type=Path, metavar="B.json", help="the other")
    comparing.set_defaults(run=_compare)


def joined(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments with ``stress compare`` as one word, the name of its parser."""
    if list(arguments[:2]) == ["stress", "compare"]:
        return ["stress compare", *arguments[2:]]
    return arguments


def _stress(options: argparse.Namespace) -> int:
    from trio_stomp.cli.measuring import stress  # none of it is needed to serve

    return stress(options)


def _compare(options: argparse.Namespace) -> int:
    from trio_stomp.cli.measuring import compare

    return compare(options)
