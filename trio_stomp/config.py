"""The settings: every number that a server or client goes by, with its unit and its reason.

Rule 1: sizes are bytes, durations are seconds; a name without a unit in its description is a count.
Rule 2: every limit of the package stands here, says where it comes from, and has a counter (`limits()`).
Rule 3: a section is frozen and checks itself when it is made, so that a config that exists is usable.
How the layers (defaults, file, environment, command line) become a config is `settings.py`'s matter.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import attrs

from trio_stomp.errors import ConfigError

T = TypeVar("T")

KIB: Final = 1024
MIB: Final = 1024 * 1024

DESTINATION_LENGTH: Final = 1024
"""Characters in a destination or pattern: matching costs time and each one is kept per subscription; AMQP
stops at 255, and the longest seen in Spring applications (user destinations with an id) are below 200."""

METADATA_KEY: Final = "trio_stomp"
"""Under this key an attrs field's metadata holds its `Setting`."""


@attrs.frozen
class Setting:
    """What is known of one setting besides its default.

    Attributes:
        unit: "bytes", "seconds", "count", or "" for what has none.
        meaning: one line for the table in the README.
        reason: why the default is what it is, and where that comes from.
        low, high: the smallest and largest value accepted; None for no bound.
        limit: whether a peer can run into it, so that it is counted in the metrics.
    """

    unit: str
    meaning: str
    reason: str
    low: float | None = None
    high: float | None = None
    limit: bool = False


