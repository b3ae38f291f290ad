"""SECURITY.md keeps in step with the configuration: its figures, and the settings that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from trio_stomp.config import DESTINATION_LENGTH, SECTIONS, ServerConfig, settings_of

ROOT: Final = Path(__file__).parent.parent
TEXT: Final = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
KIB: Final = 1024
MIB: Final = 1024 * 1024


def computed(formula: str) -> int:
    """What a formula of settings comes to with the defaults."""
    config = ServerConfig()
    names = {name: getattr(config, name) for name, _ in SECTIONS if name}
    source = formula.replace("`", "").replace("\u00d7", "*").replace(" KiB", " * 1024")
    return int(eval(source, {"__builtins__": {}, "max": max}, names))


def shown(size: int) -> str:
    return f"{size // KIB} KiB" if size < MIB else f"{size / MIB:.1f} MiB".replace(".0 ", " ")


def table() -> list[list[str]]:
    rows = TEXT.split("<!-- worst case -->")[1].split("<!-- /worst case -->")[0].strip().splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_worst_case_is_that_of_the_defaults() -> None:
    assert DESTINATION_LENGTH == KIB
    assert len(table()) == 8
    for stage, _, _, formula, size in table():
        assert (stage, size) == (stage, shown(computed(formula)))


def test_stages_end_after_the_defaults_times() -> None:
    config = ServerConfig()
    silence = config.stomp.heart_beat_receive * config.stomp.heart_beat_tolerance
    assert [row[1] for row in table()][:4] == [
        f"{config.http.head_timeout:g} s",
        f"{config.stomp.connect_timeout:g} s",
        f"{silence:g} s of silence",
        f"{config.outbox.write_timeout:g} s without progress",
    ]


def test_each_setting_that_is_named_is_there() -> None:
    known = {f"{name}.{field.name}" for name, section in SECTIONS for field, _ in settings_of(section)}
    sections = "|".join(name for name, _ in SECTIONS if name)
    named = set(re.findall(rf"`((?:{sections})\.[a-z_]+)\b", TEXT))
    assert len(named) > 15
    assert named - known == set()


def test_files_that_are_named_are_there() -> None:
    named = re.findall(r"`([a-z_]+/[\w/.]*|requirements-dev\.lock)`", TEXT)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
