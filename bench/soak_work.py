"""Those who load the server in a soak test: steady ones, whose every message counts, and passers-by.

Rule 1: chance comes from the seed alone.  Rule 2: a steady client's loss is a fault; what becomes of the
others is counted.
"""

from __future__ import annotations

import collections
import itertools
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from soak_checks import Latencies, Queue, Stream
from soak_wire import Connection, Farewell, Lost

from trio_stomp.groups import bare_errors
from trio_stomp.stomp.frames import Frame

BULK = 32 * 1024
"""Bytes of a message on /topic/bulk, which those who stall don't read."""

PARTS = ("topics", "replies", "queues", "churn", "stalls")


class Load:
    """All of them.

    Args:
        rate: of everything, 1 being what the tables were made with.
        parts: of `PARTS`, those that take part.

    Attributes:
        confirmed: the highest number whose receipt came, by topic.
        streams: subscribers, each with the topics that it listens to; and requesters, with their own.
        latencies: of deliveries, from being sent.
        lateness: by how much this process was late itself, which is the machine's doing.
        counts: what was done, by what.
        surprises: what became of steady clients that should have stayed.
    """

    def __init__(self, url: str, seed: int, rate: float, parts: frozenset[str]) -> None:
        self._url = url
        self._seed = seed
        self._rate = rate
        self._parts = parts
        self._over = trio.Event()
        self._leaving = trio.Event()
        self._began = trio.current_time()
        self.confirmed: dict[str, int] = {}
        self.streams: list[tuple[Stream, frozenset[str]]] = []
        self.queue = Queue()
        self.latencies = Latencies()
        self.lateness = Latencies()
        self.counts: collections.Counter[str] = collections.Counter()
        self.surprises: list[str] = []

    async def run(self, seconds: float, settle: float) -> None:
        """Load for ``seconds``, then have everything arrive, for ``settle`` at most, and all leave."""
        async with trio.open_nursery() as steady:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_after, seconds)
                nursery.start_soon(self._watch_itself)
                if "topics" in self._parts:
                    for name in ("one", "two", "three", "bulk"):
                        self.confirmed[f"/topic/soak/{name}"] = 0
                    everything = frozenset(self.confirmed)
                    for name in everything:
                        await self._listen(steady, name, frozenset([name]))
                    await self._listen(steady, "/topic/soak/*", everything)
                    for name in sorted(everything):
                        nursery.start_soon(self._publish, name, name.endswith("bulk"))
                if "replies" in self._parts:
                    for index in range(4):
                        steady.start_soon(
                            self._request, f"echo{index}", "/app/echo/ada", "/user/queue/echo", 20.0
                        )
                        steady.start_soon(
                            self._request, f"work{index}", "/app/work", "/user/queue/work", 10.0
                        )
                if "queues" in self._parts:
                    for index in range(2):
                        await self._consume(steady, index)
                    nursery.start_soon(self._produce)
                    nursery.start_soon(self._crash)
                if "churn" in self._parts:
                    for index in range(12):
                        nursery.start_soon(self._churn, index)
                if "stalls" in self._parts:
                    for index in range(3):
                        nursery.start_soon(self._stall, index)
            with trio.move_on_after(settle):
                while self.missing():  # noqa: ASYNC110  (many tasks lessen it, and it is asked once)
                    await trio.sleep(0.05)
            self._leaving.set()

    def missing(self) -> int:
        """How many confirmed messages have not come to where they were to come."""
        missing = sum(
            stream.missing({name: self.confirmed[name] for name in names}) for stream, names in self.streams
        )
        return missing + (self.queue.missing + len(self.queue.given - self.queue.settled))

    # Steady ones.

    async def _publish(self, topic: str, is_bulk: bool) -> None:
        """Numbered messages, each with its receipt; some in transactions, of which some are taken back."""
        chance = random.Random(f"{self._seed} {topic}")
        numbers = itertools.count(1)
        async with self._connected() as (wire, nursery):
            allowed = trio.Semaphore(8)

            async def confirm(number: int, body: bytes) -> None:
                try:
                    await wire.send(topic, body, receipt=True)
                    self.confirmed[topic] = max(self.confirmed[topic], number)
                    self.counts["publishes confirmed"] += 1
                except Lost as error:
                    self.surprises.append(f"publisher of {topic}: {error}")
                finally:
                    allowed.release()

            def body(number: int) -> bytes:
                size = BULK if is_bulk else int(chance.lognormvariate(5, 1.2))
                return b"%s %d %.6f " % (topic.encode(), number, trio.current_time()) + b"x" * min(size, BULK)

            with self._expecting(f"publisher of {topic}"):
                async for _ in self._paced(chance, 20.0 if is_bulk else 60.0):
                    if chance.random() < 0.02:
                        commits = chance.random() < 0.7
                        batch = [next(numbers) for _ in range(3)] if commits else [0, 0, 0]
                        for _ in range(8):  # what is before it is confirmed before it
                            await allowed.acquire()
                        await wire.transaction([(topic, body(each)) for each in batch], commits=commits)
                        for _ in range(8):
                            allowed.release()
                        if commits:
                            self.confirmed[topic] = batch[-1]
                        self.counts["transactions " + ("committed" if commits else "aborted")] += 1
                    else:
                        await allowed.acquire()
                        number = next(numbers)
                        # In order: each task's write waits for the connection's lock, which is fair.
                        nursery.start_soon(confirm, number, body(number))
                        await trio.lowlevel.checkpoint()
                for _ in range(8):
                    await allowed.acquire()

    async def _listen(self, nursery: trio.Nursery, destination: str, topics: frozenset[str]) -> None:
        stream = Stream(destination)
        self.streams.append((stream, topics))

        def take(message: Frame) -> None:
            topic, number, sent, _ = message.body.split(b" ", 3)
            now = trio.current_time()
            self.latencies.record(now - self._began, now - float(sent))
            stream.see(topic.decode(), int(number))
            self.counts["deliveries"] += 1

        await nursery.start(self._stay, f"subscriber of {destination}", destination, take, {})

    async def _request(self, name: str, destination: str, queue: str, rate: float) -> None:
        """Requests with a receipt to a handler; each is answered once, in order."""
        chance = random.Random(f"{self._seed} {name}")
        stream = Stream(name)
        self.confirmed[name] = 0
        self.streams.append((stream, frozenset([name])))

        def take(message: Frame) -> None:
            stream.see(name, json.loads(message.body)["number"])
            self.counts["replies"] += 1

        async with self._connected(take) as (wire, _):
            with self._expecting(f"requester {name}"):
                await wire.subscribe(queue)
                number = 0
                async for _ in self._paced(chance, rate):
                    number += 1
                    body = json.dumps({"number": number, "pad": "x" * chance.randrange(200)}).encode()
                    await wire.send(destination, body, {"content-type": "application/json"}, receipt=True)
                    self.confirmed[name] = number
                await self._leaving.wait()

    async def _produce(self) -> None:
        chance = random.Random(f"{self._seed} produce")
        async with self._connected() as (wire, _):
            with self._expecting("producer"):
                async for _ in self._paced(chance, 40.0):
                    number = self.queue.confirmed + 1
                    await wire.send("/queue/soak", b"%d" % number, receipt=True)
                    self.queue.confirmed = number
                    self.counts["queue messages confirmed"] += 1

    async def _consume(self, nursery: trio.Nursery, index: int) -> None:
        """Acknowledge each message, or hand it back once in a while."""
        chance = random.Random(f"{self._seed} consume {index}")
        due, messages = trio.open_memory_channel[tuple[Frame, bool]](100_000)

        def take(message: Frame) -> None:
            number = int(message.body)
            self.queue.see(number, is_redelivered="redelivered" in message.headers)
            is_nack = chance.random() < 0.02
            if not is_nack:
                self.queue.settled.add(number)
            due.send_nowait((message, is_nack))

        async def answer(wire: Connection) -> None:
            with self._expecting(f"consumer {index}"):
                async for message, is_nack in messages:
                    await wire.settle(message, is_nack=is_nack)
                    self.counts["NACKs" if is_nack else "ACKs"] += 1

        mode = {"ack": "client-individual", "prefetch-count": "20"}
        await nursery.start(self._stay, f"consumer {index}", "/queue/soak", take, mode, answer)

    async def _crash(self) -> None:
        """A consumer that takes some, acknowledges none, and is reset."""
        chance = random.Random(f"{self._seed} crash")

        def take(message: Frame) -> None:
            self.queue.see(int(message.body), is_redelivered="redelivered" in message.headers)

        while not self._over.is_set():
            async with self._connected(take) as (wire, _):
                with self._expecting("crashing consumer"):
                    await wire.subscribe("/queue/soak", {"ack": "client", "prefetch-count": "10"})
                    await self._pause(chance.uniform(0.2, 1.5))
                    await wire.leave(chance.choice([Farewell.RESET, Farewell.TORN, Farewell.FIN]))
                    self.counts["consumers crashed"] += 1
            await self._pause(chance.uniform(0.1, 1.0))

    async def _stay(
        self,
        what: str,
        destination: str,
        take: Callable[[Frame], None],
        headers: dict[str, str],
        also: Callable[[Connection], Awaitable[None]] | None = None,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Subscribe, and stay to the end."""
        async with self._connected(take) as (wire, nursery):
            with self._expecting(what):
                await wire.subscribe(destination, headers)
                if also is not None:
                    nursery.start_soon(also, wire)
                task_status.started()
                await self._leaving.wait()
                if wire.failure is not None:
                    raise Lost(wire.failure)

    # Those that come and go.

    async def _churn(self, index: int) -> None:
        chance = random.Random(f"{self._seed} churn {index}")
        places = (
            "/topic/soak/*",
            "/topic/soak/two",
            "/topic/**",
            "/topic/{}",
            "/user/queue/echo",
            "/app/hello",
            "/queue/{}",
        )
        while not self._over.is_set():
            try:
                async with self._connected() as (wire, _):
                    self.counts["connects"] += 1
                    ids = []
                    for _ in range(chance.randrange(5)):
                        place = chance.choice(places).format(chance.randrange(1000))
                        ids.append((place, await wire.subscribe(place)))
                        self.counts["subscribes"] += 1
                    for _ in range(chance.randrange(3)):
                        where = f"/topic/{chance.randrange(1000)}"
                        await wire.send(where, b"x" * chance.randrange(3000), receipt=True)
                    await self._pause(chance.expovariate(2.0))
                    for place, id in ids:
                        if chance.random() < 0.5 and not place.startswith("/app/"):
                            await wire.unsubscribe(id)
                    how = chance.choice(list(Farewell))
                    await wire.leave(how)
                    self.counts[f"left: {how.value}"] += 1
            except Lost as error:
                if "too slow" in str(error):  # it has subscribed to more than this process has time for
                    self.counts["churn: cut off as too slow"] += 1
                else:
                    self.surprises.append(f"churning client: {error}")

    async def _stall(self, index: int) -> None:
        """Subscribe to what is large, stop reading, and read on later, or be gone."""
        chance = random.Random(f"{self._seed} stall {index}")
        while not self._over.is_set():
            try:
                async with self._connected(window=4096) as (wire, _):
                    await wire.subscribe("/topic/soak/bulk")
                    wire.stall()
                    await self._pause(chance.uniform(0.5, 12.0))
                    if chance.random() < 0.5:
                        wire.resume()
                        await self._pause(1.0)
                    outcome = "cut off as too slow" if wire.failure else "kept"
                    self.counts[f"stalls: {outcome}"] += 1
                    await wire.leave(chance.choice([Farewell.RESET, Farewell.FIN]))
            except Lost as error:
                self.surprises.append(f"stalling client: {error}")
            await self._pause(0.1)

    # Helpers.

    @asynccontextmanager
    async def _connected(
        self, take: Callable[[Frame], None] = lambda message: None, *, window: int | None = None
    ) -> AsyncIterator[tuple[Connection, trio.Nursery]]:
        """A connection, gone at the end, with the nursery of those who use it."""
        wire = Connection(self._url, take, window=window)
        with bare_errors():
            async with trio.open_nursery() as nursery:
                await nursery.start(wire.run)
                yield wire, nursery
                if not wire.has_left:
                    await wire.leave(Farewell.DISCONNECT)
                nursery.cancel_scope.cancel()

    @contextmanager
    def _expecting(self, what: str) -> Iterator[None]:
        """Note the loss of a client that should have stayed."""
        try:
            yield
        except Lost as error:
            self.surprises.append(f"{what}: {error}")

    async def _watch_itself(self) -> None:
        while not self._over.is_set():
            due = trio.current_time() + 0.02
            await trio.sleep_until(due)
            self.lateness.record(due - self._began, trio.current_time() - due)

    async def _end_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self._over.set()

    async def _pause(self, seconds: float) -> None:
        with trio.move_on_after(max(seconds, 0)):
            await self._over.wait()

    async def _paced(self, chance: random.Random, rate: float) -> AsyncIterator[None]:
        """Yield at random times, ``rate`` a second on the average, until it is over."""
        due = trio.current_time()
        while not self._over.is_set():
            due += chance.expovariate(rate * self._rate)
            await self._pause(due - trio.current_time())
            if not self._over.is_set():
                yield