def _check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a number out of range.

    Raises:
        ConfigError: naming the section, the field, the value and what was expected.
    """
    if value is None:
        return
    about: Setting = attribute.metadata[METADATA_KEY]
    name = f"{type(instance).__name__}.{attribute.name}"
    if isinstance(value, float) and value != value:
        raise ConfigError(f"{name} is not a number")
    if about.low is not None and value < about.low:
        raise ConfigError(f"{name} is {value!r}, expected at least {about.low:g} {about.unit}".rstrip())
    if about.high is not None and value > about.high:
        raise ConfigError(f"{name} is {value!r}, expected at most {about.high:g} {about.unit}".rstrip())


def _field(
    default: T,
    unit: str,
    meaning: str,
    reason: str,
    *,
    low: float | None = None,
    high: float | None = None,
    limit: bool = False,
    converter: Callable[[Any], Any] | None = None,
) -> T:
    """An attrs field that carries its `Setting`."""
    about = Setting(unit, meaning, " ".join(reason.split()), low, high, limit)
    checked = _check if low is not None or high is not None else None
    made: T = attrs.field(
        default=default, validator=checked, converter=converter, metadata={METADATA_KEY: about}
    )
    return made


def _frozen_mapping(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(value))


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ConfigError(f"{value!r} is one string, expected a sequence of strings")
    return tuple(value)


# A setting reads in three lines: default, unit, meaning; reason; bounds.
# fmt: off
@attrs.frozen(kw_only=True)
class HttpConfig:
    """The front door: what a peer may send before it is a WebSocket."""

    head_bytes: int = _field(
        16 * KIB, "bytes", "size of a request's head",
        """h11's and hypercorn's default. A head with many cookies is below 8 KiB, and this much memory goes
        to whoever connects, before anybody has proved who they are.""",
        low=256, high=MIB, limit=True,
    )
    head_timeout: float = _field(
        5.0, "seconds", "time from the connection's start to the end of the request's head",
        """A browser sends its head in one packet; who takes longer only holds a socket (slowloris). A PROXY
        header, and TLS on the port of plain STOMP, have as long each.""",
        low=0.01, limit=True,
    )
    headers: int = _field(
        100, "count", "headers in a request",
        """Apache's LimitRequestFields; Node's maxHeadersCount is 2,000. Browsers send about 20.""",
        low=1, limit=True,
    )


@attrs.frozen(kw_only=True)
class StompConfig:
    """A STOMP session: sizes of frames, times, and what one session may hold."""

    connect_timeout: float = _field(
        10.0, "seconds", "time from the WebSocket handshake to a valid CONNECT",
        """A client sends CONNECT with its first packet. Spring waits 60 s for it.""",
        low=0.01, limit=True,
    )
    body_before_connected: int = _field(
        64 * KIB, "bytes", "size of a frame's body before the session is connected",
        """As RabbitMQ: what nobody has logged in for stays small.""",
        low=0, limit=True,
    )
    body: int = _field(
        4 * MIB, "bytes", "size of a frame's body",
        """stompjs's own test suite sends 1 MiB; Spring's 64 KiB is a known trap for its users.""",
        low=1, limit=True,
    )
    header_line: int = _field(
        16 * KIB, "bytes", "size of one header line",
        """Tokens of single sign-on (login headers) reach 8 KiB; ActiveMQ allows 10 KiB.""",
        low=64, limit=True,
    )
    headers: int = _field(
        256, "count", "headers in a frame",
        """ActiveMQ allows 1,000, real frames have below 20; each costs a dict entry per frame.""",
        low=8, limit=True,
    )
    head: int = _field(
        64 * KIB, "bytes", "size of all headers of a frame together; no less than `header_line`",
        """Four of the longest lines. Without it 256 of those would be 4 MiB, for whoever connects, before
        anybody has proved who they are.""",
        low=256, limit=True,
    )
    frame_timeout: float = _field(
        30.0, "seconds", "time for a frame that has begun, and more for what has come: see `frame_rate`",
        """Every byte counts as a heart-beat, so a frame that drips would hold its memory for ever. Apache
        gives a body 20 s; this is more than the heart-beats' tolerance. Looked at every half of it.""",
        low=0.01, limit=True,
    )
    frame_rate: int = _field(
        500, "bytes", "bytes that give a frame that has begun one more second",
        """Apache's MinRate (RequestReadTimeout): 4 kbit/s, less than any link in use has for an upload.""",
        low=1,
    )
    subscriptions: int = _field(
        1000, "count", "subscriptions of one session",
        """A page has tens; each costs an index entry and a place in every match.""",
        low=1, limit=True,
    )
    transactions: int = _field(
        16, "count", "open transactions of one session",
        """A client has one at a time, or one for each of its threads.""",
        low=1, limit=True,
    )
    transaction_frames: int = _field(
        1000, "count", "frames in one transaction",
        """They take effect in one piece, in which the broker does nothing else: some milliseconds.""",
        low=1, limit=True,
    )
    transaction_bytes: int = _field(
        8 * MIB, "bytes", "size of the bodies and headers in all open transactions of one session",
        """Two bodies of the largest size; they are held until COMMIT.""",
        low=1, limit=True,
    )
    heart_beat_send: float = _field(
        10.0, "seconds", "how often we are ready to send a heart-beat; 0 turns it off",
        """Proxies close idle connections after 30 to 60 s (nginx: 60); stompjs offers 10 s as well.""",
        low=0,
    )
    heart_beat_receive: float = _field(
        10.0, "seconds", "how often we wish to receive a heart-beat; 0 turns it off",
        """A peer without a word for this long, times the tolerance, is gone. As stompjs's default.""",
        low=0,
    )
    heart_beat_tolerance: float = _field(
        2.0, "", "how many times the agreed heart-beat a peer may be silent",
        """STOMP 1.2, Heart-beating: "because of timing inaccuracies, the receiver SHOULD be tolerant and take
        into account an error margin". Pages in the background have slow timers; stompjs uses 2 as well.""",
        low=1, limit=True,
    )
    virtual_host: str | None = _field(
        None, "", "the only `host` that CONNECT may name; none set: any",
        """Browsers send whatever the page was configured with; brokers with one host ignore it.""",
    )
    separator: str = _field(
        "/", "", "what separates the segments of a destination: `/` or `.`",
        """Spring's default; `.` is for clients that are used to RabbitMQ's topics.""",
    )
    linger: float = _field(
        10.0, "seconds", "time for the frames already read when the transport is lost",
        """What was received is still handled; the time bounds how long a session outlives its connection.""",
        low=0, limit=True,
    )

    def __attrs_post_init__(self) -> None:
        if self.separator not in ("/", "."):
            raise ConfigError(f"StompConfig.separator is {self.separator!r}, expected '/' or '.'")


