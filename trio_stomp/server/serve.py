"""`serve`: the nurseries that are a server's life cycle, from the listening sockets to the app's lifespan."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import trio

from trio_stomp.app.application import StompApp
from trio_stomp.channels.pools import Pool
from trio_stomp.config import ServerConfig
from trio_stomp.server.core import Core, Publisher
from trio_stomp.server.front import FrontDoor
from trio_stomp.server.lifecycle import Lifecycle, State
from trio_stomp.server.listeners import (
    Listener,
    PatientListener,
    accepted_all,
    close_at_once,
    host_of,
    open_listeners,
    open_tcp_listeners,
    tcp_url_of,
    url_of,
)
from trio_stomp.server.remote import peer_of
from trio_stomp.server.statistics import ServerStatistics, report

logger = logging.getLogger("trio_stomp.server")


class Server:
    """A running server, as `serve` and `open_server` give it."""

    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core = core
        self._lifecycle = lifecycle
        self._front = FrontDoor(core, lifecycle)
        self.listeners: Sequence[Listener] = ()
        """What it listens on; empty for a server without sockets."""
        self.tcp_listeners: Sequence[Listener] = ()
        """What it listens on for STOMP over TCP."""
        self._url: str | None = None
        self._tcp_url: str | None = None

    @property
    def config(self) -> ServerConfig:
        """What it goes by."""
        return self._core.config

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._lifecycle.state

    @property
    def was_cut(self) -> bool:
        """Whether its drain had to cut sessions off that did not end in time."""
        return self._lifecycle.was_cut

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools for blocking calls, by name."""
        return self._core.pools

    @property
    def url(self) -> str:
        """The WebSocket endpoint on the first listener, as ``ws://127.0.0.1:8080/ws``.

        Raises:
            RuntimeError: it has no listener.
        """
        if self._url is None:
            raise RuntimeError("this server does not listen on a socket")
        return self._url

    @property
    def tcp_url(self) -> str | None:
        """Where it speaks STOMP over TCP, as ``stomp://127.0.0.1:61613`` (TLS: ``stomp+ssl://``); or None."""
        return self._tcp_url

    def statistics(self) -> ServerStatistics:
        """A snapshot that later traffic does not change."""
        return self._core.statistics(self.state.value, len(self._lifecycle))

    def reconfigure(self, config: ServerConfig) -> Sequence[str]:
        """Take over what can change while serving: the pools' settings. Nothing running is disturbed.

        Returns the names of settings that differ and take a restart. Pools that the old and the new
        configuration set alike stay as they are, sizes set by hand or by adaptive mode too.

        Raises:
            ConfigError: it cannot be used for this app; then nothing has changed.
        """
        return self._core.reconfigure(config)

    def accept_from(self, listeners: Sequence[Listener], nursery: trio.Nursery, *, is_shared: bool) -> None:
        """Serve whoever connects, in tasks of ``nursery``, until it is cancelled.

        Args:
            is_shared: others listen on the same sockets: they are closed when a drain's delay is over, and
                what waits in them is accepted before. Otherwise HTTP is answered to the end.
        """
        self.listeners = listeners
        self._url = url_of(listeners[0], self.config.path)
        self._accept_from(listeners, self._front.serve, nursery, is_shared=is_shared)

    def accept_tcp_from(
        self, listeners: Sequence[Listener], nursery: trio.Nursery, *, is_shared: bool
    ) -> None:
        """As `accept_from`, for STOMP over TCP."""
        self.tcp_listeners = listeners
        self._tcp_url = tcp_url_of(listeners[0])
        self._accept_from(listeners, self._front.serve_tcp, nursery, is_shared=is_shared)

    def _accept_from(
        self,
        listeners: Sequence[Listener],
        serve_one: Callable[[trio.abc.Stream, str], Awaitable[None]],
        nursery: trio.Nursery,
        *,
        is_shared: bool,
    ) -> None:
        accepting = trio.CancelScope()

        def serve_accepted(stream: trio.abc.Stream) -> Awaitable[None]:
            return serve_one(stream, peer_of(stream))

        async def accept() -> None:
            arrive, metrics = self._lifecycle.arrive, self._core.metrics
            patient = [PatientListener(listener, metrics, arrive) for listener in listeners]
            with accepting:
                await trio.serve_listeners(serve_accepted, patient, handler_nursery=nursery)

        async def hand_over() -> None:
            await accepted_all(listeners)
            # Nothing may be awaited from here on: who connects now would be lost with the socket.
            accepting.cancel()
            close_at_once(listeners)

        nursery.start_soon(accept)
        if is_shared:
            self._lifecycle.before_closing.append(hand_over)

    async def serve_stream(self, stream: trio.abc.Stream, remote: str = "") -> None:
        """Serve one connection until it ends, over any stream; raises nothing but Cancelled.

        ``remote`` is what logs and handlers see as the peer's address; by default the socket's.
        """
        self._lifecycle.arrive()
        await self._front.serve(stream, remote or peer_of(stream))

    async def serve_tcp_stream(self, stream: trio.abc.Stream, remote: str = "") -> None:
        """As `serve_stream`, for one that speaks STOMP from its first byte, without HTTP and WebSocket."""
        self._lifecycle.arrive()
        await self._front.serve_tcp(stream, remote or peer_of(stream))

    async def drain(
        self, *, delay: float | None = None, window: float | None = None, deadline: float | None = None
    ) -> bool:
        """End gracefully: no new sessions; each sees through what it has read, and closes at its turn.

        ``/readyz`` says 503 from now on; after ``delay`` seconds new sessions are refused, and those that
        live are closed (1012) evenly over ``window`` seconds; what is left ``deadline`` seconds from now is
        cut. The three are those of the configuration (``[drain]``) unless given here.

        Returns whether all had ended by themselves; `serve` returns after it. Calling it again waits for the
        same end. Cancelling leaves the server draining.
        """
        return await self._lifecycle.drain(delay=delay, window=window, deadline=deadline)

    async def wait_stopped(self) -> None:
        """Return once a drain has come to its end."""
        await self._lifecycle.wait_stopped()


