"""What bench/pools.py measures: the example's call, behind a handler that takes what load.py sends."""

from __future__ import annotations

import attrs

from examples.external_api.app import PriceApi, open_api
from trio_stomp import StompApp

app = StompApp()
external_api = app.pool("external_api", threads=16)
app.lifespan(open_api)


@attrs.frozen
class Request:
    """What the load generator sends: a time stamp and padding."""

    ts: str
    pad: str


@attrs.frozen
class Answer:
    """As the example's quote, with the time stamp for the generator."""

    ts: str
    sku: str
    price: str
    currency: str


@app.on_message("/app/quote", send_to_user="/queue/quotes", pool=external_api, timeout=5)
def quote(request: Request, api: PriceApi) -> Answer:
    """Make the call, once for each message."""
    found = api.quote("A")
    return Answer(request.ts, found.sku, found.price, found.currency)
