"""A STOMP server inside a Trio program, beside its other tasks.

Run it with `python examples/embed/main.py`, watch it with
`trio-stomp subscribe ws://127.0.0.1:8080/ws /topic/ticks`, and end it with Ctrl-C.

The program owns the nursery, the signals and the order in which things end; the server is one task more.
"""

from __future__ import annotations

import argparse
import itertools
import signal

import attrs
import trio

from trio_stomp import DrainConfig, Server, ServerConfig, StompApp, serve

app = StompApp()


@attrs.frozen
class Tick:
    """What is published every so often."""

    count: int
    sessions: int
    """How many clients are connected."""


async def tick(server: Server, every: float) -> None:
    """Publish a tick every so many seconds, for ever. Any task may publish."""
    for count in itertools.count(1):
        await app.publish("/topic/ticks", Tick(count, server.statistics().sessions))
        await trio.sleep(every)


async def main(port: int, every: float) -> None:
    """Run until SIGINT or SIGTERM."""
    # No load balancer has to notice that we are going: no delay. The few clients are closed within a second.
    config = ServerConfig(port=port, drain=DrainConfig(delay=0, window=1))
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as serving:
            server: Server = await serving.start(serve, app, config)
            print(f"listening on {server.url}", flush=True)
            async with trio.open_nursery() as tasks:
                tasks.start_soon(tick, server, every)
                async for _ in signals:
                    break
                tasks.cancel_scope.cancel()  # first those who publish
            print("ending: the clients finish what they have begun", flush=True)
            await server.drain()  # then the server; `serve` returns after it
    print("ended", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A STOMP server inside a Trio program.")
    parser.add_argument("--port", type=int, default=8080, help="0 for a free one (default 8080)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between ticks (default 1)")
    options = parser.parse_args()
    trio.run(main, options.port, options.every)
