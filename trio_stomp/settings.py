"""How a config is put together: defaults < TOML file < environment < command line.

Rule 1: `load_config` depends on its arguments alone (and on the file they name), never on this process.
Rule 2: what is wrong is said with its source (file, variable or option), the value, and what was expected.
"""

from __future__ import annotations

import collections
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from trio_stomp.config import SECTIONS, PoolConfig, ServerConfig, Setting, settings_of
from trio_stomp.errors import ConfigError

ENVIRONMENT_PREFIX: Final = "TRIO_STOMP_"

_POOL_KEYS: Final = tuple(attribute.name for attribute, _ in settings_of(PoolConfig))
_SIZE: Final = re.compile(r"([0-9]+) ?(B|KiB|MiB|GiB)?")
_SIZE_FACTOR: Final[Mapping[str | None, int]] = types.MappingProxyType(
    {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
)
_SWITCH: Final[Mapping[str, bool]] = types.MappingProxyType(
    {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
)


def load_config(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> ServerConfig:
    """Return the config that the layers give together; a later one wins, setting by setting.

    Args:
        file: a TOML file: the settings' names are keys, sections tables (``[outbox]``, ``bytes = "1MiB"``).
        environ: variables; those called ``TRIO_STOMP_PORT``, ``TRIO_STOMP_OUTBOX_BYTES`` and so on count.
            Lists are separated by commas, directories are written ``/=page,/lib=node_modules``. An empty
            variable counts as not set.
        overrides: values by name (``"port"``, ``"outbox.bytes"``), from the command line: as strings or as
            they are. None counts as not given.

    Relative paths in values stay as they are: relative to the working directory.

    Raises:
        ConfigError: for an unknown name, a wrong type, a value out of range, or a file that cannot be read.
    """
    layered = _Layered()
    if file is not None:
        layered.take_file(file)
    for variable in sorted(environ or ()):
        if variable.startswith(ENVIRONMENT_PREFIX) and environ and environ[variable]:
            name = _name_of_variable(variable)
            layered.take(name, environ[variable], f"environment variable {variable}", is_text=True)
    for name, value in (overrides or {}).items():
        if value is not None:
            known = _known_name(name, f"option {name!r}")
            layered.take(known, value, f"option {name!r}", is_text=isinstance(value, str))
    return layered.config()


def settings_table() -> tuple[tuple[str, str, str, str], ...]:
    """Return a row (name, default, unit, meaning) for each setting, in the order of `config.py`.

    A pool's settings are called ``pools.NAME.threads`` and so on. The README's table is made of these rows.
    """
    return tuple(
        (
            name,
            "as declared" if name.startswith("pools.") else _shown(attribute.default, about),
            about.unit,
            about.meaning,
        )
        for name, attribute, about in _all_settings()
    )


class _Layered:
    """What the layers read so far have set, and who set it."""

    def __init__(self) -> None:
        self._sections: dict[str, dict[str, object]] = collections.defaultdict(dict)
        self._sources: dict[str, str] = {}

    def take_file(self, file: Path) -> None:
        try:
            with file.open("rb") as opened:
                content = tomllib.load(opened)
        except OSError as error:
            raise ConfigError(f"cannot read the settings file {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not TOML: {error}") from error
        for name, value in _flattened(content):
            source = f"file {file}, {name}"
            self.take(_known_name(name, f"file {file}"), value, source, is_text=False)

    def take(self, name: str, value: object, source: str, *, is_text: bool) -> None:
        """Set one setting whose name is known; ``is_text``: the source has nothing but strings."""
        section, _, key = name.rpartition(".")
        owner = PoolConfig if section.startswith("pools.") else dict(SECTIONS)[section]
        self._sections[section][key] = _converted(owner, key, value, source, is_text=is_text)
        self._sources[name] = source

    def config(self) -> ServerConfig:
        values: dict[str, Any] = dict(self._sections.get("", {}))
        pools: dict[str, PoolConfig] = {}
        for section, given in self._sections.items():
            if section.startswith("pools."):
                pools[section.removeprefix("pools.")] = self._made(PoolConfig, section, given)
            elif section:
                values[section] = self._made(dict(SECTIONS)[section], section, given)
        made: ServerConfig = self._made(ServerConfig, "", {**values, "pools": pools})
        return made

    def _made(self, section: type[Any], name: str, given: Mapping[str, object]) -> Any:
        """Make a section; its own checks don't know the sources, so they are added here."""
        try:
            return section(**given)
        except ConfigError as error:
            keys = [key for key in given if re.search(rf"{section.__name__}\.{key}\b", str(error))]
            sources = [self._sources[f"{name}.{key}".lstrip(".")] for key in keys]
            raise ConfigError(f"{', '.join(sources)}: {error}") from error


def _all_settings() -> Iterable[tuple[str, attrs.Attribute[Any], Setting]]:
    sections: tuple[tuple[str, type[Any]], ...] = (*SECTIONS, ("pools.NAME", PoolConfig))
    for section, owner in sections:
        for attribute, about in settings_of(owner):
            yield f"{section}.{attribute.name}".lstrip("."), attribute, about


def _known_name(name: str, source: str) -> str:
    """Return ``name`` when there is such a setting.

    Raises:
        ConfigError: naming the nearest setting there is.
    """
    known = [setting for setting, _, _ in _all_settings()]
    parts = name.split(".")
    if len(parts) == 3 and parts[0] == "pools" and parts[1]:
        known = [f"pools.{parts[1]}.{key}" for key in _POOL_KEYS]
    if name in known:
        return name
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise ConfigError(f"{source}: there is no setting {name!r}; the nearest is {nearest[0]!r}")


def _name_of_variable(variable: str) -> str:
    """Return the name of the setting that an environment variable sets.

    Raises:
        ConfigError: naming the nearest variable there is.
    """
    rest = variable.removeprefix(ENVIRONMENT_PREFIX)
    known = {setting.replace(".", "_").upper(): setting for setting, _, _ in _all_settings()}
    if rest in known and not rest.startswith("POOLS_"):
        return known[rest]
    # The longest key first: a pool may be called anything, "slow_queue" as well.
    for key in sorted(_POOL_KEYS, key=len, reverse=True):
        found = re.fullmatch(rf"POOLS_(.+)_{key.upper()}", rest)
        if found is not None:
            return f"pools.{found[1].lower()}.{key}"
    nearest = difflib.get_close_matches(rest, known, n=1, cutoff=0.0)
    raise ConfigError(
        f"environment variable {variable}: there is no such setting; the nearest is "
        f"{ENVIRONMENT_PREFIX}{nearest[0]}"
    )


def _flattened(content: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    """Yield (dotted name, value) of a TOML document; tables deeper than a pool's stay values."""
    sections = {name for name, _ in SECTIONS if name}
    for key, value in content.items():
        if key in sections and isinstance(value, dict):
            yield from ((f"{key}.{inner}", deeper) for inner, deeper in value.items())
        elif key == "pools" and isinstance(value, dict):
            for pool, settings in value.items():
                if not isinstance(settings, dict):
                    raise ConfigError(f"pools.{pool} is {settings!r}, expected a table [pools.{pool}]")
                yield from ((f"pools.{pool}.{inner}", deeper) for inner, deeper in settings.items())
        else:
            yield key, value


def _converted(owner: type[Any], key: str, value: object, source: str, *, is_text: bool) -> object:
    """Return a value of the setting's type.

    Raises:
        ConfigError: naming the source, the value and what was expected.
    """
    attribute, about = next(each for each in settings_of(owner) if each[0].name == key)
    hint = typing.get_type_hints(owner)[key]
    expected, convert = _CONVERSIONS["bytes" if about.unit == "bytes" else _kind(hint)]
    try:
        return convert(value, is_text)
    except ValueError:
        raise ConfigError(
            f"{source}: {value!r} is not fit for {attribute.name}, expected {expected}"
        ) from None


def _kind(hint: Any) -> str:
    """Return the name of a setting's type without its ``| None`` and its parameters."""
    for argument in typing.get_args(hint):
        if isinstance(hint, types.UnionType) and argument is not type(None):
            hint = argument
    return str((typing.get_origin(hint) or hint).__name__)


def _bytes(value: object, is_text: bool) -> int:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            raise ValueError(value)
        return int(found[1]) * _SIZE_FACTOR[found[2]]
    return _integer(value, is_text)


def _integer(value: object, is_text: bool) -> int:
    if is_text and isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(value)


def _number(value: object, is_text: bool) -> float:
    if is_text and isinstance(value, str):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(value)


def _boolean(value: object, is_text: bool) -> bool:
    if is_text and isinstance(value, str) and value.strip().lower() in _SWITCH:
        return _SWITCH[value.strip().lower()]
    if isinstance(value, bool):
        return value
    raise ValueError(value)


def _string(value: object, is_text: bool) -> str:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return value
    raise ValueError(value)


def _strings(value: object, is_text: bool) -> tuple[str, ...]:
    if is_text and isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise ValueError(value)


def _directories(value: object, is_text: bool) -> Mapping[str, str]:
    if isinstance(value, Mapping):
        return {_string(prefix, False): _string(directory, False) for prefix, directory in value.items()}
    pairs = [part.partition("=") for part in _strings(value, is_text)]
    if not all(prefix and directory for prefix, _, directory in pairs):
        raise ValueError(value)
    return {prefix.strip(): directory.strip() for prefix, _, directory in pairs}


_CONVERSIONS: Final[Mapping[str, tuple[str, Callable[[object, bool], object]]]] = types.MappingProxyType(
    {
        "bytes": ("a whole number of bytes, or one with a unit such as '512KiB' or '4MiB'", _bytes),
        "int": ("a whole number", _integer),
        "float": ("a number", _number),
        "bool": ("true or false", _boolean),
        "str": ("a string", _string),
        "tuple": ("a list of strings (separated by commas where there are only strings)", _strings),
        "Mapping": ("URL prefixes with directories, such as '/=page,/lib=node_modules'", _directories),
    }
)
"""By the kind of a setting: what an error says was expected, and how a value is read."""


def _shown(value: Any, about: Setting) -> str:
    """Return a default as a person would write it."""
    if about.unit == "bytes":
        for unit in ("MiB", "KiB"):
            if value and value % _SIZE_FACTOR[unit] == 0:
                return f"{value // _SIZE_FACTOR[unit]} {unit}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if value is None or (not isinstance(value, int) and not value):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value)