@contextlib.asynccontextmanager
async def open_server(app: StompApp | None, config: ServerConfig | None = None) -> AsyncIterator[Server]:
    """Run lifespan, broker and heart-beats for as long as the context lasts; no sockets.

    Give it connections with `Server.serve_stream`. On leaving it drains, without delay and all sessions at
    once. ``app`` None is a plain broker.

    Raises:
        HandlerSignatureError: the app's handlers do not hold together.
    """
    core = Core(app, config or ServerConfig())
    lifecycle = Lifecycle(core.config.drain, core.metrics)
    async with contextlib.AsyncExitStack() as stack:
        if app is not None and core.app is not None:
            app.bind(Publisher(core))
            stack.callback(app.unbind)
            core.app.bind_resources(await stack.enter_async_context(core.app.lifespan_scope()))
        async with trio.open_nursery() as nursery:
            server = Server(core, lifecycle)
            nursery.start_soon(core.heart_beats.run)
            await nursery.start(core.readiness.run)  # before there is a connection to look after
            nursery.start_soon(core.broker.run)
            nursery.start_soon(lifecycle.drain_when_requested)
            telling = core.config.statistics
            if telling.lag_interval:
                nursery.start_soon(core.loop_lag.run, telling.lag_interval)
            if telling.log_interval:
                nursery.start_soon(report, telling, server.statistics)
            lifecycle.move_to(State.READY)
            try:
                yield server
                await lifecycle.drain(delay=0, window=0)
            finally:
                lifecycle.move_to(State.STOPPED)
                core.broker.inbox.close()
                nursery.cancel_scope.cancel()


async def serve(
    app: StompApp | None = None,
    config: ServerConfig | None = None,
    *,
    listeners: Sequence[Listener] | None = None,
    tcp_listeners: Sequence[Listener] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an app (None: a plain broker) until it is cancelled or drained.

    ``server = await nursery.start(serve, app, config)`` gives the `Server` once it listens.
    Without ``listeners`` it opens ``config.host`` and ``config.port``, or takes ``config.fd``, with TLS when
    given an ``ssl_context`` or when the configuration names a certificate. The same goes for
    ``tcp_listeners``, which speak STOMP over TCP, with ``config.tcp_port`` and ``config.tcp_fd``; without
    these there are none. Cancelling closes every connection at once; `Server.drain` is the graceful way.

    Raises:
        HandlerSignatureError: the app's handlers do not hold together.
        ConfigError: the certificate cannot be used.
        OSError: the address cannot be listened on.
    """
    config = config or ServerConfig()
    async with contextlib.AsyncExitStack() as stack:
        if listeners is None:  # before anything is opened for an address that cannot be had
            listeners = await open_listeners(config, ssl_context)
        for listener in listeners:
            stack.push_async_callback(listener.aclose)
        if tcp_listeners is None:
            tcp_listeners = await open_tcp_listeners(config, ssl_context)
        for listener in tcp_listeners:
            stack.push_async_callback(listener.aclose)
        server = await stack.enter_async_context(open_server(app, config))
        _warn_if_open_to_all(app, [*listeners, *tcp_listeners])
        async with trio.open_nursery() as nursery:
            server.accept_from(listeners, nursery, is_shared=config.fd is not None or config.reuse_port)
            if tcp_listeners:
                is_shared = config.tcp_fd is not None or config.reuse_port
                server.accept_tcp_from(tcp_listeners, nursery, is_shared=is_shared)
            task_status.started(server)
            await server.wait_stopped()
            nursery.cancel_scope.cancel()


def _warn_if_open_to_all(app: StompApp | None, listeners: Sequence[Listener]) -> None:
    for listener in listeners:
        host, is_loopback = host_of(listener)
        if not is_loopback and (app is None or not app.authenticates):
            logger.warning("listening on %s without on_connect: whoever reaches it may connect", host)
