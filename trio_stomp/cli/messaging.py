"""``trio-stomp send`` and ``subscribe``: a client for a person at a terminal.

Rule: SIGINT is raised in the main task and where that waits, not wherever the program is: in the middle of
Trio's starting a task it would leave a nursery that nothing ends.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from trio_stomp.cli.usage import PASSCODE, Commands, count, guess_content_type, read_body
from trio_stomp.client.client import Client, open_client


def add_commands(commands: Commands) -> None:
    """Add ``send`` and ``subscribe``."""
    sending = commands.add_parser(
        "send",
        help="send one message",
        description="Send one message and wait for the RECEIPT. Exit status 1 when the server refuses it.",
    )
    add_connection_options(sending)
    sending.add_argument("destination", metavar="DEST", help="destination, as /topic/news or /app/chat/lobby")
    sending.add_argument(
        "body",
        nargs="?",
        metavar="BODY",
        help="text; @FILE: a file's content; -: standard input (default: empty)",
    )
    sending.add_argument(
        "--content-type",
        metavar="TYPE",
        help="of the body (default: application/json when it is JSON, else text/plain)",
    )
    sending.set_defaults(run=_send)

    subscribing = commands.add_parser(
        "subscribe",
        help="print the messages of destinations",
        description="Print the body of each message that arrives, with a line end behind it. "
        "Runs until SIGINT (exit status 130) or for --count messages.",
    )
    add_connection_options(subscribing)
    subscribing.add_argument(
        "destinations", nargs="+", metavar="DEST", help="destination or pattern, as /topic/news or /topic/**"
    )
    subscribing.add_argument("--count", type=count, metavar="N", help="end after N messages")
    subscribing.add_argument(
        "--headers", action="store_true", help="print a line with the headers before each body"
    )
    subscribing.add_argument(
        "--ack",
        choices=("auto", "client", "client-individual"),
        default="auto",
        help="ack mode; but for auto each message is acknowledged when it is printed, and what is not goes "
        "back to its queue (default: auto)",
    )
    subscribing.set_defaults(run=_subscribe)


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """URL, login and passcode."""
    parser.add_argument("url", metavar="URL", help="WebSocket endpoint, as ws://127.0.0.1:8080/ws")
    parser.add_argument("--login", help="login header of CONNECT")
    parser.add_argument(
        "--passcode", help="passcode header of CONNECT (default: the environment's TRIO_STOMP_PASSCODE)"
    )


def _passcode(options: argparse.Namespace) -> str | None:
    return options.passcode or os.environ.get(PASSCODE)


def _send(options: argparse.Namespace) -> int:
    body = read_body(options.body)
    content_type = options.content_type or guess_content_type(body)

    async def run() -> None:
        async with open_client(options.url, login=options.login, passcode=_passcode(options)) as client:
            await client.send(options.destination, body, headers={"content-type": content_type}, receipt=True)

    trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True)
    return 0


def _subscribe(options: argparse.Namespace) -> int:
    trio.run(_print_messages, options, restrict_keyboard_interrupt_to_checkpoints=True)
    return 0


async def _print_messages(options: argparse.Namespace) -> None:
    left = options.count if options.count is not None else -1
    one_at_a_time = trio.CapacityLimiter(1)

    async def show(client: Client, destination: str, scope: trio.CancelScope) -> None:
        nonlocal left
        async with client.subscribe(destination, ack=options.ack) as messages:
            async for message in messages:
                lines = message.body + b"\n"
                if options.headers:
                    headers = " ".join(f"{name}:{value}" for name, value in message.headers.items())
                    lines = headers.encode() + b"\n" + lines
                # Whoever reads it may pause, as a pager does: heart-beats and SIGINT must not wait for them.
                await trio.to_thread.run_sync(_print, lines, abandon_on_cancel=True, limiter=one_at_a_time)
                if options.ack != "auto":
                    await client.ack(message)
                left -= 1
                if left == 0:
                    scope.cancel()
                    return

    async with open_client(options.url, login=options.login, passcode=_passcode(options)) as client:
        await _for_each(options.destinations, partial(show, client))


def _print(lines: bytes) -> None:
    """Write to standard output, around its buffer: whose lock an abandoned thread would keep for ever."""
    while lines:
        lines = lines[os.write(sys.stdout.fileno(), lines) :]


async def _for_each(
    destinations: Sequence[str], show: Callable[[str, trio.CancelScope], Awaitable[None]]
) -> None:
    async with trio.open_nursery() as nursery:
        for destination in destinations:
            nursery.start_soon(show, destination, nursery.cancel_scope)
