"""The server's own numbers: reading ``/metrics``, in Prometheus' text format.

Rule: what cannot be read, or is not there, is None, and the test goes on.
"""

from __future__ import annotations

import itertools
import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import h11
import trio

from trio_stomp.errors import TrioStompError
from trio_stomp.stress.endpoint import Endpoint

logger = logging.getLogger("trio_stomp.stress")

TIMEOUT: Final = 5.0
"""Seconds; a server whose event loop is late by more is not going to tell."""
_LONGEST: Final = 4 << 20
"""Bytes of an answer; a server of ours sends some 20 KiB, and 3 KiB for each pool."""
_PATH: Final = "/metrics"

_SAMPLE: Final = re.compile(
    r'([a-zA-Z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+(\S+)(?:[ \t].*)?'
)
_LE: Final = re.compile(r'(?:^|,)\s*le="([^"]*)"')

Buckets = Sequence[tuple[float, float]]
"""Upper bounds in rising order, and how many were at most that."""


@attrs.frozen
class Sample:
    """The numbers at one moment.

    Attributes:
        totals: by name; the samples with different labels (the pools') added up.
        buckets: of histograms, by name without ``_bucket``.
    """

    totals: Mapping[str, float]
    buckets: Mapping[str, Buckets]


def parse(text: str) -> Sample:
    """Return what the page says; lines that make no sense are left out."""
    totals: dict[str, float] = {}
    counts: dict[str, dict[float, float]] = {}
    for line in text.splitlines():
        found = _SAMPLE.fullmatch(line.strip())
        if found is None:
            continue  # a comment, a blank line, or nonsense
        name, labels, shown = found.groups()
        try:
            value = float(shown)
            le = _LE.search(labels or "")
            if le is not None and name.endswith("_bucket"):
                bound = float(le[1])
                of_name = counts.setdefault(name.removesuffix("_bucket"), {})
                of_name[bound] = of_name.get(bound, 0.0) + value
            else:
                totals[name] = totals.get(name, 0.0) + value
        except ValueError:
            continue
    return Sample(totals, {name: sorted(of_name.items()) for name, of_name in counts.items()})


def grown(name: str, first: Sample | None, last: Sample | None) -> float | None:
    """Return by how much a counter has grown; None when it is not in both."""
    if first is None or last is None or name not in first.totals or name not in last.totals:
        return None
    return last.totals[name] - first.totals[name]


def quantile(name: str, share: float, first: Sample, last: Sample) -> float | None:
    """Return the value that ``share`` of what a histogram got in between does not exceed.

    Between two bounds it is interpolated; above the last it is the last. None: it is not in both, or got
    nothing.
    """
    before = dict(first.buckets.get(name, ()))
    counts = [(bound, count - before.get(bound, 0.0)) for bound, count in last.buckets.get(name, ())]
    if not before or not counts or counts[-1][1] <= 0:
        return None
    target = share * counts[-1][1]
    for (lower, below), (bound, count) in itertools.pairwise([(0.0, 0.0), *counts]):
        if count >= target and count > below:
            width = 0.0 if math.isinf(bound) else bound - lower
            return lower + width * (target - below) / (count - below)
    return None  # counts that fall: no histogram


async def scrape(endpoint: Endpoint) -> Sample | None:
    """Return what ``/metrics`` says on the endpoint's host and port; None when it cannot be read."""
    problem: object = f"no answer within {TIMEOUT:g} seconds"
    with trio.move_on_after(TIMEOUT):
        try:
            return parse(await _get(endpoint))
        except (OSError, ValueError, TrioStompError, trio.BrokenResourceError, h11.ProtocolError) as error:
            problem = error
    logger.info("the server's %s cannot be read: %s", _PATH, problem)
    return None


async def _get(endpoint: Endpoint) -> str:
    """One request on a connection of its own.

    Raises:
        ValueError: the answer is not what was asked for.
    """
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(
        method="GET", target=_PATH, headers=[("Host", endpoint.authority), ("Connection", "close")]
    )
    async with await endpoint.dial() as stream:
        await stream.send_all(connection.send(request) or b"")
        connection.send(h11.EndOfMessage())  # no bytes: a GET ends with its head
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            elif isinstance(event, h11.Response) and event.status_code != 200:
                raise ValueError(f"HTTP status {event.status_code}")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _LONGEST:
                    raise ValueError(f"an answer of more than {_LONGEST:,} bytes")
            elif not isinstance(event, h11.Response | h11.InformationalResponse):
                return body.decode()
