#!/usr/bin/env python3
"""Fuzzes the decoder or the front door guided by coverage: atheris, begun with inputs of our grammar.

An input that fails is written to the directory of ``--failures``, where the corpus is kept too: the next
run goes on from there. atheris is in the extra ``fuzz`` and has wheels for Linux only.

    PYTHONPATH=.:tests python -m fuzz.guided decoder --seconds 300
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

from fuzz.sessions import DESTINATIONS, HEAD_LINES, NASTY, REQUEST_LINES, head, mutated_head, upgrade

TARGETS: Final = {"decoder": "trio_stomp.stomp", "front": "trio_stomp.transport.http"}
"""What is instrumented for each; the front door's h11 and wsproto as well."""
SEEDS: Final = 500
"""Inputs that a corpus begins with."""


def main() -> int:
    """Run the command; libFuzzer ends the process, with exit status 0 when nothing failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=300, help="how long (default 300)")
    parser.add_argument("--seed", type=int, default=1, help="of atheris and of the first inputs (default 1)")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    options = parser.parse_args()
    try:
        import atheris
    except ImportError as error:
        print(f"atheris is not here ({error}): pip install '.[fuzz]', on Linux", file=sys.stderr)
        return 1
    libraries = ["h11", "wsproto"] if options.target == "front" else []
    with atheris.instrument_imports(include=[TARGETS[options.target], *libraries]):
        check = _decoder() if options.target == "decoder" else _front()
    corpus = options.failures / f"corpus-{options.target}"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in seeds(options.target, options.seed):
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    words = options.failures / f"words-{options.target}"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in _words(options.target) if word))
    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        f"-seed={options.seed}",
        f"-artifact_prefix={options.failures}/{options.target}-",
        f"-dict={words}",
        "-max_len=2048",
        "-timeout=10",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup(arguments, check)
    atheris.Fuzz()
    return 0


def _decoder() -> Callable[[bytes], None]:
    from fuzz.decoder import SMALL, VERSIONS, check

    from trio_stomp.stomp.frames import Limits

    def check_one(data: bytes) -> None:
        """The first byte says how the others are read."""
        limits = SMALL if data[:1] < b"\x80" else Limits()
        check(data[1:], limits, VERSIONS[data[0] % 3 if data else 0])

    return check_one


def _front() -> Callable[[bytes], None]:
    from fuzz.front import check_head

    return check_head


def seeds(target: str, seed: int) -> Iterator[bytes]:
    """What a corpus begins with."""
    random = Random(seed)
    for _ in range(SEEDS):
        if target == "front":
            lines = upgrade(random)
            yield head(mutated_head(random, lines) if random.randrange(4) else lines)
        else:
            from fuzz.decoder import structured

            yield bytes((random.randrange(256),)) + structured(random)


def _words(target: str) -> Iterator[bytes]:
    """What libFuzzer puts in as a whole."""
    if target == "front":
        yield from (word for line in (*HEAD_LINES, *REQUEST_LINES) for word in line.split(b" "))
    else:
        from fuzz.sessions import COMMANDS, NAMES

        yield from COMMANDS
        yield from (f"\n{name}:".encode() for name in NAMES)
        yield from (destination.encode() for destination in DESTINATIONS)
        yield from NASTY


def _escaped(word: bytes) -> str:
    """As libFuzzer's dictionaries want it: everything in hexadecimal."""
    return "".join(f"\\x{byte:02x}" for byte in word[:60])


if __name__ == "__main__":
    sys.exit(main())
