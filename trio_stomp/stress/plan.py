"""What a stress test is to do, as one value that checks itself.

Rule 1: seconds, bytes, requests per second.  Rule 2: a plan that exists can be carried out, as far as
that can be told without trying.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from trio_stomp.errors import ConfigError, TrioStompError

ERROR_QUEUE: Final = "/user/queue/errors"
"""Where a server of ours tells a session that its handler failed."""

WARM_UP: Final = 1.0
"""Seconds: enough for an app's threads, connections and caches to be there when the measuring starts."""

GRACE: Final = 3.0
"""Seconds: what is not answered by then is, for whoever waits, not answered."""

STEPS: Final = 10
"""Steps of a ramp: they tell the breaking point to a tenth of its range."""

_OURS: Final = frozenset({"destination", "receipt", "content-type", "content-length", "transaction"})
"""Headers of SEND that have a field of their own, or that the answers are matched by."""


class StressError(TrioStompError):
    """The stress test cannot go on: the server does not start, has died, or takes no connections."""


def _number(low: float, high: float, unit: str) -> Callable[[object, attrs.Attribute[Any], float], None]:
    """Return a validator: a number within these bounds, both included."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
        name = attribute.name.replace("_", "-")
        if not math.isfinite(value) or not low <= value <= high:
            raise ConfigError(f"{name} is {value!r}, expected {low:g} to {high:,.10g} {unit}".rstrip())

    return check


def _as_tuple(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(values)  # mypy does not infer a generic converter's type


@attrs.frozen
class Sweep:
    """The sizes of a pool to measure, each with a server of its own.

    Attributes:
        pool: its name.
        sizes: threads, in the order in which they are measured.
    """

    pool: str
    sizes: tuple[int, ...] = attrs.field(converter=_as_tuple)

    def __attrs_post_init__(self) -> None:
        if not self.pool:
            raise ConfigError("sweep: the pool's name is empty, expected NAME=SIZE,SIZE…")
        if not self.sizes:
            raise ConfigError(f"sweep of {self.pool!r}: no sizes, expected at least one")
        for size in self.sizes:
            if not 1 <= size <= 10_000:
                raise ConfigError(f"sweep of {self.pool!r}: size {size}, expected 1 to 10,000 threads")
        if len(set(self.sizes)) < len(self.sizes):
            shown = ",".join(map(str, self.sizes))
            raise ConfigError(f"sweep of {self.pool!r}: sizes {shown}, expected each only once")


@attrs.frozen
class Ramp:
    """Rates that rise in equal steps, until the server breaks.

    Attributes:
        start, end: requests per second of the first and the last step.
        steps: how many; each lasts for the plan's ``duration``.
    """

    start: float
    end: float
    steps: int = STEPS

    def __attrs_post_init__(self) -> None:
        if not (math.isfinite(self.end) and 0 < self.start < self.end):
            raise ConfigError(f"ramp {self.start:g}:{self.end:g}, expected a rate and a higher one")
        if self.steps < 2:
            raise ConfigError(f"ramp in {self.steps} steps, expected at least 2")

    @property
    def rates(self) -> tuple[float, ...]:
        """Return the steps' rates; whole numbers where the steps are wide enough."""
        width = (self.end - self.start) / (self.steps - 1)
        rates = [self.start + width * step for step in range(self.steps - 1)]
        return (*(round(rate) if step and width >= 1 else rate for step, rate in enumerate(rates)), self.end)


@attrs.frozen(kw_only=True)
class Plan:
    """What to send where, how fast, and what to vary.

    Attributes:
        target: ``MODULE:APP``, served by a process of our own, or a ``ws://`` or ``wss://`` URL.
        destination: of the SEND frames.
        body, content_type, headers: what each SEND holds, besides its receipt.
        reply: where the answers arrive, as ``/user/queue/receipts``; None: the RECEIPT is the answer.
        clients: connections.
        rate: requests per second of all clients together.
        duration: seconds that are measured; of each size, of each step.
        warm_up: seconds of the same load before, not measured.
        grace: seconds to wait for the last answers.
        login, passcode: of CONNECT.
        receipts: False for servers that send no RECEIPT (Spring's simple broker): the answers are then
            matched in their order, and a lost one cannot be told from a late one.
        config, settings: the file and the ``NAME=VALUE`` pairs for the server of our own.
        sweep, ramp: what to vary, one of them at the most.
    """

    target: str
    destination: str
    body: bytes = attrs.field(default=b"", repr=False)
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_as_tuple, repr=False)
    reply: str | None = None
    clients: int = attrs.field(default=50, validator=_number(1, 100_000, "connections"))
    rate: float = attrs.field(default=100.0, validator=_number(0.001, 1_000_000, "requests per second"))
    duration: float = attrs.field(default=10.0, validator=_number(0.01, 86_400, "seconds"))
    warm_up: float = attrs.field(default=WARM_UP, validator=_number(0, 3_600, "seconds"))
    grace: float = attrs.field(default=GRACE, validator=_number(0, 3_600, "seconds"))
    login: str | None = None
    passcode: str | None = attrs.field(default=None, repr=False)
    receipts: bool = True
    config: Path | None = None
    settings: tuple[str, ...] = attrs.field(default=(), converter=_as_tuple, repr=False)
    sweep: Sweep | None = None
    ramp: Ramp | None = None

    @property
    def is_url(self) -> bool:
        """Whether the server runs already."""
        return "://" in self.target

    def __attrs_post_init__(self) -> None:
        self._check_target()
        if not self.destination.startswith("/"):
            raise ConfigError(f"destination {self.destination!r}, expected one like /app/pay")
        if self.reply is not None and not self.reply.startswith("/"):
            raise ConfigError(f"reply {self.reply!r}, expected a destination like /user/queue/receipts")
        if self.reply == ERROR_QUEUE:
            raise ConfigError(f"reply {self.reply!r}: that is where errors arrive, expected another")
        if not self.receipts and self.reply is None:
            raise ConfigError("neither receipts nor a reply: nothing would ever be answered")
        for name, _ in self.headers:
            if name.lower() in _OURS:
                raise ConfigError(f"header {name!r} is set by the test itself, expected another")
        if self.sweep is not None and self.ramp is not None:
            raise ConfigError("a sweep and a ramp at once, expected one of them")
        lowest = self.rate if self.ramp is None else self.ramp.start
        if lowest * self.duration < 1:
            raise ConfigError(
                f"{lowest:g} requests per second for {self.duration:g} seconds: not even one, expected more"
            )

    def _check_target(self) -> None:
        if not self.is_url:
            module, colon, name = self.target.partition(":")
            if not (module and colon and name):
                raise ConfigError(f"target {self.target!r}, expected MODULE:APP or ws://HOST:PORT/PATH")
            return
        parts = urlsplit(self.target)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ConfigError(f"target {self.target!r}, expected ws://HOST:PORT/PATH, wss://… or MODULE:APP")
        if "@" in parts.netloc:
            raise ConfigError(f"target with a user in front of {parts.hostname}, expected login and passcode")
        for what, given in (("a sweep", self.sweep), ("a settings file", self.config)):
            if given is not None:
                raise ConfigError(
                    f"{what} for {self.target}: expected MODULE:APP, whose server is ours to set"
                )
        if self.settings:
            raise ConfigError(f"settings for {self.target}: expected MODULE:APP, whose server is ours to set")


def label_of_size(pool: str, threads: int) -> str:
    """Return a sweep's label, as ``payments=16``."""
    return f"{pool}={threads}"


def label_of_rate(rate: float) -> str:
    """Return a ramp's label, as ``300/s``."""
    return f"{rate:.10g}/s"
