"""JSON: the standard library's writer, and compiled libraries where they are installed (the extra ``fast``).

msgspec reads, orjson writes.

Rule: what comes of a body or a value is what the standard library would make of it. Where they differ they
give nothing, and the standard library has the last word. (orjson reads integers past 64 bits as floats, and
msgspec writes types that JSON has not, so neither does both.)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def standard_writer() -> Callable[[Any], str]:
    """What writes a value as JSON by the standard library, without blanks; raises TypeError, ValueError.

    `json.JSONEncoder` makes the part of it that is written in C anew for each value, which takes half of the
    time for 100 bytes; here it is kept. It has no public name: where it is not as expected, all is as usual.
    """
    # Without markers for circles (they cost 10 %): a circle ends as RecursionError all the same.
    usual = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
    sample = {"a": [1.5, None, True, "\u00e9\n"], "b": {}}
    try:
        make: Any = vars(json.encoder)["c_make_encoder"]
        kept = make(None, usual.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)
        is_as_expected = "".join(kept(sample, 0)) == usual.encode(sample)
    except (KeyError, AttributeError, TypeError):
        is_as_expected = False
    return (lambda value: "".join(kept(value, 0))) if is_as_expected else usual.encode


def fast_reader() -> Callable[[bytes], Any] | None:
    """What makes a value of a body, and raises ValueError or RecursionError where it gives nothing.

    None: msgspec is not installed. 0.2 us for 100 bytes instead of 0.6, and 0.4 of the time for 40 KiB.
    """
    try:
        from msgspec import json
    except ImportError:
        return None
    return json.Decoder().decode


def fast_writer() -> Callable[[Any], bytes | None] | None:
    """What writes a value as JSON, and gives None where it gives nothing.

    None: orjson is not installed. 0.3 us for 100 bytes instead of 0.8.
    """
    try:
        import orjson
    except ImportError:
        return None
    dumps = orjson.dumps
    # All that it might write in a way of its own is left to cattrs' converter and the standard library.
    strict = (
        orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
    )

    def write(value: Any) -> bytes | None:
        try:
            text = dumps(value, None, strict)
        except TypeError:  # and JSONEncodeError, which is one
            return None
        return None if b"null" in text else text  # it may be NaN, of which this makes null

    return write