@attrs.frozen(kw_only=True)
class WebSocketConfig:
    """The WebSocket under a session."""

    fast_path: bool = _field(
        True, "", "whether plain data frames are cut out of a read without the WebSocket library",
        """One list per read instead of one task switch per message. Off, all works the same, slower.""",
    )
    receive_ahead: int = _field(
        64 * KIB, "bytes", "bytes read ahead of the session, over TCP as well",
        """One read of the socket; past it we read on slowly, up to twice as much, for the pings that may be
        there, then stop, so that TCP slows the client down.""",
        low=1 * KIB,
    )
    fragments: int = _field(
        1024, "count", "frames in one fragmented message",
        """The library does not count empty fragments, so that a message of them would never end. Browsers and
        stompjs do not fragment; a body of 4 MiB in pieces of 4 KiB fits.""",
        low=1, limit=True,
    )
    control_frames: int = _field(
        100, "count", "pings and pongs of one client in a second, and at once",
        """Each ping costs an answer, 50 us and more; clients send one in some seconds. 100 a second, and
        what has gathered on a stalled link, are far from that.""",
        low=1, limit=True,
    )
    message: int = _field(
        16 * MIB, "bytes", "size of one WebSocket message that the library puts together",
        """Four STOMP bodies: a message may hold several frames, and the library counts characters.""",
        low=1 * KIB, limit=True,
    )
    close_timeout: float = _field(
        5.0, "seconds", "time for the closing handshake, or the peer's end of TCP, then it is cut",
        """A peer that is there answers within a round trip; Python's websockets allows 10 s.""",
        low=0.01, limit=True,
    )


@attrs.frozen(kw_only=True)
class OutboxConfig:
    """What waits to be written to one client: how much, and for how long."""

    bytes: int = _field(
        512 * KIB, "bytes", "bytes that wait for one client; one larger frame passes when nothing waits",
        """Spring's send-buffer-size-limit. 1,000 clients that all stall hold half a gigabyte at most.""",
        low=1 * KIB, limit=True,
    )
    messages: int = _field(
        16384, "count", "messages that wait for one client",
        """Bytes alone do not bound small messages, whose list entries cost more than they hold.""",
        low=1, limit=True,
    )
    write_timeout: float = _field(
        10.0, "seconds", "time without progress after which a write fails and the connection is cut",
        """Spring's send-time-limit. A peer that reads anything within it lives on, however slow.""",
        low=0.01, limit=True,
    )


@attrs.frozen(kw_only=True)
class BrokerConfig:
    """The embedded broker."""

    inbox: int = _field(
        4096, "count", "commands that wait for the broker; whoever feeds a full inbox waits",
        """About 5 ms of its work: enough to keep it busy, little enough that waiting is felt at once.""",
        low=1, limit=True,
    )
    flush_messages: int = _field(
        64, "count", "messages after which touched outboxes are flushed though the inbox is not empty",
        """The prototype's budget: a write of 64 small frames costs little more than a write of one.""",
        low=1,
    )
    flush_seconds: float = _field(
        0.001, "seconds", "time after which touched outboxes are flushed though the inbox is not empty",
        """A millisecond is below what a network adds, so that batching costs no latency anybody sees.""",
        low=0,
    )
    yield_offers: int = _field(
        4000, "count", "deliveries after which the broker lets other tasks run",
        """About 4 ms: readers, heart-beats and health checks are never kept waiting for longer.""",
        low=1,
    )
    prefetch: int = _field(
        100, "count", "unacknowledged messages of a subscription that names no `prefetch-count`",
        """A round trip of 20 ms lets a consumer take 5,000 a second then; who crashes gives 100 back.
        RabbitMQ has no limit, and its users learn of it by memory; ActiveMQ's queues have 1,000.""",
        low=1,
    )
    prefetch_max: int = _field(
        10_000, "count", "unacknowledged messages of a subscription, whatever its `prefetch-count` asks for",
        """Each is kept until it is acknowledged. 0, which asks for no limit, gets this many.""",
        low=1, limit=True,
    )
    unacked_bytes: int = _field(
        16 * MIB, "bytes", "size of a subscription's unacknowledged messages; past it, it is given no more",
        """Four bodies of the largest size; a window of 100 messages of 160 KiB.""",
        low=1,
    )
    session_unacked_bytes: int = _field(
        64 * MIB, "bytes", "size of topics' messages that one session has unacknowledged, in all its windows",
        """Four full windows. A topic waits for nobody: past it the session ends, as a slow client's does.""",
        low=1, limit=True,
    )
    queue_messages: int = _field(
        10_000, "count", "messages that one queue holds, unacknowledged ones included",
        """A consumer's restart at 100 a second is bridged for more than a minute. What lies longer belongs
        into a broker with a disk.""",
        low=1, limit=True,
    )
    queue_bytes: int = _field(
        64 * MIB, "bytes", "size of the messages that one queue holds",
        """16 bodies of the largest size, 6 KiB for each of 10,000 messages.""",
        low=1, limit=True,
    )
    queues: int = _field(
        10_000, "count", "queues that hold messages",
        """Their names come from clients; an empty queue costs nothing and is not counted.""",
        low=1, limit=True,
    )
    kept_bytes: int = _field(
        256 * MIB, "bytes", "size of the messages that all queues hold together",
        """What a server of the smallest usual size (512 MiB) can spare.""",
        low=1, limit=True,
    )
    prefixes: tuple[str, ...] = _field(
        ("/topic", "/queue"), "", "destinations that belong to the broker",
        """Spring's enableSimpleBroker examples, and what STOMP clients of other brokers expect.""",
        converter=_words,
    )


