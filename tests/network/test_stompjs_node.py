"""@stomp/stompjs under node, with `ws`, against a real server: what pages and node programs use."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network.support import PATIENCE, ServerProgram, node_modules, program_path, serving

SCRIPT = Path(__file__).with_name("stompjs_client.mjs")
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProgram]:
    node_modules()
    beats = ("--set", "stomp.heart_beat_send=0.2", "--set", "stomp.heart_beat_receive=0.2")
    with serving(*beats) as server:
        yield server


def play(server: ServerProgram, scenario: str) -> dict[str, Any]:
    """What the script says of one scenario."""
    done = subprocess.run(
        [program_path("node"), str(SCRIPT), server.url, scenario],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nthe server's log:\n{server.log()}"
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_a_message_comes_back_with_its_headers_and_its_receipt(server: ServerProgram) -> None:
    result = play(server, "chat")
    assert result["subprotocol"] == "v12.stomp"
    assert result["connected"]["version"] == "1.2"
    assert result["connected"]["server"].startswith("trio-stomp/")
    assert result["body"] == "grüße 👋"
    assert result["headers"]["destination"] == "/topic/node"
    assert result["headers"]["content-type"] == "text/plain"
    assert result["headers"]["mood"] == "a:b\nc"
    assert result["receipt"] == "sent"


def test_disconnect_is_confirmed_and_closes_with_1000(server: ServerProgram) -> None:
    assert play(server, "chat")["closed"] == {"code": 1000, "reason": "", "clean": True}


def test_a_body_of_a_mebibyte_passes(server: ServerProgram) -> None:
    result = play(server, "large")
    assert result["length"] == MEBIBYTE
    assert result["sha256"] == hashlib.sha256(b"0123456789abcdef" * (MEBIBYTE // 16)).hexdigest()
    assert result["closed"]["code"] == 1000


def test_a_frame_split_over_many_websocket_messages_is_put_together(server: ServerProgram) -> None:
    result = play(server, "split")
    assert result["largestOut"] <= 1024
    assert result["messagesOut"] > 64
    assert result["sha256"] == hashlib.sha256(b"0123456789abcdef" * (64 * 1024 // 16)).hexdigest()


def test_binary_websocket_messages_are_taken_and_text_is_answered_as_text(server: ServerProgram) -> None:
    result = play(server, "binary_frames")
    assert result["outBinary"]
    assert result["inText"]
    assert result["body"] == "sent as binary, gets back as text"


def test_a_body_that_is_no_text_comes_back_bit_by_bit(server: ServerProgram) -> None:
    result = play(server, "binary_body")
    assert result["inBinary"]
    assert result["length"] == 1024
    assert result["sha256"] == result["sent"]
    assert result["headers"]["content-type"] == "application/octet-stream"


def test_heart_beats_go_both_ways(server: ServerProgram) -> None:
    result = play(server, "heart_beats")
    assert result["connected"]["heart-beat"] == "200,200"
    assert result["beats"]["in"] >= 3
    assert result["beats"]["out"] >= 3
    assert result["closed"]["code"] == 1000


def test_a_refused_frame_gets_an_error_with_its_receipt_and_a_close(server: ServerProgram) -> None:
    result = play(server, "error")
    assert "/nowhere/x" in result["error"]["message"]
    assert result["error"]["receipt-id"] == "r1"
    assert result["closed"]["code"] == 1008
