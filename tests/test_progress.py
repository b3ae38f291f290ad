"""What has begun comes to its end in time, or is late: in seconds, and in bytes that give more of them."""

from __future__ import annotations

import math

from trio_stomp.server.progress import Progress


def test_what_does_not_come_to_its_end_is_late_after_the_timeout() -> None:
    progress = Progress(timeout=30, rate=500)
    assert progress.deadline(1, 100.0, 10) == 130
    assert progress.deadline(1, 129.0, 10) == 130


def test_bytes_give_more_time_at_the_rate() -> None:
    progress = Progress(timeout=30, rate=500)
    progress.deadline(1, 100.0, 10)
    assert progress.deadline(1, 101.0, 1010) == 132


def test_another_one_has_its_own_time() -> None:
    progress = Progress(timeout=30, rate=500)
    progress.deadline(1, 100.0, 10)
    assert progress.deadline(2, 129.0, 1010) == 159


def test_nothing_under_way_is_never_late() -> None:
    progress = Progress(timeout=30, rate=500)
    progress.deadline(1, 100.0, 10)
    assert progress.deadline(0, 129.0, 10) == math.inf
    assert progress.deadline(1, 1001.0, 10) == 1031  # its time starts anew
