"""The front door of one connection: who it is, its HTTP head, then an answer or a session.

Rule 1: whatever a connection does, it ends with the connection: unexpected exceptions are
logged once, counted, and contained (DESIGN rule 6).
Rule 2: HTTP is answered in every state; only upgrades are refused while draining, and over
TCP, where there is no HTTP, everybody is, with an ERROR.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import attrs
import trio

from trio_stomp.server.admission import Admission
from trio_stomp.server.core import Core
from trio_stomp.server.lifecycle import Lifecycle, State
from trio_stomp.server.remote import Trust, read_proxy_header
from trio_stomp.server.session import Origin, SessionTask
from trio_stomp.server.statistics import page
from trio_stomp.stomp.frames import Frame, Version, encode
from trio_stomp.transport.http import (
    HttpError,
    RequestHead,
    check_origin,
    check_upgrade,
    choose_subprotocol,
    content_type_of,
    read_head,
    resolve_static,
    response,
    upgrade_response,
)
from trio_stomp.transport.interface import Transport
from trio_stomp.transport.proxy import ProxyHeaderError
from trio_stomp.transport.stream import WireStream
from trio_stomp.transport.tcp import open_tcp
from trio_stomp.transport.websocket import accept_websocket

logger = logging.getLogger("trio_stomp.server")

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@attrs.frozen
class _Opening:
    """One who is let in: where from, and what makes the connection of it."""

    origin: Origin
    open: Callable[[trio.Nursery], Awaitable[Transport]]


_Door = Callable[[trio.abc.Stream, WireStream, str], Awaitable[_Opening | None]]
"""Judges a connection with its peer's address; None once something else was answered."""


