"""What one server counts, and how it is told to Prometheus.

Rule 1: the numbers belong to a server object, not to the module: two servers in a process stay apart.
Rule 2: on the hot path counting is ``metrics.frames_in += 1``: a plain int in a slot.
Rule 3: labels are values of our own code, never a peer's: the number of series is bounded.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterable
from typing import Any, Final, Literal

import attrs

from trio_stomp.config import limits
from trio_stomp.histogram import BOUNDS, HistogramStatistics

METADATA_KEY: Final = "trio_stomp"
"""Under this key an attrs field's metadata holds its `Series`."""

CLOSE_CODES: Final = frozenset(
    {1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 4500}
)
"""The close codes that are counted by themselves: RFC 6455 (section 7.4.1), the two that IANA added for
restarts (1012, 1013), and our 4500 for an overflow. A peer may send any of 4,000; the rest is "other"."""


class Counter(collections.Counter[str]):
    """Counts by label value; a value that was never counted is 0."""

    __slots__ = ()


@attrs.frozen
class Series:
    """How one number is shown: its Prometheus type, its help line, the name of its label if it has one."""

    kind: Literal["counter", "gauge"]
    help: str
    label: str | None = None


def _counter(help: str) -> int:
    made: int = attrs.field(default=0, metadata={METADATA_KEY: Series("counter", help)})
    return made


def _gauge(help: str) -> int:
    made: int = attrs.field(default=0, metadata={METADATA_KEY: Series("gauge", help)})
    return made


def _labelled(label: str, help: str) -> dict[str, Series]:
    return {METADATA_KEY: Series("counter", help, label)}


def _limit_hits() -> Counter:
    """Every limit is there from the start: a series that appears with its first hit shows no increase."""
    return Counter(dict.fromkeys(limits(), 0))


@attrs.define(eq=False, kw_only=True)
class _Numbers:
    """The numbers themselves, shared by the live object and its snapshot."""

    # Connections, before anybody has spoken STOMP.
    connections_opened: int = _counter("TCP connections accepted.")
    connections_closed: int = _counter("TCP connections ended.")
    accepts_failed: int = _counter("Times that no connection could be accepted: no file descriptor was left.")
    http_requests: Counter = attrs.field(
        factory=Counter, metadata=_labelled("status", "HTTP requests answered without an upgrade, by status.")
    )
    handshakes_refused: Counter = attrs.field(
        factory=Counter, metadata=_labelled("status", "WebSocket handshakes refused, by HTTP status.")
    )
    tcp_refused: int = _counter("TCP connections refused with ERROR: the server is full, or draining.")
    proxy_refused: Counter = attrs.field(
        factory=Counter,
        metadata=_labelled("reason", "Connections closed for want of a PROXY header of a trusted proxy."),
    )
    close_codes: Counter = attrs.field(
        factory=Counter,
        metadata=_labelled("code", "Connections ended, by close code; over TCP by what it would be."),
    )
    # Sessions.
    sessions_connected: int = _counter("Sessions that reached CONNECTED.")
    sessions_ended: int = _counter("Sessions that ended after they had reached CONNECTED.")
    connect_timeouts: int = _counter("WebSocket connections closed because no CONNECT came in time.")
    connects_refused: int = _counter("CONNECT frames refused by the application.")
    sessions_drained: int = _counter("Sessions closed at their turn in a drain.")
    sessions_cut: int = _counter("Sessions cut off by a drain's deadline.")
    heart_beats_sent: int = _counter("Heart-beats sent.")
    heart_beats_missed: int = _counter("Sessions ended because the peer was silent for too long.")
    # Traffic: the hot path.
    bytes_in: int = _counter("Bytes read from clients, HTTP and WebSocket overhead included.")
    bytes_out: int = _counter("Bytes written to clients, HTTP and WebSocket overhead included.")
    frames_in: int = _counter("STOMP frames received.")
    frames_out: int = _counter("STOMP frames sent, MESSAGE frames included.")
    # Errors and limits.
    protocol_errors: int = _counter("Frames refused with ERROR.")
    access_denied: int = _counter("Frames refused because a destination is not allowed.")
    internal_errors: int = _counter("Unexpected exceptions that ended a connection.")
    outbox_overflows: int = _counter("Sessions ended because their outbox was full.")
    write_timeouts: int = _counter("Connections cut because the peer took no bytes in time.")
    limit_hits: Counter = attrs.field(
        factory=_limit_hits, metadata=_labelled("limit", "Times a limit was reached, by setting.")
    )
    # Handlers.
    handlers_run: int = _counter("Handler calls started.")
    handlers_running: int = _gauge("Handler calls that run now, those that wait for a thread included.")
    handler_errors: int = _counter("Handler calls that raised.")
    # The broker.
    messages_published: int = _counter("Messages handed to the broker.")
    messages_delivered: int = _counter("Messages put into outboxes, one for each subscription.")
    messages_unmatched: int = _counter("Messages that matched no subscription.")
    messages_refused: int = _counter("Messages refused because a queue was full.")
    messages_acknowledged: int = _counter("Messages that their consumers acknowledged.")
    messages_returned: int = _counter("Messages given back: by NACK, or by a consumer that left.")
    messages_redelivered: int = _counter("Messages delivered again after they were given back.")
    messages_queued: int = _gauge("Messages that queues hold now, the unacknowledged ones included.")
    messages_unacked: int = _gauge("Messages that are with a consumer and unacknowledged now.")
    transactions_committed: int = _counter("Transactions that took effect.")
    transactions_aborted: int = _counter("Transactions that ended without effect.")
    subscriptions: int = _gauge("Subscriptions that the broker holds now.")
    broker_inbox: int = _gauge("Commands that wait in the broker's inbox now.")
    broker_inbox_full: int = _counter("Times somebody had to wait because the broker's inbox was full.")

    @property
    def connections_current(self) -> int:
        """TCP connections open now."""
        return self.connections_opened - self.connections_closed

    @property
    def sessions_current(self) -> int:
        """Sessions connected now."""
        return self.sessions_connected - self.sessions_ended