POOL_MODES: Final = ("fixed", "observe", "adaptive")
POOL_QUEUE: Final = 1000
POOL_QUEUE_TIMEOUT: Final = 30.0
POOL_MIN_THREADS: Final = 1
POOL_MAX_THREADS: Final = 256


@attrs.frozen(kw_only=True)
class PoolConfig:
    """What is set of one bounded pool of threads; what is not set (None) stays as the app declares it.

    An app's own defaults, in ``app.pool(…)``, are those that stand with each setting.
    """

    threads: int | None = _field(
        None, "count", "calls that run at once; 0 pauses the pool",
        """No default: it is what the called service can take, and `trio-stomp stress` finds it.
        (`client_inbound`, which is always there, has 2 times the CPUs, as Spring's clientInboundChannel.)""",
        low=0, high=10_000,
    )
    queue: int | None = _field(
        None, "count", "calls that wait for a thread; one more is refused (app default: 1000)",
        """Spring's is unbounded, so that overload shows as memory; 1,000 waiters are seconds of work.""",
        low=0, limit=True,
    )
    queue_timeout: float | None = _field(
        None, "seconds", "time that a call waits for a thread before it is refused (app default: 30)",
        """A person has gone away by then; an answer that nobody awaits only adds to the overload.""",
        low=0, limit=True,
    )
    mode: str | None = _field(
        None, "", "fixed; observe: say which size would be right; adaptive: take it (app default: fixed)",
        """A number that somebody measured is the easiest to reason about; the other two are asked for.""",
    )
    min_threads: int | None = _field(
        None, "count", "fewest threads that adaptive mode goes down to (app default: 1)",
        """A service in trouble recovers fastest when almost nothing calls it.""",
        low=1, high=10_000,
    )
    max_threads: int | None = _field(
        None, "count", "most threads that adaptive mode goes up to (app default: 256)",
        """Tomcat stops at 200. A thread that waits costs some 50 KiB, and beyond some hundreds
        Python's one lock is the limit, not the service.""",
        low=1, high=10_000,
    )

    def __attrs_post_init__(self) -> None:
        if self.mode is not None and self.mode not in POOL_MODES:
            raise ConfigError(f"PoolConfig.mode is {self.mode!r}, expected one of {', '.join(POOL_MODES)}")


@attrs.frozen(kw_only=True)
class StatisticsConfig:
    """What a server tells of itself without being asked."""

    log_interval: float = _field(
        1800.0, "seconds", "how often a line with the server's numbers is logged; 0 turns it off",
        """Spring's WebSocketMessageBrokerStats: every 30 minutes.""",
        low=0,
    )
    lag_interval: float = _field(
        0.5, "seconds", "how often it is measured how late the event loop runs; 0 turns it off",
        """Two wake-ups a second cost 0.01 % of a core and see whatever blocks for longer than half a second,
        and of shorter stalls their share of the time.""",
        low=0,
    )


