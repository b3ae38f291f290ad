"""What a service writes by hand: asyncio, `websockets`, and just as much STOMP as the generator needs.

A SEND to /topic/… goes to every subscriber of it by `websockets.broadcast`; there are no limits, checks,
receipts or heart-beats. uvloop is used where it is installed.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, broadcast, serve

Subscribers = defaultdict[str, defaultdict[str, set[ServerConnection]]]
"""By destination and the id of the subscription, with which a MESSAGE begins."""


def parse(text: str) -> tuple[str, dict[str, str], str]:
    head, _, body = text.partition("\n\n")
    command, *lines = head.split("\n")
    return command, dict(line.split(":", 1) for line in lines), body.rstrip("\0\n")


async def main(port: int) -> None:
    topics: Subscribers = defaultdict(lambda: defaultdict(set))
    ids = itertools.count(1)

    async def handle(connection: ServerConnection) -> None:
        mine: list[set[ServerConnection]] = []
        try:
            async for text in connection:
                if isinstance(text, bytes):
                    text = text.decode()
                command, headers, body = parse(text.lstrip("\n"))
                if command in ("CONNECT", "STOMP"):
                    await connection.send("CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0")
                elif command == "SUBSCRIBE":
                    group = topics[headers["destination"]][headers["id"]]
                    group.add(connection)
                    mine.append(group)
                    if "receipt" in headers:
                        await connection.send(f"RECEIPT\nreceipt-id:{headers['receipt']}\n\n\0")
                elif command == "SEND":
                    destination = headers["destination"]
                    for id, group in topics[destination].items():
                        frame = (
                            f"MESSAGE\nsubscription:{id}\ndestination:{destination}\nmessage-id:{next(ids)}\n"
                            f"content-type:{headers.get('content-type', 'text/plain')}\n"
                            f"content-length:{len(body.encode())}\n\n{body}\0"
                        )
                        broadcast(group, frame)
        finally:
            for group in mine:
                group.discard(connection)

    async with serve(
        handle,
        "127.0.0.1",
        port,
        compression=None,
        ping_interval=None,
        subprotocols=["v12.stomp"],
        max_size=None,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"listening on ws://127.0.0.1:{port}/ws", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        uvloop = None
    run = asyncio.run if uvloop is None else uvloop.run
    run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
