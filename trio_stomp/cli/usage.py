"""What the commands share: exit statuses, wrong usage, and the app that MODULE:APP names."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import TypeAlias

from trio_stomp.app.application import StompApp
from trio_stomp.errors import TrioStompError

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a module adds its commands to; argparse has no public name for it."""

EXIT_FAILED = 1
EXIT_USAGE = 2
PASSCODE = "TRIO_STOMP_PASSCODE"
"""A variable of the client commands, not a setting: everybody on the machine sees a command line."""


class UsageError(TrioStompError):
    """The command line asks for something that is not there."""


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


def count(text: str) -> int:
    """For an option: a number of messages, 1 or more."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} messages, expected 1 or more")
    return count


def read_body(text: str | None) -> bytes:
    """A body as the command line names it: text, ``@FILE``, ``-`` for standard input; None: empty.

    Raises:
        OSError: the file cannot be read.
    """
    if text is None:
        return b""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    return text.encode()


def guess_content_type(body: bytes) -> str:
    """JSON when it is JSON, else text."""
    try:
        json.loads(body)
    except ValueError:
        return "text/plain;charset=utf-8"
    return "application/json"
