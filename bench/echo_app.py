"""The handlers that bench/echo.py and bench/compare.py measure."""

from __future__ import annotations

import os
import time

import attrs

from trio_stomp import StompApp

app = StompApp(fast_json=bool(os.environ.get("BENCH_FAST")))
"""Without the extra ``fast``, unless it is asked for."""
work_pool = app.pool("work", threads=16)


@attrs.define
class Echo:
    """What the load generator sends: a time stamp and padding."""

    ts: str
    pad: str


@app.on_message("/app/echo", send_to_user="/queue/echo")
async def echo(message: Echo) -> Echo:
    """Give back what came."""
    return message


@app.on_message("/app/work", send_to_user="/queue/echo", pool=work_pool)
def work(message: Echo) -> Echo:
    """Give back what came after a blocking call of 20 ms."""
    time.sleep(0.02)
    return message
