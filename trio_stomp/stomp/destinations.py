"""Destinations: the patterns that clients subscribe to and the templates that handlers are routed by.

Rule 1: matching is linear in the destination's length; there are no regular expressions from clients.
Rule 2: ``*`` and ``**`` stand only in patterns, ``{name}`` only in templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from trio_stomp.config import DESTINATION_LENGTH
from trio_stomp.errors import DestinationError

PATTERN_SEGMENTS: Final = 32
"""Segments in a pattern with a wildcard: each is a place in the broker's tree. With as many as there is room
for, one session's 1,000 patterns took 188 MB and made a message cost 370 ms; with 32 it is 8 MB and 12 ms."""

_VARIABLE: Final = re.compile(r"\{([^{}]*)\}\Z")


@attrs.frozen
class Pattern:
    """What a SUBSCRIBE names: ``*`` is one segment, ``**`` the rest (one or more), all else itself."""

    text: str
    separator: str
    segments: tuple[str, ...]
    is_exact: bool

    @classmethod
    def parse(cls, text: str, separator: str = "/") -> Pattern:
        """Read a pattern.

        Raises:
            DestinationError: it is empty or over 1,024 characters, has a wildcard and more than 32
                segments, mixes a wildcard with other text in a segment, or goes on after ``**``.
        """
        check_length(text)
        if "*" not in text:
            return cls(text, separator, (text,), True)
        segments = tuple(text.split(separator))
        if len(segments) > PATTERN_SEGMENTS:
            raise DestinationError(
                f"a pattern of {len(segments)} segments, the limit is {PATTERN_SEGMENTS}", text
            )
        for at, segment in enumerate(segments):
            if "*" in segment and segment not in ("*", "**"):
                raise DestinationError(f"{text!r}: a wildcard is a whole segment, not {segment!r}", text)
            if segment == "**" and at != len(segments) - 1:
                raise DestinationError(f"{text!r}: '**' is the last segment", text)
        return cls(text, separator, segments, False)

    def matches(self, destination: str) -> bool:
        """Whether a message to ``destination`` reaches this subscription; linear in its length."""
        if self.is_exact:
            return destination == self.text
        segments, own = destination.split(self.separator), self.segments
        if own[-1] == "**":
            own = own[:-1]
            if len(segments) <= len(own):
                return False
        elif len(segments) != len(own):
            return False
        return all(mine in ("*", theirs) for mine, theirs in zip(own, segments, strict=False))


@attrs.frozen
class Template:
    """What handlers are routed by: ``/app/chat/{room}``; a variable is one segment."""

    text: str
    separator: str
    segments: tuple[tuple[str, bool], ...]
    """Each segment's text or variable, and whether it is a variable."""
    variables: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, separator: str = "/") -> Template:
        """Read a template.

        Raises:
            DestinationError: it is empty or over 1,024 characters, has a wildcard, a variable
                that is not a whole segment or not a Python name, or one twice.
        """
        check_length(text)
        if "*" in text:
            raise DestinationError(f"{text!r}: wildcards stand in subscriptions, not here", text)
        segments: list[tuple[str, bool]] = []
        variables: list[str] = []
        for segment in text.split(separator):
            found = _VARIABLE.match(segment)
            if found is None:
                if "{" in segment or "}" in segment:
                    raise DestinationError(f"{text!r}: a variable is a whole segment, not {segment!r}", text)
                segments.append((segment, False))
                continue
            name = found[1]
            if not name.isidentifier():
                raise DestinationError(f"{text!r}: {name!r} is not a name", text)
            if name in variables:
                raise DestinationError(f"{text!r}: variable {name!r} stands twice", text)
            variables.append(name)
            segments.append((name, True))
        return cls(text, separator, tuple(segments), tuple(variables))

    @property
    def specificity(self) -> tuple[bool, ...]:
        """For sorting: of two templates that fit, the one with the earlier literal is less, and first."""
        return tuple(is_variable for _, is_variable in self.segments)

    def match(self, destination: str) -> dict[str, str] | None:
        """The variables' values; None when it does not fit."""
        return self.match_segments(destination.split(self.separator))

    def match_segments(self, segments: Sequence[str]) -> dict[str, str] | None:
        """As `match`, for a destination that has been split."""
        if len(segments) != len(self.segments):
            return None
        values: dict[str, str] = {}
        for segment, (text, is_variable) in zip(segments, self.segments, strict=True):
            if is_variable:
                if not segment:
                    return None
                values[text] = segment
            elif segment != text:
                return None
        return values

    def format(self, variables: Mapping[str, str]) -> str:
        """The destination with each variable's value in its place.

        Raises:
            DestinationError: a value is missing, empty, or has a separator or wildcard in it.
        """
        if not self.variables:
            return self.text
        parts = []
        for text, is_variable in self.segments:
            value = variables.get(text, "") if is_variable else text
            if is_variable and (not value or self.separator in value or "*" in value):
                raise DestinationError(f"{value!r} cannot stand for {{{text}}} in {self.text!r}", self.text)
            parts.append(value)
        return self.separator.join(parts)


def check_length(destination: str) -> None:
    """Return when a destination is neither empty nor too long.

    Raises:
        DestinationError: it is.
    """
    if not destination:
        raise DestinationError("a destination is empty", destination)
    if len(destination) > DESTINATION_LENGTH:
        raise DestinationError(
            f"a destination of {len(destination)} characters, the limit is {DESTINATION_LENGTH}", destination
        )
