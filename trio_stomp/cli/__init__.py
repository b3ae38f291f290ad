"""The command line: ``trio-stomp serve | check | stress | drain | send | subscribe``.

Rule 1: exit status 0 done, 1 failed, 2 wrong usage; what went wrong is one line on standard error.
Rule 2: what a command is asked for goes to standard output, the log to standard error.
Each command stands in a module of its own, or with its like, and adds itself to the parser.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from trio_stomp.cli import draining, messaging, serving, stressing
from trio_stomp.cli.usage import EXIT_FAILED, EXIT_USAGE, UsageError
from trio_stomp.errors import TrioStompError
from trio_stomp.version import __version__

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. ``arguments`` are the process's by default."""
    try:
        options = _parser().parse_args(stressing.joined(sys.argv[1:] if arguments is None else arguments))
        status: int = options.run(options)
    except UsageError as error:
        print(f"trio-stomp: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (TrioStompError, OSError, ValueError) as error:
        print(f"trio-stomp: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BaseExceptionGroup as group:  # SIGINT came while a task was running
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        return 128 + signal.SIGINT
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trio-stomp",
        description="A STOMP server over WebSocket, on Trio, and commands that talk to one.",
        epilog="'trio-stomp COMMAND --help' tells a command's options. "
        "Exit status: 0 done, 1 failed, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"trio-stomp {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    serving.add_commands(commands)
    stressing.add_commands(commands)
    draining.add_commands(commands)
    messaging.add_commands(commands)
    return parser
