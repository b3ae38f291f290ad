"""User destinations: filed under their user, so that nobody else's can be reached."""

from __future__ import annotations

import pytest
from test_subscriptions import subscription

from trio_stomp.broker.subscriptions import Subscription
from trio_stomp.broker.users import UserIndex, user_queue


def of_user(user: str, session: str = "s", key: str = "1") -> Subscription:
    made = subscription("/user/queue/x", key)
    made.subscriber.user_name, made.subscriber.session_id = user, session
    return made


@pytest.mark.parametrize(
    ("destination", "queue"),
    [
        ("/user/queue/x", "/queue/x"),
        ("/user/ada/queue/x", "/ada/queue/x"),
        ("/user/", "/"),
        ("/user", None),
        ("/users/queue/x", None),
        ("/topic/user/x", None),
    ],
)
def test_a_user_destination_begins_with_user(destination: str, queue: str | None) -> None:
    assert user_queue(destination) == queue


def test_all_sessions_of_a_user_match_in_order() -> None:
    index, first, second = UserIndex(), of_user("ada", "1"), of_user("ada", "2")
    index.add("/queue/x", first)
    index.add("/queue/x", second)
    assert list(index.match("ada", "/queue/x", None)) == [first, second]


def test_one_session_can_be_picked() -> None:
    index, first, second = UserIndex(), of_user("ada", "1"), of_user("ada", "2")
    index.add("/queue/x", first)
    index.add("/queue/x", second)
    assert list(index.match("ada", "/queue/x", "2")) == [second]


def test_another_users_session_cannot_be_picked() -> None:
    index, bobs = UserIndex(), of_user("bob", "2")
    index.add("/queue/x", bobs)
    assert not list(index.match("ada", "/queue/x", "2"))


def test_names_do_not_run_into_queues() -> None:
    index, found = UserIndex(), of_user("ada/queue")
    index.add("/x", found)
    assert not list(index.match("ada", "/queue/x", None))


def test_removing_the_last_leaves_nothing_behind() -> None:
    index, one = UserIndex(), of_user("ada")
    index.add("/queue/x", one)
    index.remove("/queue/x", one)
    index.remove("/queue/x", one)
    assert len(index) == 0
    assert not index._groups
