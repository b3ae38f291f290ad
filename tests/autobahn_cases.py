"""The cases of the Autobahn test suite, sections 1 to 7, 9 and 10, by their numbers.

What is sent and what has to come is Autobahn's. Of section 9 only what takes a moment is here;
12 and 13 are about compression, which we do not offer. `make autobahn` runs all of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from autobahn import QUIET, Case, Closer, Event, Step
from wire import BINARY, CLOSE, KEY, PING, PONG, TEXT, close_frame

from trio_stomp.transport.cutter import unmask

_KINDS = {TEXT: "text", BINARY: "binary"}
_PROTOCOL_ERROR = frozenset({1002})
_BAD_PAYLOAD = frozenset({1007})


def _frame(payload: bytes, opcode: int = TEXT, *, final: bool = True, rsv: int = 0) -> bytes:
    """As `wire.client_frame`, quick also for megabytes."""
    first, size = (0x80 if final else 0) | rsv << 4 | opcode, len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = struct.pack("!BBQ", first, 0xFF, size)
    return head + KEY + unmask(payload, KEY)


def _chops(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _fragments(parts: Sequence[bytes], opcode: int = TEXT) -> list[bytes]:
    last = len(parts) - 1
    return [_frame(part, 0 if at else opcode, final=at == last) for at, part in enumerate(parts)]


def _in_fragments(payload: bytes, size: int, opcode: int = TEXT) -> bytes:
    """All fragments in one step."""
    return b"".join(_fragments(_chops(payload, size), opcode))


def _echo(
    id: str, title: str, payload: bytes, opcode: int = TEXT, *, steps: Sequence[Step] | None = None
) -> Case:
    """A message that comes back."""
    return Case(id, title, steps or [_frame(payload, opcode)], [(_KINDS[opcode], payload)])


def _illegal(
    id: str,
    title: str,
    steps: Sequence[Step],
    *,
    wants: Sequence[Event] = (),
    tolerates: Sequence[Event] | None = None,
    codes: frozenset[int] = _PROTOCOL_ERROR,
) -> Case:
    """Something that the server has to refuse; what came before it comes back, or (tolerated) does not."""
    if wants and tolerates is None:
        tolerates = ()
    return Case(id, title, steps, wants, tolerates, closer=Closer.SERVER, codes=codes, is_clean=False)


def _close(
    id: str, title: str, data: bytes, *, codes: frozenset[int] = frozenset({1000}), is_free: bool = False
) -> Case:
    """Something with a Close in it: nothing comes back but that."""
    return Case(id, title, [data], closer=Closer.STEPS, codes=codes, is_free=is_free)


# 1 Framing.

_SIZES = (0, 125, 126, 127, 128, 65535, 65536, 65536)


def _framing() -> Iterator[Case]:
    for part, opcode, filling in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for number, size in enumerate(_SIZES, 1):
            title = f"{_KINDS[opcode]} message of {size} bytes"
            payload = filling * size
            if number == 8:
                steps = _chops(_frame(payload, opcode), 997)
                yield _echo(f"1.{part}.8", f"{title}, in chops of 997", payload, opcode, steps=steps)
            else:
                yield _echo(f"1.{part}.{number}", title, payload, opcode)


# 2 Pings and pongs.


def _pings() -> Iterator[Case]:
    def ping(id: str, title: str, payload: bytes) -> Case:
        return Case(id, title, [_frame(payload, PING)], [("pong", payload)])

    yield ping("2.1", "ping without payload", b"")
    yield ping("2.2", "ping with text", b"Hello, world!")
    yield ping("2.3", "ping with bytes that are not UTF-8", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")
    yield ping("2.4", "ping of 125 bytes", b"\xfe" * 125)
    yield _illegal("2.5", "ping of 126 bytes", [_frame(b"\xfe" * 126, PING)])
    long = b"\xfe" * 125
    yield Case("2.6", "ping of 125 bytes, byte by byte", _chops(_frame(long, PING), 1), [("pong", long)])
    for number, how, payload in ((7, "without", b""), (8, "with", b"unsolicited")):
        title = f"pong that nobody asked for, {how} payload"
        yield _close(f"2.{number}", title, _frame(payload, PONG) + close_frame(1000))
    yield Case(
        "2.9",
        "pong that nobody asked for, then a ping",
        [_frame(b"unsolicited", PONG) + _frame(b"ping", PING)],
        [("pong", b"ping")],
    )
    payloads = [b"payload-%d" % n for n in range(10)]
    data = b"".join(_frame(payload, PING) for payload in payloads)
    wants = [("pong", payload) for payload in payloads]
    yield Case("2.10", "ten pings", [data], wants)
    yield Case("2.11", "ten pings, byte by byte", _chops(data, 1), wants)


# 3 Reserved bits, 4 opcodes.

_HELLO = b"Hello, world!"
_HELLO_BACK = [("text", _HELLO)]


def _after_hello(id: str, title: str, bad: bytes, *, chop: int = 0) -> Case:
    """A message, what is illegal, a ping; ``chop`` 0: in one write, 1: byte by byte, -1: by frames."""
    frames = [_frame(_HELLO), bad, _frame(b"", PING)]
    data = b"".join(frames)
    steps = frames if chop < 0 else _chops(data, chop or len(data))
    how = {0: "in one write", 1: "byte by byte", -1: "frame by frame"}[chop]
    return _illegal(id, f"text message, {title}, ping, {how}", steps, wants=_HELLO_BACK)


def _reserved_bits() -> Iterator[Case]:
    yield _illegal("3.1", "text message with RSV 1", [_frame(_HELLO, rsv=1)])
    for number, rsv, chop in ((2, 2, 0), (3, 3, -1), (4, 4, 1)):
        yield _after_hello(f"3.{number}", f"another with RSV {rsv}", _frame(_HELLO, rsv=rsv), chop=chop)
    yield _illegal("3.5", "binary message with RSV 5", [_frame(b"\x00\xff\xfe\xfd", BINARY, rsv=5)])
    yield _illegal("3.6", "binary message with RSV 6", [_frame(_HELLO, BINARY, rsv=6)])
    yield _illegal("3.7", "Close with RSV 7", [_frame(b"", CLOSE, rsv=7)])


def _opcodes() -> Iterator[Case]:
    for part, first in ((1, 3), (2, 11)):
        yield _illegal(f"4.{part}.1", f"opcode {first}", [_frame(b"", first)])
        bad = _frame(b"reserved", first + 1)
        yield _illegal(f"4.{part}.2", f"opcode {first + 1} with payload", [bad])
        title = f"opcode {first + 2}"
        yield _after_hello(f"4.{part}.3", title, _frame(b"", first + 2))
        title = f"opcode {first + 3} with payload"
        yield _after_hello(f"4.{part}.4", title, _frame(_HELLO, first + 3))
        title = f"opcode {first + 4} with payload"
        yield _after_hello(f"4.{part}.5", title, _frame(_HELLO, first + 4), chop=1)


# 5 Fragmentation.

_WAYS = (("in one write", 0), ("frame by frame", -1), ("byte by byte", 1))


def _ways(frames: Sequence[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    data = b"".join(frames)
    for how, chop in _WAYS:
        yield how, list(frames) if chop < 0 else _chops(data, chop or len(data))


def _fragmentation() -> Iterator[Case]:
    for number, name, opcode in ((1, "ping", PING), (2, "pong", PONG)):
        data = _frame(b"fragment1", opcode, final=False) + _frame(b"fragment2", 0)
        yield _illegal(f"5.{number}", f"{name} in two fragments", [data])
    whole = b"fragment1fragment2"
    first, last = _fragments([b"fragment1", b"fragment2"])
    for number, (how, steps) in enumerate(_ways([first, last]), 3):
        yield _echo(f"5.{number}", f"message in two fragments, {how}", whole, steps=steps)
    between = _frame(b"ping", PING)
    for number, (how, steps) in enumerate(_ways([first, between, last]), 6):
        title = f"message in two fragments, a ping between them, {how}"
        yield Case(f"5.{number}", title, steps, [("pong", b"ping"), ("text", whole)])
    number = 9
    for is_final in (True, False):
        stray = _frame(b"non-continuation payload", 0, final=is_final)
        name = "final continuation" if is_final else "continuation"
        for how, steps in _ways([stray, _frame(_HELLO)]):
            yield _illegal(f"5.{number}", f"{name} of nothing, text message, {how}", steps)
            number += 1
    yield _illegal(
        "5.15",
        "message in two fragments, continuation of nothing, text message",
        [first + last + _frame(b"fragment3", 0, final=False) + _frame(b"fragment4")],
        wants=[("text", whole)],
    )
    for number, is_final in ((16, False), (17, True)):
        name = "final continuation" if is_final else "continuation"
        data = (_frame(b"x", 0, final=is_final) + first + last) * 2
        yield _illegal(f"5.{number}", f"{name} of nothing, message in two fragments, both twice", [data])
    data = _frame(b"fragment1", final=False) + _frame(b"fragment2")
    yield _illegal("5.18", "message in two fragments, both with the opcode of text", [data])
    parts = [b"fragment%d" % n for n in range(1, 6)]
    fragments = _fragments(parts)
    one, two = _frame(b"pongme 1!", PING), _frame(b"pongme 2!", PING)
    frames = [fragments[0], fragments[1], one, fragments[2], fragments[3], two, fragments[4]]
    wants: list[Event] = [("pong", b"pongme 1!"), QUIET, ("pong", b"pongme 2!"), ("text", b"".join(parts))]
    title = "message in five fragments, a second's pause, two pings"
    steps = [b"".join(frames[:3]), QUIET, b"".join(frames[3:])]
    yield Case("5.19", f"{title}, in two writes", steps, wants)
    yield Case("5.20", f"{title}, frame by frame", [*frames[:3], QUIET, *frames[3:]], wants)


# 6 UTF-8.

_GREETING = "Hello-µ@ßöäüàá-UTF-8!!".encode()
_KOSME = bytes.fromhex("cebae1bdb9cf83cebcceb5")  # the Greek word kosme
_LATE = _KOSME + b"\xf4\x90\x80\x80" + b"edited"  # invalid from its 13th byte on
_SURROGATE = _KOSME + b"\xed\xa0\x80" + b"edited"


def _utf8() -> Iterator[Case]:
    yield _echo("6.1.1", "empty text message", b"")
    yield _echo("6.1.2", "three empty fragments", b"", steps=[b"".join(_fragments([b"", b"", b""]))])
    parts = _fragments([b"", b"middle", b""])
    yield _echo("6.1.3", "three fragments, the outer ones empty", b"middle", steps=[b"".join(parts)])
    yield _echo("6.2.1", "valid UTF-8", _GREETING)
    at = _GREETING.index("ü".encode())
    parts = _fragments([_GREETING[:at], _GREETING[at:]])
    yield _echo("6.2.2", "valid UTF-8, fragments that end between characters", _GREETING, steps=parts)
    for number, payload in ((3, _GREETING), (4, _KOSME)):
        title = "valid UTF-8, in fragments of one byte"
        yield _echo(f"6.2.{number}", title, payload, steps=[_in_fragments(payload, 1)])
    codes = _BAD_PAYLOAD
    yield _illegal("6.3.1", "invalid UTF-8", [_frame(_SURROGATE)], codes=codes)
    title = "invalid UTF-8, in fragments of one byte"
    yield _illegal("6.3.2", title, [_in_fragments(_SURROGATE, 1)], codes=codes)
    for number, cuts in ((1, (11, 15)), (2, (12, 13))):
        pieces = [_LATE[: cuts[0]], _LATE[cuts[0] : cuts[1]], _LATE[cuts[1] :]]
        where = "up to the end of the bad character" if number == 1 else "up to the bad byte"
        title = f"invalid UTF-8 in three fragments with pauses, the second {where}: refused at that"
        one, two, three = _fragments(pieces)
        slow = [QUIET, QUIET]
        steps = [one, QUIET, two, QUIET, three]
        yield _illegal(f"6.4.{number}", title, steps, wants=[QUIET], tolerates=slow, codes=codes)
        whole, head = _frame(_LATE), 6
        one, two = whole[: head + cuts[0]], whole[head + cuts[0] : head + cuts[1]]
        steps = [one, QUIET, two, QUIET, whole[head + cuts[1] :]]
        title = title.replace("in three fragments", "in one frame, in three chops")
        yield _illegal(f"6.4.{number + 2}", title, steps, wants=[QUIET], tolerates=slow, codes=codes)


_UNFINISHED = (
    "c0",
    "e080",
    "f08080",
    "f8808080",
    "fc80808080",
    "df",
    "efbf",
    "f7bfbf",
    "fbbfbfbf",
    "fdbfbfbfbf",
)
_NON_CHARACTERS = [
    chr(plane << 16 | low).encode().hex() for plane in range(1, 17) for low in (0xFFFE, 0xFFFF)
]


def _starts(first: int, last: int) -> str:
    return bytes(byte for start in range(first, last) for byte in (start, 0x20)).hex()


UTF8: Final[Sequence[tuple[str, Sequence[str], str]]] = (
    (
        "some valid sequences",
        [
            "68656c6c6f24776f726c64",
            "68656c6c6fc2a2776f726c64",
            "68656c6c6fe282ac776f726c64",
            "68656c6c6ff0a4ada2776f726c64",
            _KOSME.hex(),
        ],
        "",
    ),
    ("prefixes of a valid text", [_KOSME[:end].hex() for end in range(1, 12)], "1 3 4 6 8 10"),
    ("first sequence of a length", ["00", "c280", "e0a080", "f0908080"], ""),
    ("first sequence of 5 and 6 bytes", ["f888808080", "fc8480808080"], "all"),
    ("last sequence of a length", ["7f", "dfbf", "efbfbf", "f48fbfbf"], ""),
    ("last sequence of 4, 5 and 6 bytes", ["f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"], "all"),
    ("other boundaries", ["ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"], "5"),
    (
        "unexpected continuation bytes",
        ["80", "bf", *(("80bf" * 3)[: 2 * n] for n in range(2, 7)), bytes(range(0x80, 0xBF)).hex()],
        "all",
    ),
    (
        "lonely start bytes",
        [_starts(*span) for span in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))],
        "all",
    ),
    ("last continuation byte missing", _UNFINISHED, "all"),
    ("unfinished sequences in a row", ["".join(_UNFINISHED)], "all"),
    ("impossible bytes", ["fe", "ff", "fefeffff"], "all"),
    ("overlong ASCII", ["c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"], "all"),
    ("maximum overlong sequences", ["c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"], "all"),
    ("overlong NUL", ["c080", "e08080", "f0808080", "f880808080", "fc8080808080"], "all"),
    (
        "single UTF-16 surrogates",
        ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"],
        "all",
    ),
    (
        "paired UTF-16 surrogates",
        [high + low for high in ("eda080", "edadbf", "edae80", "edafbf") for low in ("edb080", "edbfbf")],
        "all",
    ),
    ("non-characters", ["efbfbe", "efbfbf", *_NON_CHARACTERS], ""),
    ("specials", [f"efbfb{last:x}" for last in range(9, 16)], ""),
)
"""From 6.5 on: title, payloads in hexadecimal, which of them are invalid."""


def _utf8_sequences() -> Iterator[Case]:
    for part, (title, payloads, invalid) in enumerate(UTF8, 5):
        bad = range(1, len(payloads) + 1) if invalid == "all" else [int(n) for n in invalid.split()]
        for number, text in enumerate(payloads, 1):
            id, payload = f"6.{part}.{number}", bytes.fromhex(text)
            if number in bad:
                yield _illegal(id, f"{title}: invalid", [_frame(payload)], codes=_BAD_PAYLOAD)
            else:
                yield _echo(id, title if invalid == "" else f"{title}: valid", payload)


# 7 Closing.


def _closing() -> Iterator[Case]:
    close = close_frame(1000)
    yield _echo("7.1.1", "message, then Close", b"Hello World!")
    yield _close("7.1.2", "Close, then another", close + _frame(b"", CLOSE))
    yield _close("7.1.3", "Close, then a ping", close + _frame(b"", PING))
    yield _close("7.1.4", "Close, then a message", close + _frame(b"Hello World!"))
    first, last = _fragments([b"fragment1", b"fragment2"])
    yield _close("7.1.5", "fragment, Close, last fragment", first + close + last)
    long = b"BAsd7&jh23" * 26214
    data = _frame(long) + _frame(_HELLO) + close + _frame(b"", PING)
    wants = [("text", long), ("text", _HELLO)]
    title = "message of 256 KiB, another, Close, ping"
    yield Case("7.1.6", title, [data], wants, (), closer=Closer.STEPS, is_free=True)
    yield _close("7.3.1", "Close without payload", _frame(b"", CLOSE))

    def refused(id: str, title: str, data: bytes, codes: frozenset[int] = _PROTOCOL_ERROR) -> Case:
        return Case(id, title, [data], closer=Closer.STEPS, codes=codes, is_clean=False)

    yield refused("7.3.2", "Close with a payload of one byte", _frame(b"a", CLOSE))
    yield _close("7.3.3", "Close with a code", close)
    yield _close("7.3.4", "Close with a code and a reason", close_frame(1000, b"Hello World!"))
    yield _close("7.3.5", "Close with a reason of 123 bytes", close_frame(1000, b"*" * 123))
    yield refused("7.3.6", "Close with a reason of 124 bytes", close_frame(1000, b"*" * 124))
    codes = frozenset({1002, 1007})
    yield refused("7.5.1", "Close with a reason that is not UTF-8", close_frame(1000, _SURROGATE), codes)
    valid = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for number, code in enumerate(valid, 1):
        codes = frozenset({1000, code})
        yield _close(f"7.7.{number}", f"Close with code {code}", close_frame(code), codes=codes)
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield refused(f"7.9.{number}", f"Close with the invalid code {code}", close_frame(code))
    for number, code in ((1, 5000), (2, 65535)):
        title, data = f"Close with code {code}", close_frame(code)
        yield _close(f"7.13.{number}", title, data, codes=_PROTOCOL_ERROR, is_free=True)


# 9 Limits and performance, 10 miscellaneous.

_KIB, _MIB = 1 << 10, 1 << 20
_SMALL = (64 * _KIB, 256 * _KIB, _MIB)
ONLY_AUTOBAHN: Final = "9.1.4-6, 9.2.4-6, 9.3.1-4, 9.4.1-4, 9.5.1-5, 9.6.1-5, 9.7.1-4, 9.7.6, 9.8.1-4, 9.8.6"
"""What is left out of section 9: more of the same."""


def _limits() -> Iterator[Case]:
    fillings = {TEXT: b"BAsd7&jh23", BINARY: b"\x00\xfe\x23\xfa\xf0"}

    def payload(opcode: int, size: int) -> bytes:
        filling = fillings[opcode]
        return (filling * (size // len(filling) + 1))[:size]

    for part, opcode in ((1, TEXT), (2, BINARY)):
        for number, size in enumerate(_SMALL, 1):
            title = f"{_KINDS[opcode]} message of {size // _KIB} KiB"
            yield _echo(f"9.{part}.{number}", title, payload(opcode, size), opcode)
    for part, opcode in ((3, TEXT), (4, BINARY)):
        whole = payload(opcode, 4 * _MIB)
        for number, size in enumerate((16 * _KIB, 64 * _KIB, 256 * _KIB, _MIB, 4 * _MIB), 5):
            title = f"{_KINDS[opcode]} message of 4 MiB in fragments of {size // _KIB} KiB"
            steps = [_in_fragments(whole, size, opcode)]
            yield _echo(f"9.{part}.{number}", title, whole, opcode, steps=steps)
    for part, opcode in ((5, TEXT), (6, BINARY)):
        whole = payload(opcode, _MIB)
        title = f"{_KINDS[opcode]} message of 1 MiB in chops of 2048"
        steps = _chops(_frame(whole, opcode), 2048)
        yield _echo(f"9.{part}.6", title, whole, opcode, steps=steps)
    for part, opcode in ((7, TEXT), (8, BINARY)):
        message = (b"*" if opcode == TEXT else b"\xfe") * _KIB
        title = f"1000 {_KINDS[opcode]} messages of 1 KiB, one after the other"
        wants = [(_KINDS[opcode], message)] * 1000
        yield Case(f"9.{part}.5", title, [_frame(message, opcode)] * 1000, wants)


def _miscellaneous() -> Iterator[Case]:
    payload = b"*" * 65536
    title = "message of 65536 bytes in fragments of 1300"
    yield _echo("10.1.1", title, payload, steps=[_in_fragments(payload, 1300)])


SECTIONS: Final = {
    1: "Framing",
    2: "Pings and pongs",
    3: "Reserved bits",
    4: "Opcodes",
    5: "Fragmentation",
    6: "UTF-8",
    7: "Closing",
    9: "Limits and performance",
    10: "Miscellaneous",
}


def _all() -> Iterable[Case]:
    for cases in (
        _framing,
        _pings,
        _reserved_bits,
        _opcodes,
        _fragmentation,
        _utf8,
        _utf8_sequences,
        _closing,
        _limits,
        _miscellaneous,
    ):
        yield from cases()


CASES: Final[Sequence[Case]] = tuple(
    sorted(_all(), key=lambda case: [int(number) for number in case.id.split(".")])
)
