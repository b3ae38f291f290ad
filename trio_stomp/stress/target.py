"""The server that is tested: one that runs already, or a process of our own.

Rule 1: a process of our own never outlives its context, however that is left.
Rule 2: what it writes to standard error is kept, as much as tells why it ended, and is read on, so that it
never waits for us.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Final

import trio

from trio_stomp.groups import bare_errors
from trio_stomp.stress.endpoint import Endpoint, endpoint_at
from trio_stomp.stress.plan import Plan, StressError

START_TIMEOUT: Final = 30.0
"""Seconds from the process's start to its line; apps that load models or warm caches take some."""
_READY: Final = b"trio-stomp listening on "
_PATIENCE: Final = 3.0
"""Seconds for the end without delay (SIGINT), again for the one at once (a second signal), then SIGKILL."""
_SHORT: Final = 0.5
"""Seconds for what should be there at once."""
_EXIT: Final = 3.0
"""Seconds for the exit of a process that closed its connections; a busy machine takes its time."""
_KEPT: Final = 4096
"""Bytes of standard error, the last ones: a traceback's end with its exception."""


@contextlib.asynccontextmanager
async def open_target(plan: Plan, threads: int | None = None) -> AsyncIterator[Endpoint]:
    """Give the endpoint of the plan's target; ``MODULE:APP`` is served for as long as the context lasts.

    ``threads`` is the size of the pool that the plan sweeps.

    Raises:
        StressError: the server did not start, or ended before the context did; with what it said.
    """
    if plan.is_url:
        yield endpoint_at(plan.target)
        return
    # In a process group of its own: Ctrl-C at a terminal reaches us alone, and it ends when we say so.
    process = await trio.lowlevel.open_process(
        command(plan, threads),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    server = _Server(process)
    try:
        with bare_errors():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.keep_reading)
                url = await server.wait_ready()
                nursery.start_soon(server.watch, nursery.cancel_scope)
                try:
                    yield endpoint_at(url, is_ours=True)
                except StressError:
                    # What is seen from outside may be its end, which is told with the reason.
                    with trio.move_on_after(_EXIT):
                        await process.wait()
                    if process.returncode is None:
                        raise
                    server.has_ended = True
                nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await server.end()
    if server.has_ended:
        raise StressError(f"the server ended with {_exit(process)} while it was tested{server.last_words()}")


def command(plan: Plan, threads: int | None) -> list[str]:
    """Return the command line of the server."""
    assert threads is None or plan.sweep is not None
    words = [sys.executable, "-m", "trio_stomp", "serve", plan.target]
    words += ["--host", "127.0.0.1", "--port", "0", "--log-level", "warning"]
    if plan.config is not None:
        words += ["--config", str(plan.config)]
    for pair in plan.settings:
        words += ["--set", pair]
    if plan.sweep is not None and threads is not None:
        words += ["--set", f"pools.{plan.sweep.pool}.threads={threads}"]
    return words


class _Server:
    """A process that serves, and what it writes.

    Attributes:
        has_ended: it ended by itself.
    """

    def __init__(self, process: trio.Process) -> None:
        self.has_ended = False
        self._process = process
        self._url: str | None = None
        self._ready = trio.Event()
        self._said = bytearray()

    async def keep_reading(self) -> None:
        """Read both outputs to their ends; a full pipe would stop the server."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_output)
            nursery.start_soon(self._read_errors)
        self._ready.set()  # it is not going to tell any more

    async def wait_ready(self) -> str:
        """Return the URL once the server listens.

        Raises:
            StressError: it ended, or did not tell in time.
        """
        with trio.move_on_after(START_TIMEOUT):
            await self._ready.wait()
            if self._url is not None:
                return self._url
            with trio.move_on_after(_SHORT):
                await self._process.wait()
            raise StressError(f"the server did not start: {_exit(self._process)}{self.last_words()}")
        raise StressError(f"the server did not listen within {START_TIMEOUT:g} seconds{self.last_words()}")

    async def watch(self, scope: trio.CancelScope) -> None:
        """Cancel ``scope`` when the process ends by itself."""
        await self._process.wait()
        self.has_ended = True
        scope.cancel()

    async def end(self) -> None:
        """End the process, if it runs, and read what it still says; takes some seconds at the most."""
        process = self._process
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_output)
            nursery.start_soon(self._read_errors)
            for number in (signal.SIGINT, signal.SIGTERM):
                if process.poll() is None:
                    process.send_signal(number)
                    with trio.move_on_after(_PATIENCE):
                        await process.wait()
            if process.poll() is None:
                process.kill()
            await process.wait()
            # A child of its own may hold the pipes open.
            nursery.cancel_scope.deadline = trio.current_time() + _SHORT
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            await pipe.aclose()

    def last_words(self) -> str:
        """Return the end of what it wrote to standard error, as the end of a message."""
        text = bytes(self._said[-_KEPT:]).decode("utf-8", "replace").strip()
        return f":\n{text}" if text else ""

    async def _read_output(self) -> None:
        assert self._process.stdout is not None
        line = b""
        async for data in self._process.stdout:
            if self._url is None:
                *lines, line = (line + data).split(b"\n")
                for whole in lines:
                    if whole.startswith(_READY):
                        self._url = whole.removeprefix(_READY).decode().strip()
                        self._ready.set()

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for data in self._process.stderr:
            self._said += data
            del self._said[: -2 * _KEPT]


def _exit(process: trio.Process) -> str:
    code = process.returncode
    if code is None:
        return "no exit"
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
