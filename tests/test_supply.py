"""What comes with trio-stomp: the modules that an import loads, the packages that its tests are run with.

Rule: modules are counted, not timed; the figures are bench/import_time.py's.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    """What a program prints in an interpreter of its own, from JSON, and without the modules of coverage."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
    )
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


# The lock


LOCK: Final = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")


def test_lock_fits_what_the_project_asks_for() -> None:
    """If it does not: `make lock LOCK_ARGS=`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(line) for line in (*project["dependencies"], *extras["stress"], *extras["dev"])]
    locked = dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", LOCK, re.MULTILINE))
    unfit = [
        str(each)
        for each in wanted
        if each.name != project["name"]
        and not each.specifier.contains(locked.get(canonicalize_name(each.name), "0.dev0"), prereleases=True)
    ]
    assert unfit == []


def test_lock_has_a_hash_for_everything_and_names_no_host() -> None:
    entries = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) > 20
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"://|--index|--find-links|^[./~].*", LOCK, re.MULTILINE) == []


# The audit


def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN: Final = {"name": "trio", "version": "1.0", "vulns": []}
VULNERABLE: Final = {"name": "h11", "version": "0.1", "vulns": [{"id": "CVE-1", "fix_versions": ["0.2"]}]}
SKIPPED: Final = {"name": "rich", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        ([CLEAN, CLEAN], 0, "2 packages, no known vulnerability"),
        ([CLEAN, VULNERABLE], 1, "h11 0.1: CVE-1, mended in 0.2"),
        ([SKIPPED, VULNERABLE], 1, "h11 0.1: CVE-1, mended in 0.2"),
        ([CLEAN, SKIPPED], 2, "does not know 1 of 2 packages: not found"),
        ([], 2, "the lock is empty"),
    ],
)
def test_audit_takes_silence_for_no_clean_bill(found: list[object], status: int, said: str) -> None:
    actual, (line,) = audit().verdict(json.dumps({"dependencies": found}), "")
    assert actual == status
    assert said in line


def test_audit_that_broke_off_says_why() -> None:
    status, (line,) = audit().verdict("", "Traceback\nConnectionError: no route\n")
    assert status == 2
    assert "nothing was checked: ConnectionError: no route" in line
