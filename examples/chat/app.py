"""A chat in rooms, with a page: `make run`, then http://127.0.0.1:8080/ in two windows.

By hand, from the repository's root (it holds `examples` and `node_modules`):

    trio-stomp serve examples.chat.app:app \
        --static /=examples/chat/page,/stompjs=node_modules/@stomp/stompjs/bundles

How a page joins a room without missing or doubling a message: it first subscribes to
``/topic/chat/{room}`` (from then on it gets what is said), then to ``/app/chat/{room}`` (which
answers with what was said before), and drops what came both ways by its id.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator

import attrs

from trio_stomp import ConnectRefused, ConnectRequest, StompApp, User

HISTORY = 50
"""Messages of a room that a newcomer is shown."""
ROOMS = 1000
"""Rooms whose messages are kept; past it, the one in which nothing was said for longest is forgotten."""
NICKNAME_LENGTH = 24
TEXT_LENGTH = 2000


@attrs.frozen
class Say:
    """What a client sends to a room."""

    text: str = attrs.field(validator=[attrs.validators.min_len(1), attrs.validators.max_len(TEXT_LENGTH)])


@attrs.frozen
class Said:
    """What everybody in the room gets."""

    id: int
    """Counts up in the order of speaking, in all rooms together; starts anew with the server."""
    user: str
    text: str
    at: float
    """Seconds since 1970, UTC."""


@attrs.frozen
class Place:
    """Where somebody wants to know the weather."""

    place: str = attrs.field(validator=[attrs.validators.min_len(1), attrs.validators.max_len(100)])


@attrs.frozen
class Forecast:
    """What the weather service says; the time it took is in seconds."""

    place: str
    text: str
    took: float


class Rooms:
    """The last messages of each room. Only touched in the event loop, so it needs no lock."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._said: OrderedDict[str, deque[Said]] = OrderedDict()

    def add(self, room: str, user: str, text: str) -> Said:
        """Keep what was said; gives it its id and time."""
        said = Said(next(self._ids), user, text, time.time())
        self._said.setdefault(room, deque(maxlen=HISTORY)).append(said)
        self._said.move_to_end(room)
        if len(self._said) > ROOMS:
            self._said.popitem(last=False)
        return said

    def recent(self, room: str) -> list[Said]:
        """The last messages, the oldest first."""
        return list(self._said.get(room, ()))


app = StompApp()

# A bulkhead: however slow the weather service is, it holds up eight threads and nothing else.
weather_pool = app.pool("weather", threads=8)


@app.lifespan
async def rooms() -> AsyncIterator[Rooms]:
    """What is kept as long as the app is served; handlers ask for it by its type."""
    yield Rooms()


@app.on_connect
async def nickname(request: ConnectRequest) -> User:
    """Take the login for a nickname. A real app would check the passcode here."""
    name = (request.login or "").strip()
    if not 1 <= len(name) <= NICKNAME_LENGTH:
        raise ConnectRefused(f"the login is your nickname: 1 to {NICKNAME_LENGTH} characters")
    return User(name)


@app.on_subscribe("/app/chat/{room}")
async def recent(room: str, rooms: Rooms) -> list[Said]:
    """Answer the newcomer, and nobody else, with the room's last messages."""
    return rooms.recent(room)


@app.on_message("/app/chat/{room}", send_to="/topic/chat/{room}")
async def say(room: str, message: Say, user: User, rooms: Rooms) -> Said:
    """Keep it first, then it is published: so it is in the snapshot, or follows it, or both."""
    return rooms.add(room, user.name, message.text)


# `concurrency`: a session's messages are otherwise handled one after the other, and whoever asks
# could not chat until the answer is there. `broadcast=False`: it goes to the window that asked.
@app.on_message(
    "/app/weather",
    send_to_user="/queue/weather",
    broadcast=False,
    pool=weather_pool,
    concurrency=8,
    timeout=5,
)
def weather(question: Place) -> Forecast:
    """Ask a slow service. A plain ``def``: it runs in a thread of its pool, where it may block."""
    started = time.monotonic()
    # Stands in for the call of an external API, as `requests.get(...)` would be: it blocks this thread.
    time.sleep(1.0)
    skies = ("sunny", "cloudy", "rain", "snow", "a rainbow")
    sky = skies[sum(question.place.lower().encode()) % len(skies)]
    return Forecast(question.place, sky, time.monotonic() - started)
