"""Two clients that talk through a broker without an app: nothing of the server is programmed.

Start the broker in one terminal, `trio-stomp serve`, and this in another:

    python examples/plain_broker/main.py ws://127.0.0.1:8080/ws
"""

from __future__ import annotations

import sys

import attrs
import trio

from trio_stomp import open_client

DESTINATION = "/topic/greetings"


@attrs.frozen
class Greeting:
    """What is sent, as JSON."""

    number: int
    text: str


async def greet(url: str, count: int) -> None:
    """Connect, send ``count`` greetings, each of which the server has taken when `send` returns."""
    async with open_client(url) as client:
        for number in range(1, count + 1):
            await client.send(DESTINATION, Greeting(number, "hello"), receipt=True)


async def main(url: str, count: int = 3) -> None:
    """Subscribe, let another client send, and print what arrives."""
    async with (
        open_client(url) as client,
        client.subscribe(DESTINATION, Greeting) as greetings,
        trio.open_nursery() as nursery,
    ):
        # The subscription stands, so nothing that is sent from here on is missed.
        nursery.start_soon(greet, url, count)
        for _ in range(count):
            greeting = await greetings.receive()
            print(f"greeting {greeting.number}: {greeting.text}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} URL, as ws://127.0.0.1:8080/ws")
    trio.run(main, sys.argv[1])
