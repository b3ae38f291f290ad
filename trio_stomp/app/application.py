"""The app: what a user declares, and what its handlers publish through while it is served.

Rule: an app is served by one server at a time; between servers it is only declarations.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol, TypeVar

import cattrs
import trio

from trio_stomp.app.compiled import CompiledApp
from trio_stomp.app.handlers import Offer, name_of
from trio_stomp.app.lifespan import check_lifespan
from trio_stomp.app.router import F, Routes
from trio_stomp.app.routes import DEFAULT_POOL
from trio_stomp.app.settle import Settlement, is_under
from trio_stomp.channels.pools import Pool, PoolDeclaration, default_threads
from trio_stomp.config import POOL_MAX_THREADS, POOL_MIN_THREADS, POOL_QUEUE, POOL_QUEUE_TIMEOUT
from trio_stomp.errors import DestinationError, HandlerSignatureError, TrioStompError
from trio_stomp.messages.conversion import Converter

T = TypeVar("T")


class Publisher(Protocol):
    """What an app publishes through: the server's, or a test's own."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What belongs to the broker, as ``("/topic", "/queue")``."""

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools with their threads, by name."""

    async def publish(self, destination: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Hand one message to the broker, waiting while its inbox is full."""

    async def publish_to_user(
        self, name: str, destination: str, body: bytes, headers: Mapping[str, str], session_id: str | None
    ) -> None:
        """Hand one message for a user's sessions, or one of them, to the broker."""


