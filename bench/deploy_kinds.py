"""The ways to deploy that bench/deploy.py compares: what theory says of each, and what it must reach."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from deploy_clients import STOMPJS_WAIT, Manner

RATE_LIMIT = 1.3
"""What the reconnects of any second may be, times clients / window."""
TOLERANCE = 0.1
"""How far a rolling deployment's mean may be from theory, as a share."""


@attrs.frozen(kw_only=True)
class Kind:
    """A way to deploy.

    Attributes:
        is_rolling: one server after the other, or two sets.
        balance: HAProxy's.
        manner: the clients'.
        is_paced: whether the sessions are closed over the window, or all at once.
        is_judged: whether its figures decide the exit status; others are there to compare with.
        theory: the mean number of reconnects, of the number of servers.
        without: lines of the example that are left out (`configured`).
        has_delay: whether the load balancer gets time to notice (`drain.delay`).
    """

    title: str
    is_rolling: bool
    balance: str = "leastconn"
    manner: Manner = attrs.field(factory=Manner)
    is_paced: bool = True
    is_judged: bool = True
    theory: Callable[[int], float]
    without: str = ""
    has_delay: bool = True


def round_robin(servers: int) -> float:
    """Mean reconnects of a rolling deployment: who is closed goes to any of the others, new or old."""
    n = servers
    return (n - 1) / n * ((n / (n - 1)) ** n - 1)


def least_connections(servers: int) -> float:
    """The same where who is closed goes to the server that was replaced last, which is empty."""
    return 1 + 1 / servers


def once(servers: int) -> float:
    """Mean reconnects where nobody comes back to an old server."""
    return 1.0


STOMPJS = Manner(wait=STOMPJS_WAIT, is_told=False)

KINDS = {
    "rolling-roundrobin": Kind(
        title="rolling, roundrobin", is_rolling=True, balance="roundrobin", theory=round_robin
    ),
    "rolling-leastconn": Kind(title="rolling, leastconn", is_rolling=True, theory=least_connections),
    "blue-green": Kind(title="blue/green", is_rolling=False, theory=once),
    "blue-green-stompjs": Kind(title="blue/green, as stompjs", is_rolling=False, manner=STOMPJS, theory=once),
    "blue-green-own": Kind(
        title="blue/green, reconnect=Reconnect()", is_rolling=False, manner=Manner(is_own=True), theory=once
    ),
    "blue-green-unpaced": Kind(
        title="as stompjs, all closed at once",
        is_rolling=False,
        manner=STOMPJS,
        is_paced=False,
        is_judged=False,
        theory=once,
    ),
    "rolling-no-delay": Kind(
        title="rolling, roundrobin, drain.delay 0",
        is_rolling=True,
        balance="roundrobin",
        theory=round_robin,
        is_judged=False,
        has_delay=False,
    ),
    "rolling-no-retry": Kind(
        title="the same without retry-on",
        is_rolling=True,
        balance="roundrobin",
        theory=round_robin,
        is_judged=False,
        has_delay=False,
        without="retry-on",
    ),
}


@attrs.frozen(kw_only=True)
class Result:
    """One deployment as the clients saw it. Times are seconds from its start.

    Attributes:
        theory, mean, most, fewest: reconnects of a client.
        failed, failures: attempts that did not come to CONNECTED, and why.
        requests, lost: those whose receipt came; of them, those that were not recorded.
        twice: requests that were recorded and then sent again, since their receipt had not come.
        resent: requests that were sent again, recorded before or not.
        peak_rate: the most attempts to connect in any second.
        spread: sessions of each server at the end.
        retries: what HAProxy tried on another server without the client's noticing.
        stall: the longest time between two looks, which is 0.2 s where the machine has time for us: what was
            to happen in a longer one happens at once after it.
    """

    kind: str
    title: str
    servers: int
    clients: int
    window: float
    delay: float
    seconds: float
    theory: float
    mean: float
    most: int
    fewest: int
    failed: int
    failures: dict[str, int]
    close_codes: dict[str, int]
    requests: int
    lost: int
    twice: int
    resent: int
    peak_rate: int
    stall: float
    spread: list[int]
    retries: int
    exit_statuses: list[int]
    times: list[float]
    connections: dict[str, list[int]]
    events: list[tuple[float, str]]

    def faults(self) -> list[str]:
        """What is not as it must be, in words; empty when all is well."""
        allowed = max(RATE_LIMIT * self.clients / self.window, 1.0) if self.window else float(self.clients)
        kind = KINDS[self.kind]
        found = {
            f"{self.failed} failed attempts: {self.failures}": self.failed,
            f"{self.lost} requests whose receipt was given are lost": self.lost,
            f"{self.twice} requests were done, but their receipt did not come": self.twice,
            f"exit statuses {self.exit_statuses}, expected 0": any(self.exit_statuses),
            f"{self.peak_rate} reconnects in a second, expected at most {allowed:.1f} "
            f"(the machine stood still for up to {self.stall:.1f} s)": self.peak_rate > allowed,
            f"a client reconnected {self.most} times, expected at most {self.servers}": self.most
            > self.servers,
            f"sessions at the end: {sum(self.spread)}, expected {self.clients}": sum(self.spread)
            != self.clients,
        }
        if kind.is_rolling:
            off = abs(self.mean / self.theory - 1)
            found[f"mean {self.mean:.2f} reconnects, expected {self.theory:.2f}"] = off > TOLERANCE
        else:
            found[f"{self.fewest} to {self.most} reconnects, expected 1"] = (self.fewest, self.most) != (1, 1)
        return [text for text, is_so in found.items() if is_so]
