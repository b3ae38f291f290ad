"""The house's floors: what a module may import, and what it may not hold (DESIGN section 2).

Each rule is a function of a module's name and its syntax tree that yields what is wrong. It is asked
about every module there is, and about a small source that breaks it, so that each rule is known to bite.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import trio_stomp

PACKAGE: Final = Path(trio_stomp.__file__).parent

FLOORS: Final[tuple[frozenset[str], ...]] = (
    frozenset({"errors", "version"}),
    frozenset({"config", "groups", "histogram"}),
    frozenset({"metrics", "settings"}),
    frozenset({"stomp"}),
    frozenset({"channels"}),
    frozenset({"transport"}),  # hands over what it read through a bounded channel
    frozenset({"messages"}),
    frozenset({"app", "client"}),
    frozenset({"broker"}),
    frozenset({"server"}),
    frozenset({"stress"}),
    frozenset({"testing", "cli"}),
    frozenset({"__main__"}),
)
"""From the ground up. A floor imports what is below it; its own neighbours it does not know."""

APART: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("app", "transport"),  # what users write against is the same over any transport
        ("broker", "app"),  # the server joins them
        ("broker", "client"),
        ("broker", "transport"),  # the broker knows outboxes, never connections
        ("messages", "transport"),
    }
)
"""(importer, imported) pairs that the floors would allow."""

FOR_TYPES_ONLY: Final[frozenset[tuple[str, str]]] = frozenset({("errors", "stomp")})
"""Pairs that may stand under ``if TYPE_CHECKING``: an error carries the frame that it is about."""

NOT_IN_THE_CORE: Final = frozenset(
    {"asyncio", "datetime", "h11", "os", "select", "selectors", "signal", "socket", "ssl", "subprocess"}
    | {"threading", "time", "trio", "trio_websocket", "wsproto"}
)
"""stomp/ is sans-I/O: no tasks, sockets or clocks."""

MUTABLE_CALLS: Final = frozenset(
    {"bytearray", "count", "Counter", "ContextVar", "defaultdict", "deque", "dict", "list", "local", "set"}
    | {"ChainMap", "OrderedDict", "RunVar", "WeakKeyDictionary", "WeakSet", "WeakValueDictionary"}
)
"""Calls that make something to be changed later."""

READ_ONLY_TYPES: Final = frozenset({"AbstractSet", "Collection", "frozenset", "Mapping", "Sequence", "tuple"})
"""Annotated ``Final`` of one of these, a display is a constant: mypy lets nobody change it."""


def top(module: str) -> str:
    """Return the floor's name: the part after ``trio_stomp``, "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def floor(name: str) -> int:
    found = [level for level, names in enumerate(FLOORS) if name in names]
    assert found, f"{name!r} stands on no floor: give it one in FLOORS"
    return found[0]


def imports(module: str, tree: ast.AST) -> Iterator[tuple[ast.stmt, str, bool]]:
    """Yield (statement, full name of what is imported, whether for types only)."""
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name, node in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} is a relative import"
            yield from ((node, f"{node.module}.{alias.name}", node in for_types) for alias in node.names)


def points_upwards(module: str, tree: ast.Module) -> Iterator[str]:
    """An import within the package points to a lower floor, or stays in its own folder."""
    own = top(module)
    for node, imported, is_for_types in imports(module, tree):
        if imported.split(".")[0] != "trio_stomp":
            continue
        other = top(imported)
        if own == "":
            if other in ("cli", "testing", "__main__"):
                yield f"line {node.lineno}: the package's own names don't come from {other}"
        elif other == "" or not other[0].islower():
            if other != "__main__":
                yield f"line {node.lineno}: {imported} is the package's face, import the module that has it"
        elif other == own or (is_for_types and (own, other) in FOR_TYPES_ONLY):
            continue
        elif floor(other) >= floor(own) or (own, other) in APART:
            yield f"line {node.lineno}: {own} imports {imported}"


def knows_the_websocket_library(module: str, tree: ast.Module) -> Iterator[str]:
    """Only transport/websocket.py imports trio_websocket."""
    if module != "trio_stomp.transport.websocket":
        for node, imported, _ in imports(module, tree):
            if imported.split(".")[0] == "trio_websocket":
                yield f"line {node.lineno}: {imported}"


def does_io_in_the_core(module: str, tree: ast.Module) -> Iterator[str]:
    """stomp/ imports no trio, no socket, no clock."""
    if top(module) == "stomp":
        for node, imported, _ in imports(module, tree):
            if imported.split(".")[0] in NOT_IN_THE_CORE:
                yield f"line {node.lineno}: {imported}"


def runs_the_loop(module: str, tree: ast.Module) -> Iterator[str]:
    """trio.run stands only in cli/: everybody else is a guest in the caller's loop."""
    if top(module) == "cli":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "run" and _name(node.value) == "trio":
            yield f"line {node.lineno}: trio.run"
    yield from (
        f"line {node.lineno}: trio.run" for node, what, _ in imports(module, tree) if what == "trio.run"
    )


def holds_state(module: str, tree: ast.Module) -> Iterator[str]:
    """No module-level mutable state."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"line {node.lineno}: global {', '.join(node.names)}"
    for statement in _module_level(tree.body):
        if isinstance(statement, ast.Assign):
            names, annotation, value = [_name(target) for target in statement.targets], None, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            names, annotation, value = [_name(statement.target)], statement.annotation, statement.value
        else:
            continue
        if names != ["__all__"] and _is_mutable(value) and not _is_read_only(annotation):
            yield f"line {statement.lineno}: {', '.join(names)} can be changed"


def lacks_a_docstring(module: str, tree: ast.Module) -> Iterator[str]:
    """Every module opens by saying what it is."""
    if not (ast.get_docstring(tree) or "").strip():
        yield "no docstring"


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run on import, less those of classes."""
    for statement in body:
        yield statement
        for part in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _module_level(getattr(statement, part, []))


