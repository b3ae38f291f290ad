"""Which subscriptions a destination reaches.

Exact destinations are one dictionary look-up. Patterns live in a tree of segments, walked
along the destination, so that a message costs what its destination is long and not how many
patterns there are (CVE-2026-41848 was a matcher that did not keep to this).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs

from trio_stomp.broker.commands import Subscriber
from trio_stomp.broker.window import Window
from trio_stomp.stomp.destinations import Pattern


@attrs.define(eq=False)
class Subscription:
    """One subscription of one session.

    Attributes:
        opening: what a MESSAGE for it starts with, encoded: the command and the
            ``subscription`` header; None for one that acknowledges: each of its MESSAGEs starts otherwise.
        window: what it has not acknowledged; None for one that need not (ack mode ``auto``).
        turn: when it was last served by `SubscriptionIndex.next_in_turn`; 0 never.
    """

    subscriber: Subscriber
    key: str
    destination: str
    opening: bytes | None
    window: Window | None = None
    turn: int = 0


Group = dict[Subscription, None]  # a set that keeps its order


@attrs.define(eq=False)
class _Node:
    """One segment's place in the tree of patterns."""

    children: dict[str, _Node] = attrs.field(factory=dict)
    here: Group = attrs.field(factory=dict)  # patterns that end here
    rest: Group = attrs.field(factory=dict)  # patterns that end in ** after this


class SubscriptionIndex:
    """Subscriptions by destination; for the broker task alone.

    Args:
        separator: between a destination's segments.
    """

    def __init__(self, separator: str = "/") -> None:
        self._separator = separator
        self._exact: dict[str, Group] = {}
        self._root = _Node()
        self._patterns = 0
        self._turns = 0

    def __len__(self) -> int:
        return sum(map(len, self._exact.values())) + self._patterns

    def add(self, subscription: Subscription) -> None:
        """Index one subscription, under the exact destination or pattern that it names.

        Raises:
            DestinationError: the pattern is malformed; nothing was added then.
        """
        if Pattern.parse(subscription.destination, self._separator).is_exact:
            self._exact.setdefault(subscription.destination, {})[subscription] = None
            return
        group = self._walk(subscription.destination)
        group[subscription] = None
        self._patterns += 1

    def remove(self, subscription: Subscription) -> None:
        """Take one out again; empty places go with it."""
        group = self._exact.get(subscription.destination)
        if group is not None and subscription in group:
            del group[subscription]
            if not group:
                del self._exact[subscription.destination]
            return
        if self._walk(subscription.destination).pop(subscription, subscription) is None:
            self._patterns -= 1
        self._prune(subscription.destination.split(self._separator))

    def match(self, destination: str) -> Collection[Subscription]:
        """Those that a message to ``destination`` reaches, each once, oldest first in its group.

        The answer is good until the index changes.
        """
        exact = self._exact.get(destination)
        if not self._patterns:
            return exact or ()
        groups = [exact] if exact else []
        self._collect(destination.split(self._separator), groups)
        if len(groups) == 1:
            return groups[0]
        return [subscription for group in groups for subscription in group]

    def next_in_turn(self, destination: str) -> Iterable[Subscription]:
        """The one of those that `match` would give that has waited longest; none when there is none.

        Without a pattern among them it costs the same however many there are.
        """
        exact = self._exact.get(destination)
        groups: list[Group] = []
        if self._patterns:
            self._collect(destination.split(self._separator), groups)
        if groups:
            if exact:
                groups.append(exact)
            found = min((each for group in groups for each in group), key=lambda each: each.turn)
        elif exact:
            found = next(iter(exact))
        else:
            return ()
        if exact and found in exact:
            exact[found] = exact.pop(found)  # to the end of the line
        self._turns += 1
        found.turn = self._turns
        return (found,)

    def _walk(self, pattern: str) -> Group:
        node = self._root
        for segment in pattern.split(self._separator):
            if segment == "**":
                return node.rest
            node = node.children.setdefault(segment, _Node())
        return node.here

    def _collect(self, segments: list[str], groups: list[Group]) -> None:
        """Walk all branches that fit, level by level; a node is looked at once."""
        nodes = [self._root]
        for segment in segments:
            deeper: list[_Node] = []
            # A message may be sent to a destination with a "*" in it; its place is looked at once.
            names = ("*",) if segment == "*" else (segment, "*")
            for node in nodes:
                if node.rest:
                    groups.append(node.rest)
                deeper += [child for name in names if (child := node.children.get(name))]
            if not deeper:
                return
            nodes = deeper
        groups += [node.here for node in nodes if node.here]

    def _prune(self, segments: list[str]) -> None:
        """Remove the places of a pattern that nothing is left in, from the leaf upwards."""
        path = [self._root]
        for segment in segments:
            child = path[-1].children.get(segment)
            if child is None:
                break
            path.append(child)
        for depth in range(len(path) - 1, 0, -1):
            node = path[depth]
            if node.children or node.here or node.rest:
                return
            del path[depth - 1].children[segments[depth - 1]]
