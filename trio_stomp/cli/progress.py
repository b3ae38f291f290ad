"""How far a long command is: a bar at a terminal that has rich, else a line now and then."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import TextIO

from trio_stomp.stress.drive import Progress

Show = Callable[[Progress], None]


@contextlib.contextmanager
def open_progress(out: TextIO) -> Iterator[Show]:
    """Give what shows a `Progress`, for as long as the context lasts."""
    if out.isatty() and has_rich():
        with _open_bar(out) as show:
            yield show
    else:
        yield _line_shower(out)


def has_rich() -> bool:
    """Whether rich is installed: an extra, ``trio-stomp[stress]``."""
    return importlib.util.find_spec("rich") is not None


@contextlib.contextmanager
def _open_bar(out: TextIO) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(file=out), transient=True) as bar:
        task = bar.add_task("starting", total=1.0, counts="")

        def show(progress: Progress) -> None:
            known = max(progress.runs, progress.run)
            bar.update(
                task,
                description=f"{progress.run}/{known} {progress.label} {progress.phase}",
                completed=(progress.run - 1 + progress.fraction) / known,
                counts=f"{progress.sent} sent, {progress.answered} answered, {progress.errors} errors",
            )

        yield show


def _line_shower(out: TextIO) -> Show:
    """A line when a run starts and one when it is measured; none for each step of it."""
    shown: tuple[object, ...] = ()

    def show(progress: Progress) -> None:
        nonlocal shown
        now = (progress.run, progress.phase)
        if now != shown and progress.phase in ("starting", "measuring"):
            shown = now
            text = f"run {progress.run} of {progress.runs}: {progress.label}: {progress.phase}"
            print(text, file=out, flush=True)

    return show
