"""What all sessions of one server share."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence

import attrs
import trio

from trio_stomp.app.application import StompApp
from trio_stomp.app.compiled import CompiledApp
from trio_stomp.app.session import ConnectRequest
from trio_stomp.app.settle import DEFAULT_POOL
from trio_stomp.broker.commands import Encoding, Publish, PublishToUser
from trio_stomp.broker.simple import SimpleBroker
from trio_stomp.channels.pools import Pool, PoolDeclaration, default_threads
from trio_stomp.config import ServerConfig, differences
from trio_stomp.errors import ConfigError
from trio_stomp.messages.message import User
from trio_stomp.metrics import Metrics
from trio_stomp.server.dispatch import Dispatcher
from trio_stomp.server.heartbeat import HeartBeats
from trio_stomp.server.statistics import LoopLag, ServerStatistics, living_tasks, process_statistics
from trio_stomp.stomp.frames import Limits, Version
from trio_stomp.stomp.protocol import HeartBeat
from trio_stomp.transport.readiness import Readiness
from trio_stomp.version import __version__

logger = logging.getLogger("trio_stomp.server")


class Core:
    """One server's broker, pools, numbers and limits; `Core` starts no task.

    Args:
        app: None for a plain broker.
    """

    def __init__(self, app: StompApp | None, config: ServerConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.app: CompiledApp | None = None
        if app is not None:
            self.app = app.compile(broker_prefixes=config.broker.prefixes, separator=config.stomp.separator)
        self.broker = SimpleBroker(config.broker, self.metrics, separator=config.stomp.separator)
        self.heart_beats = HeartBeats()
        self.readiness = Readiness()
        self.loop_lag = LoopLag()
        self.pools: Mapping[str, Pool] = {
            name: Pool(declaration, metrics=self.metrics)
            for name, declaration in self.declarations(config).items()
        }
        self.server_name = f"trio-stomp/{__version__}"
        stomp = config.stomp
        self.limits = Limits(
            header_line=stomp.header_line,
            headers=stomp.headers,
            head=max(stomp.head, stomp.header_line),
            body=stomp.body,
        )
        self.limits_before = attrs.evolve(self.limits, body=stomp.body_before_connected)
        self.message_bytes_before = min(
            stomp.body_before_connected + self.limits.head, config.websocket.message
        )
        """Bytes of a WebSocket message in pieces before CONNECTED: about one frame."""
        self.heart_beat = HeartBeat(stomp.heart_beat_send, stomp.heart_beat_receive)
        self.dispatcher = Dispatcher(self.app, self.broker, self.pools, self.metrics, config)
        self._encodings: dict[tuple[Version, Callable[[int, bool], bytes]], Encoding] = {}

    def encoding(self, version: Version, frame_head: Callable[[int, bool], bytes]) -> Encoding:
        """The one encoding of a STOMP version over a transport; at most six are ever made."""
        key = (version, frame_head)
        found = self._encodings.get(key)
        if found is None:
            found = self._encodings[key] = Encoding(version, frame_head)
        return found

    def statistics(self, state: str, sessions: int) -> ServerStatistics:
        """Return a snapshot; the lifecycle's part of it is given."""
        metrics, inbox = self.metrics, self.broker.inbox
        metrics.subscriptions = self.broker.subscription_count
        metrics.messages_queued = self.broker.queued_count
        metrics.messages_unacked = self.broker.unacked_count
        metrics.broker_inbox = len(inbox)
        metrics.broker_inbox_full = metrics.limit_hits["broker.inbox"] = inbox.full_waits
        return ServerStatistics(
            state=state,
            sessions=sessions,
            metrics=metrics.statistics(),
            pools={name: pool.statistics() for name, pool in self.pools.items()},
            loop_lag=self.loop_lag.histogram.statistics(),
            process=process_statistics(),
            tasks=living_tasks(),
        )

    def reconfigure(self, config: ServerConfig) -> Sequence[str]:
        """Give the pools the sizes of another configuration; return what in it takes a restart.

        Raises:
            ConfigError: a pool that the app does not have, or an impossible size; nothing has changed.
        """
        for name, declaration in self.declarations(config).items():
            before = self.pools[name].declaration
            if declaration != before:
                self.pools[name].configure(declaration)
                for setting, value in attrs.asdict(declaration).items():
                    if value != (old := getattr(before, setting)):
                        logger.info("pools.%s.%s: %s instead of %s", name, setting, value, old)
        self.config = attrs.evolve(self.config, pools=config.pools)
        return differences(self.config, config)

    async def authenticate(self, request: ConnectRequest) -> User | None:
        """Ask the app who this is; None without an app, or when it does not say.

        Raises:
            ConnectRefused: the app refuses.
        """
        return None if self.app is None else await self.app.connect(request)

    def declarations(self, config: ServerConfig) -> dict[str, PoolDeclaration]:
        """Return the app's pools as a configuration wants them.

        Raises:
            ConfigError: it names a pool that the app does not have, or gives one an impossible size.
        """
        default = PoolDeclaration(DEFAULT_POOL, threads=default_threads())
        declared = {DEFAULT_POOL: default} | dict({} if self.app is None else self.app.pools)
        for name in config.pools:
            if name not in declared:
                nearest = difflib.get_close_matches(name, declared, n=1, cutoff=0.0)[0]
                whose = "a plain broker" if self.app is None else "the app"
                raise ConfigError(f"pools.{name}: {whose} has no such pool; the nearest is {nearest!r}")
        return {
            name: declaration.with_config(config.pools[name]) if name in config.pools else declaration
            for name, declaration in declared.items()
        }


class Publisher:
    """What an app publishes through while it is served."""

    def __init__(self, core: Core) -> None:
        self._broker = core.broker
        self.prefixes = core.config.broker.prefixes
        self.pools = core.pools

    async def publish(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Hand one message to the broker, waiting while its inbox is full; cancelling is safe."""
        await trio.lowlevel.checkpoint()
        await self._broker.room()
        self._broker.put(Publish(destination, body, headers))

    async def publish_to_user(
        self, name: str, destination: str, body: bytes, headers: Mapping[str, str], session_id: str | None
    ) -> None:
        """As `publish`, to one user's sessions or one of them; ``destination`` without ``/user``."""
        await trio.lowlevel.checkpoint()
        await self._broker.room()
        self._broker.put(PublishToUser(name, destination, body, headers, session_id))