@attrs.frozen(kw_only=True)
class DrainConfig:
    """How a server ends when it is asked to: by SIGTERM, `trio-stomp drain` or `Server.drain`."""

    delay: float = _field(
        5.0, "seconds", "time from saying 503 on `/readyz` to refusing new connections",
        """A load balancer goes on sending until it has noticed: Kubernetes takes a few seconds to tell every
        node; HAProxy's defaults (every 2 s, three answers) take 6, those in examples/deploy 1.5.""",
        low=0,
    )
    window: float = _field(
        20.0, "seconds", "time over which the sessions are closed, evenly spread",
        """All at once, all would come back at once. 10,000 clients over 20 s are 500 handshakes a second,
        which one other server can take.""",
        low=0,
    )
    deadline: float = _field(
        60.0, "seconds", "time from the start of the drain after which what is left is cut",
        """Sessions see through what they have read; this long a handler may take. To be set below what the
        process manager allows: Kubernetes kills after 30 s, systemd after 90 s, unless told otherwise.""",
        low=0, limit=True,
    )

    def __attrs_post_init__(self) -> None:
        if self.deadline < self.delay + self.window:
            raise ConfigError(
                f"DrainConfig.deadline is {self.deadline:g} seconds, expected at least DrainConfig.delay and "
                f"DrainConfig.window together, {self.delay + self.window:g}"
            )


@attrs.frozen(kw_only=True)
class AcceptConfig:
    """How many connections are let in, WebSocket and TCP together.

    The others get 503 with Retry-After, over TCP an ERROR.
    """

    connections: int = _field(
        20_000, "count", "connections at once, WebSocket and TCP",
        """About 30 KiB each: 600 MB. A server that runs out of memory loses all of them.""",
        low=1, limit=True,
    )
    per_address: int = _field(
        0, "count", "connections at once from one address; 0: no limit",
        """Off: behind a company's gateway, or a proxy that is not trusted, all have one address.""",
        low=0, limit=True,
    )
    rate: float = _field(
        0.0, "count", "new connections per second, when they go on coming; 0: no limit",
        """Off: the load balancer or the paced drain of the server before keeps the rate. A handshake takes
        about 1 ms of CPU: 500 leave half a core to those who are connected.""",
        low=0, limit=True,
    )
    burst: int = _field(
        100, "count", "new connections that `accept.rate` lets in at once",
        """A page of a few tabs and a client's tries after a hiccup come together.""",
        low=1,
    )


@attrs.frozen(kw_only=True)
class ProxyConfig:
    """Proxies in front of the server, and whether they are believed in whom they speak for."""

    protocol: bool = _field(
        False, "", "whether each connection begins with a PROXY header (v1 or v2), on either port",
        """Off: a connection without one is closed then, health checks without one as well.""",
    )
    trusted: tuple[str, ...] = _field(
        (), "", "networks of the proxies whose PROXY header and `X-Forwarded-For` count, as 10.0.0.0/8",
        """Anybody can send such a header, and hide behind another's address.""",
        converter=_words,
    )
    header_bytes: int = _field(
        4 * KIB, "bytes", "size of a PROXY header",
        """Addresses take 52 bytes; what cloud load balancers and TLS add stays below 1 KiB.""",
        low=107, high=64 * KIB, limit=True,
    )

    def __attrs_post_init__(self) -> None:
        for network in self.trusted:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ConfigError(
                    f"ProxyConfig.trusted has {network!r}, expected a network as '10.0.0.0/8': {error}"
                ) from None
        if self.protocol and not self.trusted:
            raise ConfigError("ProxyConfig.protocol is set, but ProxyConfig.trusted names no proxy")


