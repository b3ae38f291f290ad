"""The parts of docs/conformance-websocket.md that are not written by hand.

`python tests/autobahn_table.py` writes the battery's, `make autobahn` that of Autobahn's client.
"""

from __future__ import annotations

from pathlib import Path

from autobahn import Behavior, Case
from autobahn_cases import CASES, ONLY_AUTOBAHN, SECTIONS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "conformance-websocket.md"


def battery() -> str:
    """What `test_websocket_conformance.py` holds to be true, case by case."""
    lines = [
        "| case | what is sent | trio-stomp, both paths | trio-websocket |",
        "|---|---|---|---|",
    ]
    for section, name in SECTIONS.items():
        lines.append(f"| **{section}** | **{name}** | | |")
        cases = [case for case in CASES if case.section == section]
        alike: dict[tuple[str, str], list[Case]] = {}
        for case in cases:
            alike.setdefault((_part(case), case.title), []).append(case)
        for (part, title), group in alike.items():
            row = f"{part}.{_numbers(group)}", title, _ours(group[0]), _theirs(group[0])
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, "", f"Only with Autobahn's own client: {ONLY_AUTOBAHN}."])


def with_part(text: str, name: str, part: str) -> str:
    """``text`` with what stands between its marks ``name`` replaced."""
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"no marks {name!r}, expected {start.strip()} … {end.strip()}")
    return f"{before}{start}{part}\n{end}{after}"


def put(name: str, part: str) -> None:
    """Write one part of the document."""
    DOCUMENT.write_text(with_part(DOCUMENT.read_text("utf-8"), name, part), "utf-8")


def _part(case: Case) -> str:
    return case.id.rsplit(".", 1)[0]


def _numbers(cases: list[Case]) -> str:
    """The last parts of their ids: 1, 2, 3 and 5 as ``1-3, 5``."""
    spans: list[list[int]] = []
    for case in cases:
        number = int(case.id.rsplit(".", 1)[1])
        if spans and spans[-1][-1] == number - 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else f"{span[0]}" for span in spans)


def _ours(case: Case) -> str:
    verdict = Behavior.INFORMATIONAL if case.is_free else Behavior.OK
    return f"{verdict}, Close {_code(case)}" if case.is_illegal else verdict.value


def _theirs(case: Case) -> str:
    if case.is_free:
        return f"{Behavior.INFORMATIONAL}, no Close" if case.is_illegal else Behavior.INFORMATIONAL.value
    by_chance = f" or {Behavior.NON_STRICT}, by chance" if case.is_race else ""
    return f"{Behavior.OK}{by_chance}{', no Close' if case.is_illegal else ''}"


def _code(case: Case) -> str:
    return " or ".join(str(code) for code in sorted(case.codes))


if __name__ == "__main__":
    put("battery", battery())
