"""The handler that bench/echo.py measures."""

import attrs

from trio_stomp import StompApp

app = StompApp()


@attrs.define
class Echo:
    """What the load generator sends: a time stamp and padding."""

    ts: str
    pad: str


@app.on_message("/app/echo", send_to_user="/queue/echo")
async def echo(message: Echo) -> Echo:
    """Give back what came."""
    return message
