"""``trio-stomp serve`` and ``check``: an app, served or looked at."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import trio

from trio_stomp.app.application import StompApp
from trio_stomp.app.routes import DEFAULT_POOL
from trio_stomp.cli.usage import EXIT_FAILED, PASSCODE, Commands, UsageError, load_app
from trio_stomp.config import LOG_LEVELS, ServerConfig
from trio_stomp.errors import TrioStompError
from trio_stomp.groups import bare_errors
from trio_stomp.server.serve import Server, serve
from trio_stomp.settings import load_config

logger = logging.getLogger("trio_stomp.cli")

_GARBAGE: Final = 50_000
"""New objects, less those gone, before the collector looks at the youngest: some MiB."""
_FILES_BESIDES: Final = 256
"""Open files besides connections: listeners, the log, what an app opens."""
_PATIENCE: Final = 10.0
"""Seconds that sessions have for ending by themselves after SIGINT."""


def add_commands(commands: Commands) -> None:
    """Add ``serve`` and ``check``."""
    serving = commands.add_parser(
        "serve",
        help="serve an app, or a plain broker",
        description="Serve an app or, without MODULE:APP, a plain broker. Prints one line with its URL once "
        "it listens, and another where it speaks STOMP over TCP. SIGTERM drains it (settings drain.*): "
        "sessions see through what they have read, and are closed in turn. SIGINT does so without delay, "
        "all at once. A second signal ends it at once. SIGHUP reads the settings anew: sizes of pools "
        "and the log level change at once, others take a restart. A setting is taken from the options, "
        "else from the environment (as TRIO_STOMP_PORT), else from the file of --config, else it has its "
        "default.",
    )
    serving.add_argument(
        "app", nargs="?", metavar="MODULE:APP", help="module and name of the StompApp, as chat:app"
    )
    serving.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serving.add_argument("--port", help="port to listen on; 0 for a free one (default 8080)")
    serving.add_argument(
        "--tcp-port", metavar="N", help="port for STOMP over plain TCP or TLS beside it; 0 for a free one"
    )
    serving.add_argument("--path", help="path of the WebSocket endpoint (default /ws)")
    serving.add_argument(
        "--tls-cert", metavar="FILE", help="certificate chain (PEM); needs --tls-key; URLs are then wss://"
    )
    serving.add_argument("--tls-key", metavar="FILE", help="the certificate's private key (PEM)")
    serving.add_argument(
        "--fd", metavar="N", help="listen on an inherited socket instead: its file descriptor (systemd: 3)"
    )
    serving.add_argument("--tcp-fd", metavar="N", help="the same for STOMP over TCP, instead of --tcp-port")
    serving.add_argument(
        "--reuse-port",
        action="store_true",
        help="let other processes listen on the same port, for two generations side by side",
    )
    serving.add_argument("--config", metavar="FILE", type=Path, help="file with settings (TOML)")
    serving.add_argument(
        "--origins",
        metavar="ORIGIN,...",
        help="origins besides the server's own whose pages may connect, as https://example.com; * for all",
    )
    serving.add_argument(
        "--static", metavar="PREFIX=DIR,...", help="directories whose files are served, as /=page,/lib=js"
    )
    serving.add_argument(
        "--log-level", metavar="LEVEL", help=f"least severe log lines: {', '.join(LOG_LEVELS)} (default info)"
    )
    serving.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting by its name, as outbox.bytes=1MiB; may be repeated",
    )
    serving.set_defaults(run=_serve)

    checking = commands.add_parser(
        "check",
        help="show an app's routes, pools and rules",
        description="Show an app's routes, pools and rules. Exit status 1 when a handler's parameters "
        "cannot be filled or its routes contradict each other; every mistake is told.",
    )
    checking.add_argument("app", metavar="MODULE:APP", help="module and name of the StompApp, as chat:app")
    checking.set_defaults(run=_check)


def _serve(options: argparse.Namespace) -> int:
    config = _server_config(options)
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    app = None if options.app is None else load_app(options.app)
    _allow_files(config.accept.connections)
    _calm_garbage_collection()
    return trio.run(_serve_until_signalled, app, config, options)


def _allow_files(connections: int) -> None:
    """Raise the process's own limit of open files, usually 1024, to what so many connections take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_bound = hard != resource.RLIM_INFINITY
    wanted = min(connections + _FILES_BESIDES, hard) if is_bound else connections + _FILES_BESIDES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has another limit below that
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if is_bound and hard < connections:
        text = "accept.connections is %d, but this process may open only %d files: see ulimit -n"
        logger.warning(text, connections, hard)


