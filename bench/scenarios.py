"""What is compared with other servers, and what has to be reached: two tables, nothing else.

The letters are those of issue 6 and of PERFORMANCE.md; a window is how many messages are outstanding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen
class Figure:
    """A number of the generator's row, and how a table calls it."""

    name: str
    title: str
    is_less_better: bool = False


@attrs.frozen(kw_only=True)
class Scenario:
    """One kind of work.

    Attributes:
        arguments: of the generator.
        figures: which of its numbers are shown, the first of them in plots.
        handler: destination of the requests that a handler has to answer; none: the broker alone.
        settings: more arguments of a server, by its name.
        is_fresh: a process of its own for each run, for memory.
        seconds: measured in a run; 0: as the option says.
        rounds: at most so many; 0: as the option says.
        others: the peers it is asked of; empty: all.
    """

    title: str
    arguments: Sequence[str]
    figures: Sequence[Figure]
    handler: str = ""
    settings: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    is_fresh: bool = False
    seconds: float = 0.0
    rounds: int = 0
    others: Sequence[str] = ()


DELIVERIES = Figure("deliveries_per_cpu_s", "deliveries per CPU s")
ROUND_TRIPS = Figure("roundtrips_per_cpu_s", "round trips per CPU s")
ANSWERS = Figure("roundtrips_s", "answers per s")
CORES = Figure("server_cores", "cores used", is_less_better=True)
P99 = Figure("p99_ms", "p99, ms", is_less_better=True)
IDLE = Figure("rss_per_conn_kb", "KiB of each", is_less_better=True)
CONNECTS = Figure("connects_per_cpu_s", "connects per CPU s")
MEMORY = Figure("rss_after_mb", "MiB at the end", is_less_better=True)
CUT = Figure("slow_cut", "slow ones cut off")

BROKERS = ("spring", "rabbitmq", "stomp-broker-js", "broadcast")
"""Those that are more than the raw socket."""


def _fanout(subscribers: int, window: int, body: int = 100, **more: object) -> Scenario:
    of = f", {body // 1024} KiB" if body > 100 else ""
    return Scenario(
        title=f"fan-out to {subscribers:,}, window {window}{of}",
        arguments=("fanout", "--subs", f"{subscribers}", "--window", f"{window}", "--body", f"{body}"),
        figures=(DELIVERIES,),
        **more,  # type: ignore[arg-type]  # attributes by name
    )


def _handled(window: int) -> Scenario:
    return Scenario(
        title=f"request-reply by a JSON handler, window {window}",
        arguments=("echo", "--clients", "50", "--window", f"{window}"),
        figures=(ROUND_TRIPS,),
        handler="/app/echo",
    )


def _by_topic(window: int) -> Scenario:
    """The next client's topic: stomp-broker-js gives nobody what he sends himself."""
    where = ("--dest", "/topic/e-{i}", "--send-dest", "/topic/e-{next}")
    return Scenario(
        title=f"request-reply over a topic, window {window}",
        arguments=("echo", "--clients", "50", "--window", f"{window}", *where),
        figures=(ROUND_TRIPS,),
    )


def _blocking(threads: int) -> Scenario:
    return Scenario(
        title=f"a handler that blocks for 20 ms, {threads} threads, 200 clients",
        arguments=("echo", "--clients", "200", "--window", "1", "--probe-every", "1", "--settle", "8"),
        figures=(ANSWERS,),
        handler="/app/work",
        settings={
            "ours": ("--set", f"pools.work.threads={threads}"),
            "spring": (f"--inbound={threads}",),
        },
    )


_CONNECTING = ("idle", "--clients", "2000", "--dest", "/topic/i-{i}")
_SPRING_DEFAULTS = ("--send-buffer=524288", "--send-time=10000")

