"""A stress test's report as a JSON file, for `compare` and for a CI job to keep.

Rule: the order of fields is the declared one, and a field stands on its own line, so that two files can be
compared by eye; what was saved loads, and saves again to the same text.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import cattrs

from trio_stomp.errors import ConfigError
from trio_stomp.messages.strict import make_strict
from trio_stomp.stress.results import SCHEMA, Report

DIGITS: Final = 6
"""Significant digits of a number in the file: a microsecond in a second, far below any noise."""


def to_json(report: Report) -> str:
    """Return the file's text; numbers are rounded to six significant digits.

    Raises:
        ValueError: for a number that is not finite.
    """
    return json.dumps(_converter().unstructure(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def from_json(text: str, source: str) -> Report:
    """Return the report that `to_json` made ``text`` of; fields that are not known are passed over.

    Raises:
        ConfigError: naming ``source``: it is no report, one of another schema, or damaged.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ConfigError(f"{source} is not JSON: {error}") from error
    if not isinstance(content, dict) or "schema" not in content:
        raise ConfigError(f"{source} is no report of trio-stomp stress: it has no 'schema'")
    if content["schema"] != SCHEMA:
        raise ConfigError(f"{source} has schema {content['schema']!r}, this version reads schema {SCHEMA}")
    try:
        return _converter().structure(content, Report)
    except cattrs.BaseValidationError as error:
        problems = "; ".join(cattrs.transform_error(error)[:3])  # one cause often shows in every run
        raise ConfigError(f"{source} is a damaged report: {problems}") from error


def save(report: Report, path: Path) -> None:
    """Write the file, or write it anew.

    Raises:
        OSError: when it cannot be written.
    """
    path.write_text(to_json(report), encoding="utf-8")


def load(path: Path) -> Report:
    """Read a file that `save` wrote.

    Raises:
        ConfigError: naming the file and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the report {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no report of trio-stomp stress: it is not UTF-8") from error
    return from_json(text, str(path))


def _converter() -> cattrs.Converter:
    converter = make_strict(cattrs.Converter())
    converter.register_unstructure_hook(float, _rounded)
    return converter


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
