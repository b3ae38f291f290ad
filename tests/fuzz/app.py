"""What the fuzzers talk to: every kind of handler, a pool that fills up, and limits that are soon reached."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs
import trio
from fuzz.plans import FRAGMENTS

from trio_stomp import ConnectRefused, ConnectRequest, Message, StompApp, User

SETTINGS: Final[Mapping[str, object]] = MappingProxyType(
    {
        "http.head_bytes": 2048,
        "http.head_timeout": 3.0,
        "http.headers": 24,
        "stomp.connect_timeout": 4.0,
        "stomp.body_before_connected": 1024,
        "stomp.body": 16384,
        "stomp.header_line": 512,
        "stomp.headers": 16,
        "stomp.subscriptions": 8,
        "stomp.transactions": 3,
        "stomp.transaction_frames": 20,
        "stomp.transaction_bytes": 32768,
        "stomp.heart_beat_send": 0.5,
        "stomp.heart_beat_receive": 0.5,
        "stomp.linger": 5.0,
        "websocket.receive_ahead": 8192,
        "websocket.fragments": FRAGMENTS,
        "websocket.message": 32768,
        "websocket.close_timeout": 3.0,
        "outbox.bytes": 32768,
        "outbox.messages": 256,
        "outbox.write_timeout": 2.0,
        "broker.inbox": 64,
        "broker.prefetch": 4,
        "broker.prefetch_max": 16,
        "broker.unacked_bytes": 32768,
        "broker.queue_messages": 50,
        "broker.queue_bytes": 131072,
        "broker.queues": 50,
        "broker.kept_bytes": 1048576,
        "accept.per_address": 14,
        "drain.delay": 0,
        "drain.window": 0,
        "drain.deadline": 30,
    }
)
"""Small enough for a mutation to run into each of them; the times are above what a busy machine takes."""


@attrs.frozen
class Order:
    """A structured payload."""

    sku: str
    count: int = 1


class OrderError(Exception):
    """What an exception handler answers."""


def make_app(sleep: Callable[[float], None] = time.sleep) -> StompApp:
    """The app; ``sleep`` is what its blocking calls do."""
    app = StompApp()
    worker = app.pool("worker", threads=2, queue=4, queue_timeout=0.5)
    app.allow_send("/topic/**", "/queue/**")
    app.allow_subscribe("/topic/**", "/queue/**")

    @app.on_connect
    async def authenticate(request: ConnectRequest) -> User | None:
        """Anybody may come in, named or not, but for one."""
        if request.login == "refused":
            raise ConnectRefused("not you")
        return User(request.login) if request.login else None

    @app.on_message("/app/echo", send_to_user="/queue/echo", broadcast=False)
    async def echo(message: Message) -> bytes:
        """The body as it came."""
        return message.body

    @app.on_message("/app/chat/{room}", send_to="/topic/chat/{room}")
    async def say(room: str, payload: Any) -> dict[str, object]:
        """Any JSON."""
        return {"room": room, "said": payload}

    @app.on_message("/app/order", send_to_user="/queue/orders", pool=worker, timeout=1)
    def order(order: Order) -> Order:
        """A blocking call."""
        sleep(0.002)
        return order

    @app.on_message("/app/slow", pool=worker, timeout=0.05)
    def slow() -> None:
        """A blocking call that takes too long."""
        sleep(0.1)

    @app.on_message("/app/aside", send_to_user="/queue/echo", concurrency=2)
    async def aside(message: Message) -> str:
        """Runs beside its session's other frames."""
        await trio.sleep(0.001)
        return message.destination

    @app.on_message("/app/refuse/{number}")
    async def refuse(number: int) -> None:
        """Raises what an exception handler answers."""
        raise OrderError(number)

    @app.exception_handler(OrderError, send_to_user="/queue/errors")
    async def refused(error: OrderError) -> str:
        """Answers it."""
        return f"refused: {error}"

    @app.on_subscribe("/app/recent/{room}")
    async def recent(room: str) -> list[str]:
        """One answer."""
        return [room]

    @app.on_subscribe("/app/ticks")
    async def ticks() -> AsyncIterator[int]:
        """A stream that ends with its subscription only."""
        number = 0
        while True:
            yield number
            number += 1
            await trio.sleep(0.05)

    return app


app = make_app()
