"""Who is let in: so many connections at once, so many of one address, so many new ones per second.

Rule: who is not let in learns when to come again, each another time, so that not all come at once.
"""

from __future__ import annotations

import collections
import ipaddress
import random
from collections.abc import Callable

import trio

from trio_stomp.config import AcceptConfig
from trio_stomp.metrics import Metrics
from trio_stomp.server.remote import address_of
from trio_stomp.transport.http import HttpError

_IPV6_HOST = 64
"""Bits of an IPv6 address that stand for one customer (RFC 6177): the rest is his to choose."""


class Admission:
    """Counts who is in, and takes a token from a bucket for each who comes.

    Args:
        chance: gives numbers from 0 to below 1, for the jitter of ``Retry-After``.
    """

    def __init__(
        self, config: AcceptConfig, metrics: Metrics, chance: Callable[[], float] = random.random
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._chance = chance
        self._count = 0
        self._by_address: collections.Counter[str] = collections.Counter()
        self._tokens = float(config.burst)
        self._filled_at = -1.0

    def refusal(self, reason: str) -> HttpError:
        """503, with 1 to 5 seconds to wait."""
        return HttpError(503, reason, [("Retry-After", str(1 + int(self._chance() * 5)))])

    def enter(self, remote: str) -> None:
        """Let one in, until it is said to `leave`; ``remote`` is its address, with or without port.

        Raises:
            HttpError: 503: a limit is reached; it is counted.
        """
        config = self._config
        address = _address(remote) if config.per_address else None
        if self._count >= config.connections:
            raise self._over("connections", f"{self._count} connections are open already")
        if address is not None and self._by_address[address] >= config.per_address:
            raise self._over("per_address", "too many connections are open from this address already")
        if config.rate and not self._take_token():
            raise self._over("rate", f"more than {config.rate:g} connections per second come in")
        self._count += 1
        if address is not None:
            self._by_address[address] += 1

    def leave(self, remote: str) -> None:
        """One who was let in has gone."""
        self._count -= 1
        address = _address(remote) if self._config.per_address else None
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def _over(self, limit: str, reason: str) -> HttpError:
        self._metrics.limit(f"accept.{limit}")
        return self.refusal(reason)

    def _take_token(self) -> bool:
        config, now = self._config, trio.current_time()
        if self._filled_at >= 0:
            gained = (now - self._filled_at) * config.rate
            self._tokens = min(self._tokens + gained, float(config.burst))
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _address(remote: str) -> str | None:
    """What counts as one address, of IPv6 its network; None for what has no address."""
    address = address_of(remote)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, _IPV6_HOST), strict=False))
    return None if address is None else str(address)
