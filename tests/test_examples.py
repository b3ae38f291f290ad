"""The examples that are programs, run as a reader would run them. (The chat: network/test_browser.py.)"""

from __future__ import annotations

import signal

import attrs
import pytest
import trio
from network.support import PATIENCE, running, serving

from trio_stomp import ConnectionLost, Subscription, open_client


@attrs.frozen
class Tick:
    count: int
    sessions: int


async def drop_all(messages: Subscription) -> None:
    async for _ in messages:
        pass


async def test_embed_ticks_and_ends_when_signalled() -> None:
    with running("examples/embed/main.py", "--port", "0", "--every", "0.02") as program:
        url = program.line().removeprefix("listening on ")
        with trio.fail_after(PATIENCE):
            async with open_client(url) as client, client.subscribe("/topic/ticks", Tick) as ticks:
                first, second = await ticks.receive(), await ticks.receive()
                assert second.count == first.count + 1
                assert second.sessions == 1
                program.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionLost) as caught:
                    await drop_all(ticks)
                assert caught.value.code == 1012
            assert await trio.to_thread.run_sync(program.wait) == 0, program.log()
        assert program.lines()[-1] == "ended"
        assert program.log() == ""


def test_plain_broker_talks_through_a_server_without_an_app() -> None:
    with serving() as server, running("examples/plain_broker/main.py", server.url) as program:
        assert program.wait() == 0, program.log()
        assert program.lines() == ["greeting 1: hello", "greeting 2: hello", "greeting 3: hello"]
        assert program.log() == ""


def test_plain_broker_without_a_url_says_how_to_use_it() -> None:
    with running("examples/plain_broker/main.py") as program:
        assert program.wait() == 1
        assert program.log().startswith("usage: ")
