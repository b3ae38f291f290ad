"""Which size of a pool would be right; for now none is better than the present one."""

from __future__ import annotations


class Sizer:
    def __init__(self, threads: int, *, minimum: int, maximum: int) -> None:
        self.threads = threads

    def ended(self, now: float, seconds: float, *, busy: int, threads: int, is_failure: bool) -> int | None:
        return None

    def gave_up(self, now: float) -> None: ...
