#!/usr/bin/env python3
"""Runs pip-audit over a lock, and does not take silence for a clean bill: `audit.py PIP-AUDIT LOCK`.

pip-audit passes over packages that the advisory service does not answer for; here that is exit status 2.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

EXIT_VULNERABLE = 1
EXIT_UNKNOWN = 2


def verdict(answer: str, complaint: str) -> tuple[int, list[str]]:
    """The exit status and what to say, by what pip-audit wrote to standard output and error."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        why = complaint.strip().splitlines()[-1:] or ["it said nothing"]
        return EXIT_UNKNOWN, [f"the advisory service could not be asked, nothing was checked: {why[0]}"]
    skipped = [one for one in dependencies if "skip_reason" in one]
    found = [(one, vulnerability) for one in dependencies for vulnerability in one.get("vulns", ())]
    lines = [
        f"{one['name']} {one['version']}: {vulnerability['id']}, "
        f"mended in {', '.join(vulnerability['fix_versions']) or 'no release yet'}"
        for one, vulnerability in found
    ]
    if found:
        return EXIT_VULNERABLE, lines
    if skipped or not dependencies:
        what = f"{len(skipped)} of {len(dependencies)} packages"
        why = skipped[0]["skip_reason"] if skipped else "the lock is empty"
        return EXIT_UNKNOWN, [f"the advisory service cannot be reached, or does not know {what}: {why}"]
    return 0, [f"{len(dependencies)} packages, no known vulnerability"]


def main() -> int:
    audit, lock = sys.argv[1:]
    command = [audit, "--requirement", lock, "--disable-pip", "--no-deps"]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    status, lines = verdict(done.stdout, done.stderr)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main())
