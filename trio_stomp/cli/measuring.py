"""What ``trio-stomp stress`` does: the plan from the options, the measuring, the report."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from trio_stomp.cli.progress import Show, has_rich, open_progress
from trio_stomp.cli.usage import EXIT_FAILED, PASSCODE, UsageError, guess_content_type, read_body
from trio_stomp.errors import ConfigError
from trio_stomp.groups import bare_errors
from trio_stomp.stress import advice, store
from trio_stomp.stress.compare import compare_text
from trio_stomp.stress.criteria import Criterion, failures, parse_criteria
from trio_stomp.stress.drive import measure
from trio_stomp.stress.page import report_page
from trio_stomp.stress.plan import Plan, Ramp, StressError, Sweep
from trio_stomp.stress.results import Report, Run
from trio_stomp.stress.table import report_text, rich_table
from trio_stomp.version import __version__

_WIDTH = 100
"""Columns of a report that goes to a file or a pipe."""


def stress(options: argparse.Namespace) -> int:
    """Run the stress test that the options ask for; the exit status."""
    try:
        goal = parse_criteria(options.goal) if options.goal else ()
        fail_if = parse_criteria(options.fail_if) if options.fail_if else ()
        plan = _plan(options)
        for path in (options.json, options.html):
            _check_writable(path)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    started = datetime.datetime.now(datetime.UTC)
    runs: list[Run] = []
    why: str | None = None
    try:
        with open_progress(sys.stderr) as progress:
            why = trio.run(_measure, plan, goal, runs.append, progress)
    except StressError as error:
        if not runs:
            raise
        why = str(error)
    if why is not None:
        if not runs:
            print(f"trio-stomp: ended by {why}", file=sys.stderr)
            return EXIT_FAILED
        print(f"trio-stomp: {why}; this is what was measured before", file=sys.stderr)
    report = _report(options, plan, goal, runs, started)
    _show(report)
    if options.json is not None:
        store.save(report, options.json)
    if options.html is not None:
        options.html.write_text(report_page(report), encoding="utf-8")
    failed = failures(fail_if, advice.judged_runs(report))
    for line in failed:
        print(f"trio-stomp: failed: {line}", file=sys.stderr)
    return EXIT_FAILED if failed or why is not None else 0


async def _measure(
    plan: Plan, goal: Sequence[Criterion], on_run: Callable[[Run], None], progress: Show
) -> str | None:
    """Measure until it is done, or a signal ends it: its name. The server under test ends in both cases."""
    ended_by: str | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals, bare_errors():
        async with trio.open_nursery() as nursery:

            async def end_when_signalled() -> None:
                nonlocal ended_by
                async for number in signals:
                    ended_by = signal.Signals(number).name
                    nursery.cancel_scope.cancel()

            nursery.start_soon(end_when_signalled)
            await measure(plan, goal, on_run, progress)
            nursery.cancel_scope.cancel()
    return ended_by


def _plan(options: argparse.Namespace) -> Plan:
    body = read_body(options.body)
    headers = [header.partition(":") for header in options.header]
    for name, colon, _ in headers:
        if not (name and colon):
            raise UsageError(f"--header {name!r}: expected NAME:VALUE")
    content_type = options.content_type
    if content_type is None and body:
        content_type = guess_content_type(body)
    return Plan(
        target=options.target,
        destination=options.destination,
        body=body,
        content_type=content_type,
        headers=[(name, value) for name, _, value in headers],
        reply=options.reply,
        clients=options.clients,
        rate=options.rate,
        duration=options.duration,
        warm_up=options.warm_up,
        grace=options.grace,
        login=options.login,
        passcode=options.passcode or os.environ.get(PASSCODE),
        receipts=not options.no_receipts,
        config=options.config,
        settings=tuple(options.set),
        sweep=_sweep(options.sweep) if options.sweep else None,
        ramp=_ramp(options.ramp) if options.ramp else None,
    )


def _sweep(text: str) -> Sweep:
    pool, equals, sizes = text.partition("=")
    if not (equals and re.fullmatch(r"[0-9]+(,[0-9]+)*", sizes)):
        raise ConfigError(f"--sweep {text!r}, expected POOL=SIZE,SIZE,…, as payments=4,16,64")
    return Sweep(pool, [int(size) for size in sizes.split(",")])


def _ramp(text: str) -> Ramp:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?):([0-9]+(?:\.[0-9]+)?)(?::([0-9]+))?", text)
    if found is None:
        raise ConfigError(f"--ramp {text!r}, expected FROM:TO or FROM:TO:STEPS, as 100:2000")
    start, end = float(found[1]), float(found[2])
    return Ramp(start, end) if found[3] is None else Ramp(start, end, int(found[3]))


def _check_writable(path: Path | None) -> None:
    """Find out before minutes of measuring, not after.

    Raises:
        UsageError: nothing can be written there.
    """
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise UsageError(f"cannot write {path}: expected a file in a folder that is there")


def _report(
    options: argparse.Namespace,
    plan: Plan,
    goal: Sequence[Criterion],
    runs: Sequence[Run],
    started: datetime.datetime,
) -> Report:
    kind = "sweep" if plan.sweep is not None else "ramp" if plan.ramp is not None else "run"
    in_order = sorted(runs, key=lambda run: run.threads or 0) if kind == "sweep" else runs
    return Report(
        version=__version__,
        started=started.isoformat(timespec="seconds"),
        command=_command(options),
        machine=_machine(),
        target=plan.target,
        destination=plan.destination,
        reply=plan.reply,
        kind=kind,
        goal=options.goal,
        runs=tuple(in_order),
        recommendation=advice.recommend(in_order, goal) if kind == "sweep" else None,
        breaking_point=advice.breaking_point(in_order, goal) if kind == "ramp" else None,
        warnings=advice.warnings(in_order),
    )


def _command(options: argparse.Namespace) -> str:
    """The command line, less what is secret in it."""
    shown = list(sys.argv[1:])
    if options.passcode is not None:
        shown = ["…" if word == options.passcode else word for word in shown]
        shown = [re.sub(r"^(--passcode=).*", r"\1…", word) for word in shown]
    return shlex.join(["trio-stomp", *shown])


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}"


def _show(report: Report) -> None:
    """As a table with colours at a terminal that has rich, else as plain text."""
    if sys.stdout.isatty() and has_rich():
        from rich.console import Console

        console = Console()
        console.print(rich_table(report, console.width))
    else:
        print(report_text(report, _WIDTH))


def compare(options: argparse.Namespace) -> int:
    """Print two results side by side; the exit status."""
    before, after = store.load(options.before), store.load(options.after)
    print(compare_text(before, after, (options.before.name, options.after.name)))
    return 0