@attrs.frozen(eq=False, kw_only=True)
class MetricsStatistics(_Numbers):
    """The numbers of a `Metrics` at one moment; they don't change any more."""


@attrs.define(eq=False, kw_only=True)
class Metrics(_Numbers):
    """The numbers of one server, alive. Its parts increment the attributes; nothing here blocks or raises."""

    def limit(self, name: str) -> None:
        """Count a hit of the limit that is called ``name`` in the settings, as ``"stomp.body"``."""
        self.limit_hits[name] += 1

    def close_code(self, code: int) -> None:
        """Count the end of a WebSocket connection; a code without a meaning of its own counts as "other"."""
        self.close_codes[str(code) if code in CLOSE_CODES else "other"] += 1

    def statistics(self) -> MetricsStatistics:
        """Return a snapshot that later counting does not change."""
        values: dict[str, Any] = {}
        for attribute in attrs.fields(type(self)):
            value = getattr(self, attribute.name)
            values[attribute.name] = Counter(value) if isinstance(value, Counter) else value
        return MetricsStatistics(**values)


_DERIVED: Final = (
    ("connections_current", "TCP connections open now."),
    ("sessions_current", "Sessions connected now."),
)


Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order shown."""

Sample = tuple[Labels, float]


def render(metrics: Metrics | MetricsStatistics) -> str:
    """Return the numbers in Prometheus' text format 0.0.4 (``text/plain; version=0.0.4``), in a fixed order.

    Counters are called ``trio_stomp_NAME_total``, gauges ``trio_stomp_NAME``. Label values are sorted.
    """
    families: list[str] = []
    for attribute in attrs.fields(type(metrics)):
        series: Series = attribute.metadata[METADATA_KEY]
        suffix = "_total" if series.kind == "counter" else ""
        value = getattr(metrics, attribute.name)
        samples: list[Sample] = [((), value)]
        if series.label is not None:
            samples = [(((series.label, label),), value[label]) for label in sorted(value)]
        families.append(family(f"trio_stomp_{attribute.name}{suffix}", series.kind, series.help, samples))
    for derived, help in _DERIVED:
        families.append(family(f"trio_stomp_{derived}", "gauge", help, [((), getattr(metrics, derived))]))
    return "".join(families)


def family(name: str, kind: str, help: str, samples: Iterable[Sample]) -> str:
    """Return one metric in Prometheus' text format: its help, its type, a line for each sample."""
    lines = (f"{name}{_labels(labels)} {value}\n" for labels, value in samples)
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n{''.join(lines)}"


def histogram_family(name: str, help: str, samples: Iterable[tuple[Labels, HistogramStatistics]]) -> str:
    """Return histograms as one metric in Prometheus' text format, where buckets are cumulative."""
    lines: list[str] = []
    for labels, histogram in samples:
        cumulative = itertools.accumulate(histogram.counts)
        for bound, count in zip((*BOUNDS, math.inf), cumulative, strict=True):
            le = "+Inf" if bound == math.inf else f"{bound:g}"
            lines.append(f"{name}_bucket{_labels((*labels, ('le', le)))} {count}\n")
        lines.append(f"{name}_sum{_labels(labels)} {histogram.sum:.6f}\n")
        lines.append(f"{name}_count{_labels(labels)} {histogram.count}\n")
    return f"# HELP {name} {help}\n# TYPE {name} histogram\n{''.join(lines)}"


def _labels(labels: Labels) -> str:
    """As ``{pool="x",le="0.1"}``; values are of our own code, and need no escaping."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