SCENARIOS: Mapping[str, Scenario] = {
    "A10w64": _fanout(10, 64),
    "A100w64": _fanout(100, 64),
    "A1000w64": _fanout(1000, 64),
    "A10000w64": _fanout(10_000, 64, seconds=4.0, rounds=2, others=BROKERS),
    "A10w1": _fanout(10, 1),
    "A100w1": _fanout(100, 1),
    "A1000w1": _fanout(1000, 1),
    "A10000w1": _fanout(10_000, 1, seconds=4.0, rounds=2, others=("spring",)),
    "B1": _handled(1),
    "B16": _handled(16),
    "Bt1": _by_topic(1),
    "Bt16": _by_topic(16),
    "C": Scenario(
        title="100 messages/s to 100",
        arguments=("paced", "--rate", "100", "--subs", "100"),
        figures=(CORES, P99),
        others=BROKERS,
    ),
    "D": Scenario(
        title="2,000 idle connections, a fresh process",
        arguments=_CONNECTING,
        figures=(IDLE, CONNECTS),
        is_fresh=True,
        seconds=1.0,
        others=BROKERS,
    ),
    "Dw": Scenario(
        title="2,000 connects, a warm process",
        arguments=_CONNECTING,
        figures=(CONNECTS,),
        seconds=0.5,
        others=("spring",),
    ),
    "E4": _blocking(4),
    "E16": _blocking(16),
    "E64": _blocking(64),
    "F": Scenario(
        title="1,000 topics of one subscriber, window 1,024",
        arguments=("topics", "--subs", "1000", "--window", "1024", "--dest", "/topic/t-{i}"),
        figures=(DELIVERIES,),
        others=BROKERS,
    ),
    "G1": _fanout(100, 64, 1024),
    "G64": _fanout(100, 4, 65536, settings={"spring": ("--text-buffer=131072",)}),
    "H": Scenario(
        title="fan-out to 4,500, 500 more that read nothing, window 16, 4 KiB",
        arguments=("fanout", "--subs", "5000", "--slow", "500", "--window", "16", "--body", "4096"),
        figures=(DELIVERIES, MEMORY, CUT),
        settings={"spring": _SPRING_DEFAULTS},
        is_fresh=True,
        seconds=20.0,  # the cut is after 14; after 25 the kernel has given up telling of it
        rounds=1,
        others=BROKERS,
    ),
}


@attrs.frozen
class Target:
    """What a figure has to reach: as a ratio of ours to the peer's, or of ours alone.

    Attributes:
        is_at_most: the bound is an upper one.
        is_absolute: it is of our figure itself.
    """

    peer: str
    scenario: str
    figure: Figure
    bound: float
    is_at_most: bool = False
    is_absolute: bool = False


def _ratios(peer: str, least: Mapping[str, float]) -> list[Target]:
    return [Target(peer, key, SCENARIOS[key].figures[0], bound) for key, bound in least.items()]


_BY_HAND = {"A10w64": 2.0, "A100w64": 3.0, "A1000w64": 3.0, "Bt16": 1.0, "Bt1": 0.45}

TARGETS: Sequence[Target] = (
    *_ratios("spring", {"A10w64": 3.0, "A100w64": 6.0, "A1000w64": 7.0, "A100w1": 1.0}),
    *(Target("spring", key, P99, 1.0, is_at_most=True) for key in ("A10w64", "A100w64", "A1000w64")),
    *_ratios("spring", {"B1": 1.0, "B16": 1.5, "F": 1.0}),
    Target("spring", "C", CORES, 1.0, is_at_most=True),
    Target("spring", "C", P99, 1.0, is_at_most=True),
    Target("spring", "D", IDLE, 0.2, is_at_most=True),
    Target("spring", "D", CONNECTS, 1200.0, is_absolute=True),
    *_ratios("stomp-broker-js", _BY_HAND),
    *_ratios("broadcast", _BY_HAND),
    *_ratios("ceiling", {"A100w64": 1.0, "A1000w64": 1.0}),
)
"""Issue 6, "What it must reach"."""
