"""The app that bench/soak.py loads: an answer at once, one by a blocking call, one to SUBSCRIBE."""

from __future__ import annotations

import time

import attrs

from trio_stomp import StompApp

app = StompApp()
app.allow_send("/topic/**", "/queue/**")
app.allow_subscribe("/topic/**", "/queue/**")
service = app.pool("service", threads=8)

CALL = 0.003
"""Seconds that the blocking call takes."""


@attrs.frozen
class Request:
    """A client's n-th request."""

    number: int
    pad: str


@app.on_message("/app/echo/{name}", send_to_user="/queue/echo")
async def echo(name: str, request: Request) -> Request:
    """Give back what came."""
    return request


@app.on_message("/app/work", send_to_user="/queue/work", pool=service, timeout=5)
def work(request: Request) -> Request:
    """Give back what came, after a call that blocks."""
    time.sleep(CALL)
    return request


@app.on_subscribe("/app/hello")
async def hello() -> str:
    """One answer, to this subscription."""
    return "hello"