@attrs.frozen(kw_only=True)
class ClientConfig:
    """The numbers of a client's connection; a server does not use them."""

    connect_timeout: float = _field(
        10.0, "seconds", "time from opening the connection to CONNECTED",
        """As long as a server of ours waits for CONNECT.""",
        low=0.01,
    )
    receipt_timeout: float = _field(
        10.0, "seconds", "time for a RECEIPT",
        """Far above a healthy broker's answer; stomp.py and stompjs wait for ever.""",
        low=0.01,
    )
    body: int = _field(
        16 * MIB, "bytes", "size of a frame's body",
        """Four times what a server of ours accepts: other brokers allow more (RabbitMQ: 16 MiB).""",
        low=1,
    )
    header_line: int = _field(
        16 * KIB, "bytes", "size of one header line",
        """As the server's.""",
        low=64,
    )
    headers: int = _field(
        256, "count", "headers in a frame",
        """As the server's.""",
        low=8,
    )
    messages: int = _field(
        1000, "count", "messages that wait in one subscription; a full one stops the reading",
        """Bounds memory; the server's outbox takes over from there.""",
        low=1,
    )
    waiting: int = _field(
        1000, "count", "sends that wait for the connection to come back; further ones fail",
        """As many as one subscription keeps the other way round.""",
        low=1,
    )
    waiting_bytes: int = _field(
        16 * MIB, "bytes", "size of the sends that wait for the connection to come back",
        """As much as one frame may have.""",
        low=1,
    )
    events: int = _field(
        100, "count", "unread events of a client; the oldest are dropped",
        """A few for each loss: a night of a server's deployments, for who looks in the morning.""",
        low=1,
    )
    heart_beat_send: float = _field(
        10.0, "seconds", "how often we are ready to send a heart-beat; 0 turns it off",
        """As stompjs's default and the server's.""",
        low=0,
    )
    heart_beat_receive: float = _field(
        10.0, "seconds", "how often we wish to receive a heart-beat; 0 turns it off",
        """As stompjs's default and the server's.""",
        low=0,
    )
    heart_beat_tolerance: float = _field(
        2.0, "", "how many times the agreed heart-beat the server may be silent",
        """As the server's.""",
        low=1,
    )
    write_timeout: float = _field(
        10.0, "seconds", "time without progress after which a write fails and the connection is cut",
        """As the server's.""",
        low=0.01,
    )
    close_timeout: float = _field(
        5.0, "seconds", "time for the closing handshake, after which the connection is cut",
        """As the server's.""",
        low=0.01,
    )


LOG_LEVELS: Final = ("debug", "info", "warning", "error")


