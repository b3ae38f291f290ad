"""The index of subscriptions, held against `Pattern.matches`, which knows no tree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_stomp.broker.commands import Encoding, Subscriber
from trio_stomp.broker.subscriptions import Subscription, SubscriptionIndex
from trio_stomp.channels.outbox import Outbox
from trio_stomp.config import OutboxConfig
from trio_stomp.stomp.destinations import Pattern
from trio_stomp.stomp.frames import Version


def subscription(destination: str, key: str = "1") -> Subscription:
    subscriber = Subscriber(
        session_id="s",
        user_name="s",
        encoding=Encoding(Version.V1_2, lambda length, is_text: b""),
        outbox=Outbox(OutboxConfig()),
        overflowed=lambda limit: None,
        refused=lambda frame, error: None,
    )
    subscriber.outbox.close()
    return Subscription(subscriber, key, destination, b"")


SEGMENT = st.sampled_from(["", "a", "b", "*", "c.d"])
DESTINATION = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda segments: "/" + "/".join(segments))
PATTERN = st.builds(lambda start, rest: start + rest, DESTINATION, st.sampled_from(["", "/**"]))
SPREAD = st.one_of(PATTERN, st.sampled_from(["**", "*", "/**", "/*", "*/**"]))


def index_of(*subscriptions: Subscription, separator: str = "/") -> SubscriptionIndex:
    index = SubscriptionIndex(separator)
    for each in subscriptions:
        index.add(each)
    return index


def destinations(index: SubscriptionIndex, destination: str) -> list[str]:
    return [found.destination for found in index.match(destination)]


@given(st.lists(SPREAD, max_size=8), DESTINATION)
def test_the_index_finds_what_each_pattern_by_itself_matches_and_each_once(
    patterns: list[str], destination: str
) -> None:
    subscriptions = [subscription(pattern) for pattern in patterns]
    found = list(index_of(*subscriptions).match(destination))
    assert len(found) == len(set(found))
    assert set(found) == {
        each for each in subscriptions if Pattern.parse(each.destination).matches(destination)
    }


@given(st.lists(SPREAD, max_size=8), st.data())
def test_what_was_added_and_removed_leaves_nothing_behind(patterns: list[str], data: st.DataObject) -> None:
    index = SubscriptionIndex()
    empty = index._root.children, index._root.rest, index._root.here, index._exact
    subscriptions = [subscription(pattern) for pattern in patterns]
    for each in subscriptions:
        index.add(each)
    assert len(index) == len(subscriptions)
    for each in data.draw(st.permutations(subscriptions)):
        index.remove(each)
    assert len(index) == 0
    assert not any(empty)


@given(st.lists(SPREAD, min_size=1, max_size=8), st.data(), DESTINATION)
def test_removing_one_leaves_the_others_where_they_were(
    patterns: list[str], data: st.DataObject, destination: str
) -> None:
    subscriptions = [subscription(pattern) for pattern in patterns]
    index = index_of(*subscriptions)
    gone = data.draw(st.sampled_from(subscriptions))
    before = [each for each in index.match(destination) if each is not gone]
    index.remove(gone)
    assert list(index.match(destination)) == before


@given(SPREAD, SPREAD)
def test_removing_what_is_not_there_changes_nothing(there: str, not_there: str) -> None:
    index = index_of(subscription(there))
    index.remove(subscription(not_there))
    assert len(index) == 1
    index.remove(subscription(not_there))
    assert len(index) == 1


def test_a_group_is_in_order_of_subscribing() -> None:
    first, second, third = (subscription("/topic/a", key) for key in "123")
    index = index_of(first, second, third)
    assert list(index.match("/topic/a")) == [first, second, third]


def test_the_separator_can_be_a_dot() -> None:
    index = index_of(subscription("/topic/a.*"), subscription("/topic/a.**"), separator=".")
    assert destinations(index, "/topic/a.b") == ["/topic/a.**", "/topic/a.*"]
    assert destinations(index, "/topic/a/b") == []


def test_turns_go_round_among_exact_subscriptions() -> None:
    one, two = subscription("/queue/a", "1"), subscription("/queue/a", "2")
    index = index_of(one, two)
    assert [*index.next_in_turn("/queue/a")] == [one]
    assert [*index.next_in_turn("/queue/a")] == [two]
    assert [*index.next_in_turn("/queue/a")] == [one]


def test_turns_go_round_among_patterns_too() -> None:
    one, two = subscription("/queue/*", "1"), subscription("/queue/**", "2")
    index = index_of(one, two)
    got = [next(iter(index.next_in_turn("/queue/a"))) for _ in range(4)]
    assert got.count(one) == got.count(two) == 2


def test_turns_go_round_between_exact_subscriptions_and_patterns() -> None:
    one, two = subscription("/queue/a", "1"), subscription("/queue/*", "2")
    index = index_of(one, two)
    got = [next(iter(index.next_in_turn("/queue/a"))) for _ in range(4)]
    assert got.count(one) == got.count(two) == 2


def test_there_is_no_turn_without_subscriptions() -> None:
    assert not list(SubscriptionIndex().next_in_turn("/queue/a"))