class StompApp(Routes):
    """Handlers, pools and rules of one application; the outermost router, with no prefix.

    Args:
        title: what it is called, for `check` and logs.
        converter: your own cattrs converter for payloads, used as it is.
        fast_json: read and write JSON with msgspec and orjson where these are installed (the extra
            ``fast``); the values are the same.
    """

    def __init__(
        self,
        *,
        title: str | None = None,
        converter: cattrs.Converter | None = None,
        fast_json: bool = True,
    ) -> None:
        super().__init__()
        self.title = title
        self.converter = Converter(converter, fast_json=fast_json)
        self._lifespan: list[Callable[[], Any]] = []
        self._on_connect: Callable[..., Any] | None = None
        self._allow_send: list[str] = []
        self._allow_subscribe: list[str] = []
        self._pools = {DEFAULT_POOL: PoolDeclaration(DEFAULT_POOL, threads=default_threads())}
        self._publisher: Publisher | None = None
        self._trio_token: trio.lowlevel.TrioToken | None = None

    @property
    def authenticates(self) -> bool:
        """Whether it has an `on_connect`."""
        return self._on_connect is not None

    def pool(
        self,
        name: str,
        *,
        threads: int,
        queue: int = POOL_QUEUE,
        queue_timeout: float = POOL_QUEUE_TIMEOUT,
        mode: Literal["fixed", "observe", "adaptive"] = "fixed",
        min_threads: int = POOL_MIN_THREADS,
        max_threads: int = POOL_MAX_THREADS,
    ) -> PoolDeclaration:
        """Declare a bounded pool of threads, for ``pool=`` of handlers and of `run_blocking`.

        ``client_inbound`` is there by default, with 2 threads for each CPU; declare it to change that.
        The configuration may set other sizes.

        Args:
            threads: calls that run at once; in adaptive mode those at the start. 0: paused, all wait.
            queue: calls that wait; one more is refused. Default 1,000.
            queue_timeout: seconds that a call waits before it is refused. Default 30.
            mode: "fixed": ``threads`` it is. "observe": so too, and the log and the statistics say which
                size would be right. "adaptive": it takes that size.
            min_threads, max_threads: what adaptive mode stays within. Default 1 and 256.

        Raises:
            ValueError: a size is out of range, or the name is taken.
        """
        if name in self._pools and name != DEFAULT_POOL:
            raise ValueError(f"pool {name!r} is declared already")
        declared = self._pools[name] = PoolDeclaration(
            name,
            threads=threads,
            queue=queue,
            queue_timeout=queue_timeout,
            mode=mode,
            min_threads=min_threads,
            max_threads=max_threads,
        )
        return declared

    def lifespan(self, function: F) -> F:
        """Open something for as long as the app is served: an async generator function with one ``yield``.

        Handlers ask by type for what it yields, which its annotation says: ``-> AsyncIterator[Api]``.
        Several are entered in order of declaration and left in reverse.

        Raises:
            HandlerSignatureError: it is no async generator function, or takes parameters.
        """
        check_lifespan(function)
        self._lifespan.append(function)
        return function

    def on_connect(self, function: F) -> F:
        """Judge each CONNECT before anything else: return the User (None: nobody) or raise ConnectRefused.

        Raises:
            HandlerSignatureError: the function cannot be used, or there is one already.
        """
        _check_connect(function)
        if self._on_connect is not None:
            raise HandlerSignatureError(
                f"{name_of(function)}: an app has one on_connect, and {name_of(self._on_connect)} is it"
            )
        self._on_connect = function
        return function

    def allow_send(self, *patterns: str) -> None:
        """Let clients SEND straight to what matches in the broker (``*`` one segment, ``**`` the rest)."""
        self._allow_send += patterns

    def allow_subscribe(self, *patterns: str) -> None:
        """Let clients SUBSCRIBE to what matches, wildcards within it included, and to nothing else.

        Without any rule, exact destinations are open and wildcards are not. ``/user/queue/…`` is always open.
        """
        self._allow_subscribe += patterns

    def compile(
        self, *, broker_prefixes: tuple[str, ...] = ("/topic", "/queue"), separator: str = "/"
    ) -> CompiledApp:
        """Settle everything that decoration left open; for the server, `check` and tests.

        Args:
            broker_prefixes: as `BrokerConfig.prefixes`.
            separator: of the patterns in rules, as `StompConfig.separator`.

        Raises:
            HandlerSignatureError: it lists all that is wrong.
        """
        settlement = Settlement(tuple(self._pools), broker_prefixes, separator)
        lifespan = settlement.lifespan(self._lifespan)
        resources: dict[Any, object] = {}
        offer = Offer(
            converter=self.converter,
            resource_types=frozenset(part.kind for part in lifespan if part.kind is not None),
            resources=resources,
        )
        compiled = CompiledApp(
            title=self.title,
            converter=self.converter,
            pools=dict(self._pools),
            connect_handler=settlement.connect(self._on_connect, offer),
            messages=settlement.messages(self.messages(), offer),
            subscribes=settlement.subscribes(self.subscribes(), offer),
            exception_routes=settlement.exception_routes(self.exceptions(), offer),
            rules=settlement.rules(self._allow_send, self._allow_subscribe),
            lifespan=lifespan,
            run_blocking=self.run_blocking,
            resources=resources,
        )
        settlement.finish()
        return compiled

    def bind(self, publisher: Publisher) -> None:
        """Publish through this from now on; the server calls it, inside trio.

        Raises:
            TrioStompError: another server serves the app.
        """
        if self._publisher is not None:
            raise TrioStompError("the app is being served already: one server at a time")
        self._publisher = publisher
        self._trio_token = trio.lowlevel.current_trio_token()

    def unbind(self) -> None:
        """The server has ended: publishing raises from now on."""
        self._publisher = self._trio_token = None

    async def publish(
        self, destination: str, payload: object, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Hand one message to the broker, waiting while its inbox is full.

        Returns once the message is queued, not once it is delivered. Cancelling is safe: the message is
        either queued or not, never half.

        Args:
            payload: str, bytes, or what becomes JSON.
            headers: more headers for the MESSAGE; ``content-type`` replaces the payload's own.

        Raises:
            DestinationError: ``destination`` has no broker prefix.
            ValueError: JSON has no way to say the payload.
            TrioStompError: the app is not being served.
        """
        publisher = self._served()
        _check_destination(destination, publisher.prefixes)
        await publisher.publish(destination, *self._encode(payload, headers))

    async def publish_to_user(
        self,
        user_name: str,
        destination: str,
        payload: object,
        *,
        headers: Mapping[str, str] | None = None,
        session_id: str | None = None,
    ) -> None:
        """As `publish`, to ``/user`` + ``destination`` of one user's sessions; nobody's is dropped.

        Args:
            destination: without ``/user``: ``/queue/x``.
            session_id: only that session of hers; a session without a User has its id as its user's name.

        Raises: as `publish`.
        """
        publisher = self._served()
        _check_destination(destination, publisher.prefixes)
        body, all_headers = self._encode(payload, headers)
        await publisher.publish_to_user(user_name, destination, body, all_headers, session_id)

    def publish_from_thread(
        self, destination: str, payload: object, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """`publish` from a worker thread, of trio's or your own; blocks it while the inbox is full.

        Raises: as `publish`; RuntimeError in the event loop's own thread.
        """
        self._from_thread(lambda: self.publish(destination, payload, headers=headers))

    def publish_to_user_from_thread(
        self,
        user_name: str,
        destination: str,
        payload: object,
        *,
        headers: Mapping[str, str] | None = None,
        session_id: str | None = None,
    ) -> None:
        """`publish_to_user` from a worker thread, of trio's or your own; blocks it while the inbox is full.

        Raises: as `publish`; RuntimeError in the event loop's own thread.
        """
        self._from_thread(
            lambda: self.publish_to_user(
                user_name, destination, payload, headers=headers, session_id=session_id
            )
        )

    async def run_blocking(
        self, fn: Callable[..., T], *args: object, pool: PoolDeclaration | str = DEFAULT_POOL
    ) -> T:
        """Call ``fn(*args)`` in a thread of a pool and return what it returns.

        Cancelling returns at once and abandons the call; its thread counts as busy until it ends.

        Raises:
            OverloadedError: the pool is full. Whatever ``fn`` raises is passed on.
            TrioStompError: the app is not being served, or has no such pool.
        """
        name = pool if isinstance(pool, str) else pool.name
        pools = self._served().pools
        if name not in pools:
            raise TrioStompError(f"there is no pool {name!r}, only {', '.join(sorted(pools))}")
        return await pools[name].run(fn, *args)

    def _served(self) -> Publisher:
        if self._publisher is None:
            raise TrioStompError("the app is not being served")
        return self._publisher

    def _encode(self, payload: object, headers: Mapping[str, str] | None) -> tuple[bytes, dict[str, str]]:
        body, content_type = self.converter.encode(payload)
        return body, {"content-type": content_type, **(headers or {})}

    def _from_thread(self, call: Callable[[], Awaitable[None]]) -> None:
        token = self._trio_token
        self._served()
        is_started = False

        async def run() -> None:
            nonlocal is_started
            is_started = True
            await call()

        try:
            # In a thread of trio's this runs in the task that waits for it: Cancelled once it was given up.
            trio.from_thread.run(run)
        except RuntimeError:
            if is_started or token is None:
                raise
            trio.from_thread.run(run, trio_token=token)


def _check_connect(function: object) -> None:
    """Refuse what cannot be an `on_connect`.

    Raises:
        HandlerSignatureError: it is no function, or one that yields.
    """
    if not inspect.isroutine(function):
        raise HandlerSignatureError(f"on_connect: expected a function, not {function!r}")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise HandlerSignatureError(
            f"{name_of(function)}: on_connect: it yields; expected a function that returns"
        )


def _check_destination(destination: str, prefixes: tuple[str, ...]) -> None:
    if not is_under(destination, prefixes):
        raise DestinationError(
            f"cannot publish to {destination!r}: expected {' or '.join(prefixes)}/…",
            destination,
        )