def _calm_garbage_collection() -> None:
    """Have the collector look when much more is alive than before, not at each change of waiting tasks.

    With Python's 700 it walks through all of some thousand sessions that wait, wake and wait again, over and
    over, for nothing: they leave no cycles. Of 10,000 with heart-beats that took half the CPU, in pauses of
    a quarter of a second, and a third of connecting them.
    """
    gc.freeze()  # modules and the app are here to stay
    gc.set_threshold(_GARBAGE, 2, 2)  # and at the older ones each second time: some 200,000 objects at most


def _server_config(options: argparse.Namespace) -> ServerConfig:
    """Put the settings together: the options, the environment and the file as it is now.

    Raises:
        ConfigError, UsageError: they cannot be used.
    """
    names = ("host", "port", "tcp_port", "path", "tls_cert", "tls_key", "origins", "static", "log_level")
    overrides: dict[str, object] = {name: getattr(options, name) for name in (*names, "fd", "tcp_fd")}
    overrides["reuse_port"] = True if options.reuse_port else None
    for pair in options.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair!r}: expected NAME=VALUE")
        overrides[name] = value
    environ = {name: value for name, value in os.environ.items() if name != PASSCODE}
    return load_config(file=options.config, environ=environ, overrides=overrides)


async def _serve_until_signalled(
    app: StompApp | None, config: ServerConfig, options: argparse.Namespace
) -> int:
    is_clean = False
    with (
        bare_errors(),
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        trio.open_signal_receiver(signal.SIGHUP) as hang_ups,
    ):
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve, app, config)
            print(f"trio-stomp listening on {server.url}", flush=True)
            if server.tcp_url is not None:
                print(f"trio-stomp listening on {server.tcp_url}", flush=True)
            nursery.start_soon(_drain_when_signalled, signals, server, nursery.cancel_scope)
            nursery.start_soon(_reconfigure_when_signalled, hang_ups, server, options)
            await server.wait_stopped()
            is_clean = not server.was_cut
            nursery.cancel_scope.cancel()
    return 0 if is_clean else EXIT_FAILED


async def _reconfigure_when_signalled(
    signals: AsyncIterator[int], server: Server, options: argparse.Namespace
) -> None:
    """Read the settings anew at each SIGHUP; settings that cannot be used change nothing."""
    async for _ in signals:
        try:
            config = _server_config(options)
            ignored = server.reconfigure(config)
        except TrioStompError as error:
            logger.error("SIGHUP: nothing has changed: %s", error)  # noqa: TRY400  # the text says it all
            continue
        logging.getLogger().setLevel(config.log_level.upper())
        restart = ", ".join(name for name in ignored if name != "log_level")
        if restart:
            logger.warning("SIGHUP: settings taken over, but for these, which take a restart: %s", restart)
        else:
            logger.info("SIGHUP: settings taken over")


async def _drain_when_signalled(signals: AsyncIterator[int], server: Server, scope: trio.CancelScope) -> None:
    is_draining = False
    async with trio.open_nursery() as nursery:
        async for number in signals:
            if is_draining:
                logger.warning("stopped at once: %d sessions are cut off", server.statistics().sessions)
                scope.cancel()
                return
            is_draining = True
            drain = server.drain
            if number == signal.SIGINT:  # a person at a terminal waits for it
                deadline = min(_PATIENCE, server.config.drain.deadline)
                drain = partial(drain, delay=0, window=0, deadline=deadline)
            nursery.start_soon(drain)


def _check(options: argparse.Namespace) -> int:
    app = load_app(options.app).compile()
    print(app.describe(DEFAULT_POOL))
    return 0
