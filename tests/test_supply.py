"""What an import brings in, and what it does not: parts that nobody asked for, sockets, processes, threads.

Rule: the modules are counted, not timed; the figures are bench/import_time.py's.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

import trio_stomp

ROOT: Final = Path(__file__).parent.parent

LOADED: Final = "import json, sys; {}; print(json.dumps(sorted(sys.modules)))"

WATCHED: Final = """
import json, sys, threading
import trio, trio_websocket  # trio asks `ldconfig` for libpthread when it is imported: not our doing
seen = []
def hook(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system")):
        seen.append(event)
class Watched(threading.Thread):
    def start(self):
        seen.append("thread")
        super().start()
sys.addaudithook(hook)
threading.Thread = Watched
{}
print(json.dumps(seen))
"""

EVERYTHING: Final = """
import importlib, pkgutil, trio_stomp
from trio_stomp import *
for each in pkgutil.walk_packages(trio_stomp.__path__, "trio_stomp."):
    if not each.name.endswith("__main__"):
        importlib.import_module(each.name)
"""


def run(source: str) -> Any:
    """What a program prints in an interpreter of its own, from JSON."""
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def listed() -> set[str]:
    return {name for names in trio_stomp._HOMES.values() for name in names}


def test_each_public_name_has_its_module_and_its_type() -> None:
    tree = ast.parse(Path(trio_stomp.__file__).read_text(encoding="utf-8"))
    typed = {
        (statement.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert typed == {
        (f"trio_stomp.{home}", name) for home, names in trio_stomp._HOMES.items() for name in names
    }
    assert sorted(trio_stomp.__all__) == sorted({*listed(), "__version__"})


@pytest.mark.parametrize("name", trio_stomp.__all__)
def test_public_name_is_there_when_it_is_asked_for(name: str) -> None:
    assert getattr(trio_stomp, name) is getattr(trio_stomp, name)
    assert name in dir(trio_stomp)


def test_unknown_name_is_an_attribute_error_that_says_it() -> None:
    with pytest.raises(AttributeError, match="'trio_stomp' has no attribute 'StompServer'"):
        trio_stomp.StompServer  # type: ignore[attr-defined]  # noqa: B018  (the point of the test)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import trio_stomp", "trio attr attrs cattrs trio_websocket wsproto h11 ssl trio_stomp.errors"),
        (
            "from trio_stomp import StompApp",
            "trio_websocket wsproto h11 "
            "trio_stomp.server trio_stomp.broker trio_stomp.client trio_stomp.transport",
        ),
        (
            "from trio_stomp import open_client",
            "trio_stomp.server trio_stomp.broker trio_stomp.app trio_stomp.settings",
        ),
        ("from trio_stomp import StompApp, serve", "trio_stomp.client trio_stomp.settings tomllib"),
        ("import trio_stomp.cli", "trio_stomp.testing"),
    ],
)
def test_import_loads_only_what_is_asked_for(statement: str, absent: str) -> None:
    loaded = set(run(LOADED.format(statement)))
    never = {"rich", "trio_stomp.stress", "asyncio", "multiprocessing", "sqlite3", "pytest", "hypothesis"}
    assert "trio_stomp.version" in loaded
    assert loaded & {*absent.split(), *never} == set()


@pytest.mark.slow
def test_importing_every_module_opens_no_socket_and_starts_no_process_and_no_thread() -> None:
    assert run(WATCHED.format(EVERYTHING)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "does",
    [
        "import socket; socket.socket().close()",
        "import subprocess; subprocess.run(['true'])",
        "import threading; threading.Thread(target=print, args=('',), kwargs={'end': ''}).start()",
    ],
)
def test_the_watch_sees(does: str) -> None:
    assert run(WATCHED.format(does))