class FrontDoor:
    """Serves connections, each until it ends."""

    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core = core
        self._lifecycle = lifecycle
        self._admission = Admission(core.config.accept, core.metrics)
        self._trust = Trust(core.config.proxy)

    def serve(self, stream: trio.abc.Stream, remote: str) -> Awaitable[None]:
        """Serve one connection that speaks HTTP until it ends; raises nothing but Cancelled.

        Who calls has counted its arrival (`Lifecycle.arrive`). Cancelling closes it at once. (Not itself a
        coroutine: each that waits costs 230 bytes.)
        """
        return self._serve(stream, remote, self._by_http)

    def serve_tcp(self, stream: trio.abc.Stream, remote: str) -> Awaitable[None]:
        """As `serve`, for one that speaks STOMP from its first byte."""
        return self._serve(stream, remote, self._by_tcp)

    async def _serve(self, stream: trio.abc.Stream, remote: str, door: _Door) -> None:
        core = self._core
        admitted: str | None = None
        core.metrics.connections_opened += 1
        timeout = core.config.outbox.write_timeout
        wire = WireStream(stream, write_timeout=timeout, metrics=core.metrics, readiness=core.readiness)
        is_arriving = True
        try:
            found = await self._find_remote(stream, remote)
            if found is None:
                return
            remote = found
            opening = await door(stream, wire, remote)
            if opening is not None:
                remote = admitted = opening.origin.remote
                async with trio.open_nursery() as nursery:
                    transport = await opening.open(nursery)
                    transport.limit_messages(core.message_bytes_before)
                    session = SessionTask(core, transport, opening.origin, nursery)
                    del opening, transport  # not kept for as long as the session lasts
                    self._lifecycle.add(session)
                    self._lifecycle.arrived()
                    is_arriving = False
                    try:
                        await session.run()
                    finally:
                        self._lifecycle.remove(session)
                        nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer is gone, at whatever point that was
        except* Exception:
            core.metrics.internal_errors += 1
            logger.exception("connection from %s: unexpected exception", remote)
        finally:
            if is_arriving:
                self._lifecycle.arrived()
            if admitted is not None:
                self._admission.leave(admitted)
            core.metrics.connections_closed += 1
            with trio.CancelScope(shield=True):
                await wire.abort()

    async def _find_remote(self, stream: trio.abc.Stream, remote: str) -> str | None:
        """The peer's address, by its PROXY header where one is due; None: it is not to be served."""
        core = self._core
        if not core.config.proxy.protocol:
            return remote
        timeout = core.config.http.head_timeout
        if not self._trust.covers(remote):
            reason, text = "untrusted", "no trusted proxy"
        else:
            below = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
            reason, text = "late", f"no PROXY header within {timeout:g} seconds"
            with trio.move_on_after(timeout) as reading:
                try:
                    header = await read_proxy_header(below, limit_bytes=core.config.proxy.header_bytes)
                    return None if header is None else header.source or remote
                except ProxyHeaderError as error:
                    reason, text = "malformed", str(error)
                    if error.limit is not None:
                        core.metrics.limit(error.limit)
            if reading.cancelled_caught:
                core.metrics.limit("http.head_timeout")
        core.metrics.proxy_refused[reason] += 1
        logger.info("connection from %s closed: %s", remote, text)
        return None

    async def _by_tcp(self, stream: trio.abc.Stream, wire: WireStream, remote: str) -> _Opening | None:
        """Shake hands where there is TLS; one who may go ahead, or None once an ERROR was sent."""
        core, timeout = self._core, self._core.config.http.head_timeout
        if isinstance(stream, trio.SSLStream):
            with trio.move_on_after(timeout) as shaking:
                await stream.do_handshake()
            if shaking.cancelled_caught:
                core.metrics.limit("http.head_timeout")
                return None
        try:
            self._let_in(remote)
        except HttpError as refusal:
            core.metrics.tcp_refused += 1
            headers = {name.lower(): value for name, value in refusal.headers}
            error = Frame("ERROR", {"message": refusal.reason, **headers})
            await wire.send_all(encode(error, Version.V1_0))
            await wire.aclose_gently(core.config.websocket.close_timeout)
            return None
        origin = Origin("", "", {}, remote, None)
        return _Opening(origin, partial(open_tcp, wire=wire, config=core.config.websocket))

    def _let_in(self, remote: str) -> None:
        """Count one in, until `Admission.leave`.

        Raises:
            HttpError: 503: the server is full, or not open.
        """
        if not self._lifecycle.is_open:
            raise self._admission.refusal(f"the server is {self._lifecycle.state.value}")
        self._admission.enter(remote)

    async def _by_http(self, stream: trio.abc.Stream, wire: WireStream, remote: str) -> _Opening | None:
        """Read the head; an upgrade that may go ahead, or None once something else was answered."""
        core, http = self._core, self._core.config.http
        head: RequestHead | None = None
        with trio.move_on_after(http.head_timeout) as reading:
            try:
                head = await read_head(wire, limit_bytes=http.head_bytes, limit_headers=http.headers)
            except HttpError as error:
                if error.status == 431:
                    core.metrics.limit("http.head_bytes")
                await self._answer(wire, error.status, error.response())
                return None
        if reading.cancelled_caught:
            core.metrics.limit("http.head_timeout")
            text = f"no request within {http.head_timeout:g} seconds\n"
            await self._answer(wire, 408, response(408, text))
        if head is None:
            return None
        if head.path == "/drain" and core.config.admin_token is not None:
            await self._answer(wire, *self._drain(head, core.config.admin_token))
            return None
        if head.path != core.config.path:
            await self._answer(wire, *await self._page(head))
            return None
        try:
            check_upgrade(head)
            check_origin(head, core.config.origins)
            remote = self._trust.forwarded(remote, head.values("x-forwarded-for"))
            self._let_in(remote)
        except HttpError as error:
            core.metrics.handshakes_refused[str(error.status)] += 1
            await self._answer(wire, error.status, error.response())
            return None
        origin = Origin(head.path, head.query, head.as_dict(), remote, choose_subprotocol(head))
        return _Opening(
            origin,
            partial(
                accept_websocket,
                wire=wire,
                answer=upgrade_response(head, origin.subprotocol),
                rest=head.rest,
                config=core.config.websocket,
            ),
        )

    def _drain(self, head: RequestHead, token: str) -> tuple[int, bytes]:
        """What ``/drain`` answers: how far it is; POST starts it."""
        given = (head.header("authorization") or "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            text = "expected 'Authorization: Bearer' with the admin_token\n"
            return 401, response(401, text, headers=[("WWW-Authenticate", "Bearer")])
        if head.method not in ("GET", "POST"):
            text = f"method {head.method[:20]}, expected POST or GET\n"
            return 405, response(405, text, headers=[("Allow", "GET, POST")])
        status = 200
        if head.method == "POST":
            self._lifecycle.drain_requested.set()
            status = 202
        state = {"state": self._lifecycle.state.value, "sessions": len(self._lifecycle)}
        return status, response(status, json.dumps(state) + "\n", content_type="application/json")

    async def _answer(self, wire: WireStream, status: int, answer: bytes) -> None:
        self._core.metrics.http_requests[str(status)] += 1
        await wire.send_all(answer)
        await wire.aclose_gently(self._core.config.websocket.close_timeout)

    async def _page(self, head: RequestHead) -> tuple[int, bytes]:
        """What a plain HTTP request gets: status and whole answer."""
        is_head = head.method == "HEAD"
        if head.method not in ("GET", "HEAD"):
            text = f"method {head.method[:20]}, expected GET\n"
            return 405, response(405, text, headers=[("Allow", "GET, HEAD")])
        match head.path:
            case "/healthz":
                return 200, response(200, "ok\n", is_head=is_head)
            case "/readyz":
                state = self._lifecycle.state
                status = 200 if state is State.READY else 503
                return status, response(status, f"{state.value}\n", is_head=is_head)
            case "/metrics":
                text = page(self._core.statistics(self._lifecycle.state.value, len(self._lifecycle)))
                return 200, response(200, text, content_type=_METRICS_TYPE, is_head=is_head)
        static = self._core.config.static
        found = await trio.to_thread.run_sync(_read_static, static, head.path) if static else None
        if found is None:
            return 404, response(404, "nothing here\n", is_head=is_head)
        path, content = found
        return 200, response(200, content, content_type=content_type_of(path), is_head=is_head)


def _read_static(static: Mapping[str, str], path: str) -> tuple[Path, bytes] | None:
    found = resolve_static(static, path)
    try:
        return None if found is None else (found, found.read_bytes())
    except OSError as error:
        logger.warning("cannot read %s: %s", found, error)
        return None
