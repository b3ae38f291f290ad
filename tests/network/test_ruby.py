"""The Ruby gem `stomp` (Debian's ruby-stomp) against a real server, over TCP and TLS."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from network.support import PATIENCE, certificate, program_path, serving

CLIENT = Path(__file__).parent / "ruby_client.rb"


def ruby() -> str:
    """Where Ruby is; without it, or the gem, the test is skipped."""
    found = program_path("ruby")
    if subprocess.run([found, "-rstomp", "-e", ""], check=False, capture_output=True).returncode:
        pytest.skip("ruby-stomp is not installed")
    return found


@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
def test_a_ruby_program_is_served(is_tls: bool, tmp_path: Path) -> None:
    program = ruby()
    options, trusted = certificate(tmp_path) if is_tls else ((), "")
    with serving("--tcp-port", "0", *options) as server:
        done = subprocess.run(
            [program, str(CLIENT), str(server.tcp_port), trusted],
            capture_output=True,
            text=True,
            env={**os.environ, "LANG": "C.UTF-8"},
            timeout=PATIENCE,
            check=False,
        )
        # It says so once behind the ERROR, and for each close that its reading thread sees first.
        assert set(done.stderr.splitlines()) == {"warning: broker sent EOF, and connection not reliable"}
        assert done.returncode == 0, (done.stdout, server.log())
    steps = [
        line
        for version in ("1.0", "1.1", "1.2")
        for line in (
            f"connected {version}",
            'received "größer\\n" ' + ("nil" if version == "1.0" else r'"a:b\nd"'),
            "receipt RECEIPT",
            "closed",
        )
    ]
    *steps_done, refused, then = done.stdout.splitlines()
    assert steps_done == steps
    assert refused.startswith("refused ERROR ")
    assert "/nowhere/x" in refused
    assert then == "then nil"
