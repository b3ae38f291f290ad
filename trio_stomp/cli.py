"""The command line: ``trio-stomp serve | check | send | subscribe``.

Rule 1: exit status 0 done, 1 failed, 2 wrong usage; what went wrong is one line on standard error.
Rule 2: what a command is asked for goes to standard output, the log to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from trio_stomp.app.application import StompApp
from trio_stomp.app.routes import DEFAULT_POOL
from trio_stomp.client.client import Client, open_client
from trio_stomp.config import LOG_LEVELS, ServerConfig
from trio_stomp.errors import TrioStompError
from trio_stomp.server.serve import Server, serve
from trio_stomp.settings import load_config
from trio_stomp.version import __version__

logger = logging.getLogger("trio_stomp.cli")

EXIT_FAILED = 1
EXIT_USAGE = 2
PASSCODE = "TRIO_STOMP_PASSCODE"
"""A variable of the client commands, not a setting: everybody on the machine sees a command line."""


class UsageError(TrioStompError):
    """The command line asks for something that is not there."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. ``arguments`` are the process's by default."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except UsageError as error:
        print(f"trio-stomp: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (TrioStompError, OSError, ValueError) as error:
        print(f"trio-stomp: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseExceptionGroup as group:
        expected, rest = group.split((TrioStompError, OSError))
        if rest is not None or expected is None:
            raise
        print(f"trio-stomp: {_innermost(expected)}", file=sys.stderr)
        return EXIT_FAILED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trio-stomp",
        description="A STOMP server over WebSocket, on Trio, and two commands that talk to one.",
        epilog="'trio-stomp COMMAND --help' tells a command's options. "
        "Exit status: 0 done, 1 failed, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"trio-stomp {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serving = commands.add_parser(
        "serve",
        help="serve an app, or a plain broker",
        description="Serve an app or, without MODULE:APP, a plain broker. Prints one line with its URL once "
        "it listens. SIGINT or SIGTERM ends it gracefully, a second one at once. SIGHUP reads the settings "
        "anew: sizes of pools and the log level change at once, others take a restart. A setting is taken "
        "from the options, else from the environment (as TRIO_STOMP_PORT), else from the file of --config, "
        "else it has its default.",
    )
    serving.add_argument(
        "app", nargs="?", metavar="MODULE:APP", help="module and name of the StompApp, as chat:app"
    )
    serving.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    serving.add_argument("--port", help="port to listen on; 0 for a free one (default 8080)")
    serving.add_argument("--path", help="path of the WebSocket endpoint (default /ws)")
    serving.add_argument(
        "--tls-cert", metavar="FILE", help="certificate chain (PEM); needs --tls-key; the URL is then wss://"
    )
    serving.add_argument("--tls-key", metavar="FILE", help="the certificate's private key (PEM)")
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

    sending = commands.add_parser(
        "send",
        help="send one message",
        description="Send one message and wait for the RECEIPT. Exit status 1 when the server refuses it.",
    )
    _add_connection_options(sending)
    sending.add_argument("destination", metavar="DEST", help="destination, as /topic/news or /app/chat/lobby")
    sending.add_argument(
        "body",
        nargs="?",
        metavar="BODY",
        help="text; @FILE: a file's content; -: standard input (default: empty)",
    )
    sending.add_argument(
        "--content-type",
        metavar="TYPE",
        help="of the body (default: application/json when it is JSON, else text/plain)",
    )
    sending.set_defaults(run=_send)

    subscribing = commands.add_parser(
        "subscribe",
        help="print the messages of destinations",
        description="Print the body of each message that arrives, with a line end behind it. "
        "Runs until SIGINT (exit status 130) or for --count messages.",
    )
    _add_connection_options(subscribing)
    subscribing.add_argument(
        "destinations", nargs="+", metavar="DEST", help="destination or pattern, as /topic/news or /topic/**"
    )
    subscribing.add_argument("--count", type=_count, metavar="N", help="end after N messages")
    subscribing.add_argument(
        "--headers", action="store_true", help="print a line with the headers before each body"
    )
    subscribing.set_defaults(run=_subscribe)
    return parser


def _add_connection_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="WebSocket endpoint, as ws://127.0.0.1:8080/ws")
    parser.add_argument("--login", help="login header of CONNECT")
    parser.add_argument(
        "--passcode", help="passcode header of CONNECT (default: the environment's TRIO_STOMP_PASSCODE)"
    )


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} messages, expected 1 or more")
    return count


def load_app(name: str) -> StompApp:
    """Import the app that MODULE:APP names; the current directory counts as importable.

    Raises:
        UsageError: there is no such module or app; the text says which.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"{name!r} is not MODULE:APP, as chat.app:app")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the module is there and lacks one itself: its traceback tells where
        raise UsageError(f"there is no module {error.name!r} (from {here})") from error
    app = getattr(module, attribute, None)
    if not isinstance(app, StompApp):
        found = "nothing" if app is None else type(app).__name__
        raise UsageError(
            f"{name!r}: expected a StompApp called {attribute!r} in {module_name}, found {found}"
        )
    return app


# serve


def _serve(options: argparse.Namespace) -> int:
    config = _server_config(options)
    logging.basicConfig(
        level=config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    app = None if options.app is None else load_app(options.app)
    return trio.run(_serve_until_signalled, app, config, options)


def _server_config(options: argparse.Namespace) -> ServerConfig:
    """Put the settings together: the options, the environment and the file as it is now.

    Raises:
        ConfigError, UsageError: they cannot be used.
    """
    names = ("host", "port", "path", "tls_cert", "tls_key", "origins", "static", "log_level")
    overrides: dict[str, object] = {name: getattr(options, name) for name in names}
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
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        trio.open_signal_receiver(signal.SIGHUP) as hang_ups,
    ):
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(serve, app, config)
            print(f"trio-stomp listening on {server.url}", flush=True)
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
    received = 0
    async with trio.open_nursery() as nursery:
        async for _ in signals:
            received += 1
            if received == 1:
                nursery.start_soon(server.drain)
            else:
                scope.cancel()


# check


def _check(options: argparse.Namespace) -> int:
    app = load_app(options.app).compile()
    print(app.describe(DEFAULT_POOL))
    return 0


# send and subscribe


def _passcode(options: argparse.Namespace) -> str | None:
    return options.passcode or os.environ.get(PASSCODE)


def _send(options: argparse.Namespace) -> int:
    body = _body(options.body)
    content_type = options.content_type or _guess_content_type(body)

    async def run() -> None:
        async with open_client(options.url, login=options.login, passcode=_passcode(options)) as client:
            await client.send(options.destination, body, headers={"content-type": content_type}, receipt=True)

    trio.run(run)
    return 0


def _subscribe(options: argparse.Namespace) -> int:
    trio.run(_print_messages, options)
    return 0


async def _print_messages(options: argparse.Namespace) -> None:
    left = options.count if options.count is not None else -1

    async def show(client: Client, destination: str, scope: trio.CancelScope) -> None:
        nonlocal left
        async with client.subscribe(destination) as messages:
            async for message in messages:
                if options.headers:
                    print(" ".join(f"{name}:{value}" for name, value in message.headers.items()))
                sys.stdout.flush()
                sys.stdout.buffer.write(message.body + b"\n")
                sys.stdout.buffer.flush()
                left -= 1
                if left == 0:
                    scope.cancel()
                    return

    async with open_client(options.url, login=options.login, passcode=_passcode(options)) as client:
        await _for_each(options.destinations, partial(show, client))


async def _for_each(
    destinations: Sequence[str], show: Callable[[str, trio.CancelScope], Awaitable[None]]
) -> None:
    async with trio.open_nursery() as nursery:
        for destination in destinations:
            nursery.start_soon(show, destination, nursery.cancel_scope)


def _body(text: str | None) -> bytes:
    if text is None:
        return b""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    return text.encode()


def _guess_content_type(body: bytes) -> str:
    try:
        json.loads(body)
    except ValueError:
        return "text/plain;charset=utf-8"
    return "application/json"


def _innermost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
