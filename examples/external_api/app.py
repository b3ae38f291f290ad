"""Every message makes a blocking call to a slow external API: what pools are for, and the stress test.

From the repository's root:

    trio-stomp serve examples.external_api.app:app
    trio-stomp subscribe ws://127.0.0.1:8080/ws /user/queue/quotes /user/queue/errors --login ada
    trio-stomp send ws://127.0.0.1:8080/ws /app/quote '{"sku": "A"}' --login ada

The API is at ``EXTERNAL_API_URL``. When that is not set, api.py stands in for it as a program of its own,
which ends with the server.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import trio

from examples.external_api.connection import HttpConnection
from trio_stomp import ConnectRequest, StompApp, User

logger = logging.getLogger(__name__)

API_TIMEOUT = 4.0
"""Seconds that the API may be silent. Below the route's timeout, because only this one frees the thread."""
SKU = r"[A-Za-z0-9-]{1,40}"
"""What goes into a URL is checked first; what does not match never leaves the server."""


@attrs.frozen
class QuoteRequest:
    """What a client sends to ``/app/quote``."""

    sku: str = attrs.field(validator=attrs.validators.matches_re(SKU))


@attrs.frozen
class Quote:
    """The answer, on ``/user/queue/quotes``."""

    sku: str
    price: str
    """A decimal number as text, because money is no float."""
    currency: str


@attrs.frozen
class Problem:
    """The answer on ``/user/queue/errors`` when there is no price, in the form of the server's own."""

    code: str
    message: str


class PriceError(Exception):
    """There is no price; the text is for the log."""


class UnknownSku(PriceError):
    """The API does not sell it."""


class PriceApi:
    """The external API. Each call blocks its thread; any number of threads may call at once.

    A call takes the connection that was given back last, or opens one. So connections are re-used, and there
    are never more of them than the pool has threads.

    Args:
        url: where it is, such as ``https://prices.example/v1``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"EXTERNAL_API_URL is {url!r}, expected http://… or https://…")
        self._url = parts
        self._path = parts.path.rstrip("/")
        self._idle: list[HttpConnection] = []  # append and pop are atomic, so it needs no lock

    def quote(self, sku: str) -> Quote:
        """Ask for the price of one thing.

        Raises:
            UnknownSku: the API knows no such thing.
            PriceError: it is out of reach, too slow, or answers something else.
        """
        status, body = self._get(f"{self._path}/prices/{sku}")
        if status == 404:
            raise UnknownSku(f"no price for {sku}")
        if status != 200:
            raise PriceError(f"the API answered {status}")
        try:
            answer = json.loads(body)
            return Quote(answer["sku"], answer["price"], answer["currency"])
        except (ValueError, LookupError, TypeError) as error:
            raise PriceError("the API's answer is no quote") from error

    def _get(self, path: str) -> tuple[int, bytes]:
        while True:
            connection = None
            try:
                try:
                    connection, is_used = self._idle.pop(), True
                except IndexError:
                    is_used = False
                    connection = HttpConnection(self._url, API_TIMEOUT)
                answer = connection.get(path)
            except (OSError, ValueError) as error:
                if connection is not None:
                    connection.close()
                if is_used and isinstance(error, ConnectionError):
                    continue  # the API had closed it while it was idle; a GET may be sent again
                raise PriceError(f"the API failed: {error!r}") from error
            if connection.is_reusable:
                self._idle.append(connection)
            else:
                connection.close()
            return answer

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


app = StompApp()

# The bulkhead: at most so many calls at once, and a bounded wait in front of them. `--set
# pools.external_api.threads=32` gives it another size; `trio-stomp stress` finds the right one.
external_api = app.pool("external_api", threads=16, queue=500, queue_timeout=5)


@app.lifespan
async def open_api() -> AsyncIterator[PriceApi]:
    """As long as the app is served; handlers get it by its type."""
    async with contextlib.AsyncExitStack() as stack:
        url = os.environ.get("EXTERNAL_API_URL")
        if not url:
            url = await stack.enter_async_context(run_stand_in())
        yield stack.enter_context(contextlib.closing(PriceApi(url)))


@app.on_connect
async def name(request: ConnectRequest) -> User | None:
    """Take the login for a name, or nobody's; answers go to all sessions of a name."""
    return User(request.login) if request.login else None


# A plain `def` runs in a thread of its pool, where it may block; the timeout counts from having the thread.
@app.on_message("/app/quote", send_to_user="/queue/quotes", pool=external_api, timeout=5)
def quote(request: QuoteRequest, api: PriceApi) -> Quote:
    """Answer with what the API says."""
    return api.quote(request.sku)


@app.exception_handler(UnknownSku)
async def unknown(error: UnknownSku) -> Problem:
    """The client's mistake: it may know."""
    return Problem("unknown_sku", str(error))


@app.exception_handler(PriceError)
async def unavailable(error: PriceError) -> Problem:
    """Not the client's mistake: the reason is for the log."""
    logger.warning("no price: %s", error)
    return Problem("price_unavailable", "no price at the moment, try again later")


@contextlib.asynccontextmanager
async def run_stand_in() -> AsyncIterator[str]:
    """Run api.py on a free port for as long as the context lasts; gives its URL."""
    command = [sys.executable, str(Path(__file__).with_name("api.py")), "--port", "0"]
    # It ends when its standard input does: whichever way this process ends, the kernel closes the pipe.
    # A session of its own keeps Ctrl-C from it, so that the server can still call it while it drains.
    run = partial(
        trio.run_process,
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    async with trio.open_nursery() as nursery:
        process = await nursery.start(run)
        first_line = await process.stdout.receive_some()  # "listening on http://127.0.0.1:40000\n"
        if not first_line:
            await trio.sleep_forever()  # it has failed, and run_process is about to say so
        url = first_line.decode().split()[-1]
        logger.info("EXTERNAL_API_URL is not set: api.py stands in for the API, at %s", url)
        yield url
        nursery.cancel_scope.cancel()  # sends it SIGTERM, then waits for its end
