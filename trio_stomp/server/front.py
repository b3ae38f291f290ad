"""The front door of one connection: its HTTP head, then an answer or a WebSocket session.

Rule 1: whatever a connection does, it ends with the connection: unexpected exceptions are
logged once, counted, and contained (DESIGN rule 6).
Rule 2: HTTP is answered in every state; only upgrades are refused while draining.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import attrs
import trio

from trio_stomp.server.admission import Admission
from trio_stomp.server.core import Core
from trio_stomp.server.lifecycle import Lifecycle, State
from trio_stomp.server.session import Origin, SessionTask
from trio_stomp.server.statistics import page
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
)
from trio_stomp.transport.stream import WireStream
from trio_stomp.transport.websocket import accept_websocket

logger = logging.getLogger("trio_stomp.server")

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@attrs.frozen
class Upgrade:
    """A WebSocket handshake that has been checked."""

    head: bytes
    rest: bytes
    origin: Origin


class FrontDoor:
    """Serves connections, each until it ends."""

    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core = core
        self._lifecycle = lifecycle
        self._admission = Admission(core.config.accept, core.metrics)

    async def serve(self, stream: trio.abc.Stream, remote: str) -> None:
        """Serve one connection until it ends; raises nothing but Cancelled.

        Cancelling closes it at once.
        """
        core = self._core
        is_in = False
        core.metrics.connections_opened += 1
        wire = WireStream(stream, write_timeout=core.config.outbox.write_timeout, metrics=core.metrics)
        self._lifecycle.arrive()
        is_arriving = True
        try:
            upgrade = await self._receive(wire, remote)
            if upgrade is not None:
                is_in = True
                async with trio.open_nursery() as nursery:
                    transport = await accept_websocket(
                        nursery,
                        wire,
                        head=upgrade.head,
                        rest=upgrade.rest,
                        subprotocol=upgrade.origin.subprotocol,
                        config=core.config.websocket,
                    )
                    transport.limit_messages(core.message_bytes_before)
                    session = SessionTask(core, transport, upgrade.origin, nursery)
                    del upgrade, transport  # not kept for as long as the session lasts
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
            if is_in:
                self._admission.leave(remote)
            core.metrics.connections_closed += 1
            with trio.CancelScope(shield=True):
                await wire.abort()

    async def _receive(self, wire: WireStream, remote: str) -> Upgrade | None:
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
            if not self._lifecycle.is_open:
                raise self._admission.refusal(f"the server is {self._lifecycle.state.value}")
            self._admission.enter(remote)
        except HttpError as error:
            core.metrics.handshakes_refused[str(error.status)] += 1
            await self._answer(wire, error.status, error.response())
            return None
        origin = Origin(head.path, head.query, head.as_dict(), remote, choose_subprotocol(head))
        return Upgrade(head.raw, head.rest, origin)

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