def _name(node: ast.expr) -> str:
    """Return the last part of a name: "Counter" for ``collections.Counter``."""
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_mutable(value: ast.expr) -> bool:
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return isinstance(value, displays) or (isinstance(value, ast.Call) and _name(value.func) in MUTABLE_CALLS)


def _is_read_only(annotation: ast.expr | None) -> bool:
    return (
        isinstance(annotation, ast.Subscript)
        and _name(annotation.value) == "Final"
        and _name(annotation.slice) in READ_ONLY_TYPES
    )


Rule = Callable[[str, ast.Module], Iterator[str]]

RULES: Final[tuple[Rule, ...]] = (
    points_upwards,
    knows_the_websocket_library,
    does_io_in_the_core,
    runs_the_loop,
    holds_state,
    lacks_a_docstring,
)


def module_name(file: Path) -> str:
    parts = ("trio_stomp", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES: Final = tuple(sorted(PACKAGE.rglob("*.py")))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_no_module(file: Path, rule: Rule) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    assert list(rule(module_name(file), tree)) == []


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_every_module_stands_on_a_floor(file: Path) -> None:
    module = module_name(file)
    assert module == "trio_stomp" or floor(top(module)) >= 0


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (points_upwards, "stomp.frames", "import trio_stomp.transport.http"),
        (points_upwards, "stomp.frames", "from trio_stomp.transport.http import response"),
        (points_upwards, "stomp.frames", "from trio_stomp import transport"),
        (points_upwards, "stomp.frames", "def f():\n    from trio_stomp.server import serve"),
        (points_upwards, "transport.http", "from trio_stomp.broker import simple"),
        (points_upwards, "app.router", "from trio_stomp.broker import simple"),
        (points_upwards, "app.router", "from trio_stomp.server import serve"),
        (points_upwards, "app.router", "from trio_stomp.transport import http"),
        (points_upwards, "app.router", "from trio_stomp.client import client"),
        (points_upwards, "broker.simple", "from trio_stomp.server import session"),
        (points_upwards, "broker.simple", "from trio_stomp.app import router"),
        (points_upwards, "broker.simple", "from trio_stomp.transport import stream"),
        (points_upwards, "server.serve", "from trio_stomp import cli"),
        (points_upwards, "server.serve", "from trio_stomp import StompApp"),
        (points_upwards, "server.serve", "import trio_stomp"),
        (points_upwards, "config", "from trio_stomp.metrics import Metrics"),
        (points_upwards, "config", "if TYPE_CHECKING:\n    from trio_stomp.stomp.frames import Frame"),
        (points_upwards, "errors", "from trio_stomp.stomp.frames import Frame"),
        (points_upwards, "", "from trio_stomp.testing import open_test_server"),
        (knows_the_websocket_library, "server.serve", "import trio_websocket"),
        (knows_the_websocket_library, "transport.http", "from trio_websocket import serve_websocket"),
        (does_io_in_the_core, "stomp.frames", "import trio"),
        (does_io_in_the_core, "stomp.frames", "from time import monotonic"),
        (does_io_in_the_core, "stomp.frames", "import os.path"),
        (runs_the_loop, "server.serve", "import trio\ntrio.run(main)"),
        (runs_the_loop, "server.serve", "from trio import run"),
        (holds_state, "config", "sessions = {}"),
        (holds_state, "config", "SESSIONS: dict[str, int] = {}"),
        (holds_state, "config", "SESSIONS: Final = []"),
        (holds_state, "config", "SESSIONS: Final[dict[str, int]] = {}"),
        (holds_state, "config", "ids = itertools.count()"),
        (holds_state, "config", "if True:\n    cache = collections.defaultdict(list)"),
        (holds_state, "config", "try:\n    x = 1\nexcept E:\n    x = set()"),
        (holds_state, "config", "def f():\n    global x\n    x = 1"),
        (lacks_a_docstring, "config", "x = 1"),
        (lacks_a_docstring, "config", ""),
    ],
)
def test_rule_bites(rule: Rule, module: str, source: str) -> None:
    assert list(rule(f"trio_stomp.{module}".rstrip("."), ast.parse(source)))


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        (points_upwards, "server.serve", "from trio_stomp.version import __version__"),
        (points_upwards, "server.serve", "from trio_stomp.app import router\nimport trio"),
        (points_upwards, "stomp.protocol", "from trio_stomp.stomp.frames import Frame"),
        (points_upwards, "client.client", "from trio_stomp.transport import websocket"),
        (points_upwards, "errors", "if TYPE_CHECKING:\n    from trio_stomp.stomp.frames import Frame"),
        (points_upwards, "", "from trio_stomp.server.serve import serve"),
        (points_upwards, "__main__", "from trio_stomp.cli import main"),
        (knows_the_websocket_library, "transport.websocket", "import trio_websocket"),
        (does_io_in_the_core, "transport.http", "import trio"),
        (runs_the_loop, "cli", "import trio\ntrio.run(main)"),
        (holds_state, "config", "NAMES: Final[Mapping[str, int]] = {'a': 1}"),
        (holds_state, "config", "__all__ = ['a']"),
        (holds_state, "config", "class A:\n    def f(self):\n        x = []"),
        (holds_state, "config", "LIMITS: Final = frozenset({1})\nX = (1, 2)"),
    ],
)
def test_rule_leaves_alone_what_is_right(rule: Rule, module: str, source: str) -> None:
    assert list(rule(f"trio_stomp.{module}".rstrip("."), ast.parse(source))) == []
