"""What all sessions of one server share."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from trio_stomp.app.application import StompApp
from trio_stomp.app.compiled import CompiledApp
from trio_stomp.app.session import ConnectRequest
from trio_stomp.app.settle import DEFAULT_POOL
from trio_stomp.broker.commands import Encoding, Publish, PublishToUser
from trio_stomp.broker.simple import SimpleBroker
from trio_stomp.channels.pools import Pool, PoolDeclaration, default_threads
from trio_stomp.config import PoolConfig, ServerConfig
from trio_stomp.messages.message import User
from trio_stomp.metrics import Metrics
from trio_stomp.server.dispatch import Dispatcher
from trio_stomp.server.heartbeat import HeartBeats
from trio_stomp.stomp.frames import Limits, Version
from trio_stomp.stomp.protocol import HeartBeat
from trio_stomp.version import __version__


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
        self.pools = self._make_pools()
        self.server_name = f"trio-stomp/{__version__}"
        stomp = config.stomp
        self.limits = Limits(header_line=stomp.header_line, headers=stomp.headers, body=stomp.body)
        self.limits_before = Limits(
            header_line=stomp.header_line, headers=stomp.headers, body=stomp.body_before_connected
        )
        self.message_bytes_before = stomp.body_before_connected + stomp.header_line
        """Bytes of a WebSocket message in pieces before CONNECTED: about one frame."""
        self.heart_beat = HeartBeat(stomp.heart_beat_send, stomp.heart_beat_receive)
        self.dispatcher = Dispatcher(
            self.app, self.broker, self.pools, self.metrics, config.broker.prefixes, stomp.separator
        )
        self._encodings: dict[tuple[Version, Callable[[int, bool], bytes]], Encoding] = {}

    def encoding(self, version: Version, frame_head: Callable[[int, bool], bytes]) -> Encoding:
        """The one encoding of a STOMP version over a transport; at most six are ever made."""
        key = (version, frame_head)
        found = self._encodings.get(key)
        if found is None:
            found = self._encodings[key] = Encoding(version, frame_head)
        return found

    def measure(self) -> None:
        """Bring the gauges that nobody keeps up to date."""
        self.metrics.subscriptions = self.broker.subscription_count
        self.metrics.broker_inbox = len(self.broker.inbox)
        self.metrics.broker_inbox_full = self.broker.inbox.full_waits
        self.metrics.limit_hits["broker.inbox"] = self.broker.inbox.full_waits

    async def authenticate(self, request: ConnectRequest) -> User | None:
        """Ask the app who this is; None without an app, or when it does not say.

        Raises:
            ConnectRefused: the app refuses.
        """
        return None if self.app is None else await self.app.connect(request)

    def _make_pools(self) -> Mapping[str, Pool]:
        """The app's pools, sized as the configuration says where it says something."""
        declared = {} if self.app is None else self.app.pools
        sizes: dict[str, PoolDeclaration | PoolConfig] = {DEFAULT_POOL: PoolConfig(threads=default_threads())}
        sizes |= declared
        sizes |= self.config.pools
        return {
            name: Pool(
                name,
                threads=size.threads,
                queue=size.queue,
                queue_timeout=size.queue_timeout,
                metrics=self.metrics,
            )
            for name, size in sizes.items()
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