@attrs.frozen(kw_only=True)
class ServerConfig:
    """Everything a server goes by; ``ServerConfig()`` is a plain broker on 127.0.0.1:8080.

    Raises:
        ConfigError: when a value is out of its range, or two do not fit together.
    """

    host: str = _field(
        "127.0.0.1", "", "address to listen on",
        """Not reachable from outside until somebody says so.""",
    )
    port: int = _field(
        8080, "", "port to listen on; 0: a free one",
        """The usual port of a service that needs no privileges.""",
        low=0, high=65535,
    )
    tcp_port: int | None = _field(
        None, "", "port for STOMP over plain TCP, with TLS as the other; 0: a free one; none set: none",
        """Most programs' clients speak STOMP without a WebSocket, at other brokers on port 61613.""",
        low=0, high=65535,
    )
    path: str = _field(
        "/ws", "", "path of the WebSocket endpoint",
        """What most STOMP tutorials and clients' examples use.""",
    )
    origins: tuple[str, ...] = _field(
        (), "", "origins besides the server's own whose pages may connect; `*`: all",
        """Browsers let any page open a WebSocket with the user's cookies; only this check stops it.""",
        converter=_words,
    )
    static: Mapping[str, str] = _field(
        MappingProxyType({}), "", "URL prefixes and the directories whose files are served under them",
        """None: a server of messages serves no files unless told to.""",
        converter=_frozen_mapping,
    )
    tls_cert: str | None = _field(
        None, "", "file with the certificate chain (PEM); with `tls_key` it turns TLS on",
        """Behind a proxy that ends TLS there is nothing to set.""",
    )
    tls_key: str | None = _field(
        None, "", "file with the certificate's private key (PEM)",
        """As `tls_cert`.""",
    )
    log_level: str = _field(
        "info", "", "least severe log lines that are written: debug, info, warning, error",
        """One line for what an operator may want to know, none per message.""",
    )
    fd: int | None = _field(
        None, "", "file descriptor of a listening socket that was inherited, instead of an address",
        """Whoever started us keeps the socket open, so that no connection is refused between two
        generations; systemd hands over descriptor 3.""",
        low=0,
    )
    tcp_fd: int | None = _field(
        None, "", "file descriptor of an inherited socket for STOMP over TCP, instead of `tcp_port`",
        """As `fd`; systemd hands over 4 as the second.""",
        low=0,
    )
    reuse_port: bool = _field(
        False, "", "whether other processes may listen on the same address and ports (SO_REUSEPORT)",
        """For two generations side by side; by default a port that is taken is an error.""",
    )
    admin_token: str | None = _field(
        None, "", "what `POST /drain` asks for as a bearer token; none set: there is no `/drain`",
        """Whoever reaches the port could stop the server; a signal needs rights on the machine.""",
    )
    http: HttpConfig = attrs.field(factory=HttpConfig)
    stomp: StompConfig = attrs.field(factory=StompConfig)
    websocket: WebSocketConfig = attrs.field(factory=WebSocketConfig)
    outbox: OutboxConfig = attrs.field(factory=OutboxConfig)
    broker: BrokerConfig = attrs.field(factory=BrokerConfig)
    pools: Mapping[str, PoolConfig] = attrs.field(factory=dict, converter=_frozen_mapping)
    drain: DrainConfig = attrs.field(factory=DrainConfig)
    accept: AcceptConfig = attrs.field(factory=AcceptConfig)
    proxy: ProxyConfig = attrs.field(factory=ProxyConfig)
    statistics: StatisticsConfig = attrs.field(factory=StatisticsConfig)

    def __attrs_post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ConfigError(f"ServerConfig.path is {self.path!r}, expected a path that begins with '/'")
        if self.log_level not in LOG_LEVELS:
            raise ConfigError(
                f"ServerConfig.log_level is {self.log_level!r}, expected one of {', '.join(LOG_LEVELS)}"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("ServerConfig.tls_cert and ServerConfig.tls_key are set together or not at all")
        for prefix in self.static:
            if not prefix.startswith("/"):
                raise ConfigError(f"ServerConfig.static has {prefix!r}, expected a prefix beginning with '/'")


# fmt: on
SECTIONS: Final[tuple[tuple[str, type[Any]], ...]] = (
    ("", ServerConfig),
    ("http", HttpConfig),
    ("stomp", StompConfig),
    ("websocket", WebSocketConfig),
    ("outbox", OutboxConfig),
    ("broker", BrokerConfig),
    ("drain", DrainConfig),
    ("accept", AcceptConfig),
    ("proxy", ProxyConfig),
    ("statistics", StatisticsConfig),
)
"""Name and class of each section of a server's config, as shown; a `PoolConfig` has no fixed name."""


def settings_of(section: type[Any]) -> Iterator[tuple[attrs.Attribute[Any], Setting]]:
    """Yield each field of a section with what is known of it, less those that are sections themselves."""
    for attribute in attrs.fields(section):
        about = attribute.metadata.get(METADATA_KEY)
        if about is not None:
            yield attribute, about


def differences(one: ServerConfig, other: ServerConfig) -> tuple[str, ...]:
    """Names of the settings that two configs do not share, as ``"stomp.body"``; pools are left out."""
    return tuple(
        f"{name}.{attribute.name}".lstrip(".")
        for name, section in SECTIONS
        for attribute, _ in settings_of(section)
        if _value(one, name, attribute.name) != _value(other, name, attribute.name)
    )


def _value(config: ServerConfig, section: str, name: str) -> object:
    return getattr(getattr(config, section) if section else config, name)


def limits() -> tuple[str, ...]:
    """Names of all limits that a peer can run into, as ``"stomp.body"``; a pool's are ``"pools.queue"``."""
    sections: tuple[tuple[str, type[Any]], ...] = (*SECTIONS, ("pools", PoolConfig))
    return tuple(
        f"{name}.{attribute.name}".lstrip(".")
        for name, section in sections
        for attribute, about in settings_of(section)
        if about.limit
    )
