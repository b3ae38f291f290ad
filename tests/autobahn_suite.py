"""Runs the Autobahn test suite's own client against all echo endpoints, and compares them.

    make autobahn AUTOBAHN_PYTHON=/path/to/python2.7

The client (autobahntestsuite 25.10.1, Twisted 19.10) needs Python 2.7 with pip; it is installed
into `.autobahn`, where its report is, too. All of its cases take a minute. The exit code is 1
when a case of ours is worse than trio-websocket's own or anything but OK, 2 when the client
could not be run. With --write the figures go into docs/conformance-websocket.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autobahn import Behavior, Verdict
from autobahn_table import put

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".autobahn"
REQUIREMENT = "autobahntestsuite==25.10.1"
THEIRS = "trio-websocket"
TIMEOUT = 1800
"""Seconds for all cases; they take a minute."""

_INSTALLED = "import site; site.addsitedir({folder!r}); "
_RUN = _INSTALLED + "from autobahntestsuite.wstest import run; run()"

Verdicts = Mapping[str, Mapping[str, Verdict]]
"""By server, then by case."""


def read(index: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Verdicts:
    """What the client's `index.json` says."""
    return {
        server: {
            case: Verdict(
                Behavior(found["behavior"]), Behavior(found["behaviorClose"]), found["remoteCloseCode"]
            )
            for case, found in cases.items()
        }
        for server, cases in index.items()
    }


def complaints(verdicts: Verdicts) -> list[str]:
    """A line for each case of ours that is worse than theirs, not OK, or was not run."""
    theirs = verdicts[THEIRS]
    good = (Behavior.OK, Behavior.INFORMATIONAL)
    found = []
    for server, cases in verdicts.items():
        if server == THEIRS:
            continue
        found += [f"{server}: case {case} was not run" for case in theirs if case not in cases]
        for case, ours in cases.items():
            said = f"{server}: case {case} is {ours.behavior}, its close {ours.close} ({ours.code})"
            if case in theirs and ours.rank > theirs[case].rank:
                found.append(f"{said}, {THEIRS}'s {theirs[case].behavior}, {theirs[case].close}")
            elif ours.behavior not in good or ours.close not in good:
                found.append(said)
    return found


def summary(verdicts: Verdicts) -> str:
    """A table in Markdown: per server how many cases came out how, and how many ended without a Close."""
    kinds = [kind for kind in Behavior if any(_counts(cases)[kind] for cases in verdicts.values())]
    heads = ["", *(kind.value for kind in kinds), "hung up without a Close"]
    lines = [heads, ["---"] * len(heads)]
    for server, cases in verdicts.items():
        counts = _counts(cases)
        # The right answer to the Close of 7.3.1 has no code either.
        silent = sum(verdict.code is None for case, verdict in cases.items() if case != "7.3.1")
        lines.append([server, *(str(counts[kind]) for kind in kinds), str(silent)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts(cases: Mapping[str, Verdict]) -> Counter[Behavior]:
    """How many cases by the worse half of their verdicts."""
    worse = (max(verdict.behavior, verdict.close, key=lambda kind: kind.rank) for verdict in cases.values())
    return Counter(worse)


def _interpreter() -> str | None:
    """A Python 2.7 that runs; None when there is none."""
    for name in (os.environ.get("AUTOBAHN_PYTHON"), "python2.7"):
        if name:
            try:
                subprocess.run([name, "-c", "print 'Python 2'"], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            return name
    return None


def _run_client(python: str, ports: Mapping[str, int], cases: Sequence[str]) -> Verdicts:
    """Install the client where it is not yet, run it; may raise CalledProcessError."""
    packages, report, log = FOLDER / "packages", FOLDER / "report", FOLDER / "log"
    FOLDER.mkdir(exist_ok=True)
    with log.open("wb") as output:
        if not packages.is_dir():
            print(f"installing {REQUIREMENT} into {packages.relative_to(ROOT)}")
            command = [python, "-m", "pip", "install", "--target", str(packages), REQUIREMENT]
            subprocess.run(command, check=True, stdout=output, stderr=output)
        specification = {
            "outdir": str(report),
            "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"} for name, port in ports.items()],
            "cases": list(cases),
            "exclude-cases": ["12.*", "13.*"],  # compression
            "exclude-agent-cases": {},
        }
        file = FOLDER / "specification.json"
        file.write_text(json.dumps(specification))
        (report / "index.json").unlink(missing_ok=True)
        run = _RUN.format(folder=str(packages))
        command = [python, "-c", run, "-m", "fuzzingclient", "-s", str(file)]
        subprocess.run(command, check=True, stdout=output, stderr=output, timeout=TIMEOUT, cwd=FOLDER)
    return read(json.loads((report / "index.json").read_text()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", default=["*"], help="as '2.*' (default: all)")
    parser.add_argument("--write", action="store_true", help="put the figures into the documentation")
    options = parser.parse_args(arguments)
    python = _interpreter()
    if python is None:
        print("no Python 2.7 here: set AUTOBAHN_PYTHON to one that has pip", file=sys.stderr)
        return 2
    echo = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("autobahn_echo.py"))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert echo.stdout is not None
    try:
        verdicts = _run_client(python, json.loads(echo.stdout.readline()), options.cases)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"the client could not be run, {FOLDER / 'log'} says more: {error}", file=sys.stderr)
        return 2
    finally:
        echo.terminate()
        echo.wait()
    table = summary(verdicts)
    print(table)
    found = complaints(verdicts)
    print("\n".join(found) or f"no case is worse than {THEIRS}'s own")
    if options.write:
        put("autobahn", table)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
