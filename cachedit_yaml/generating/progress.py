"""Progress bars on a terminal, one line for each task elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

#: Starts a task with its number of steps; what it returns is told the steps that are done.
Start: TypeAlias = Callable[[str, "int | None"], Callable[[int, "int | None"], None]]


@contextmanager
def progress(quiet: bool = False) -> Iterator[Start]:
    """Show what goes on, on stderr.

    Args:
        quiet: show nothing.
    """
    if quiet:
        yield _start_nothing
        return
    bars = _bars() if sys.stderr.isatty() else None
    if bars is None:
        yield _start_line
        return

    def start(name: str, total: int | None) -> Callable[[int, int | None], None]:
        task = bars.add_task(name, total=total)

        def advance(done: int, of: int | None) -> None:
            bars.update(task, completed=done, total=of if of is not None else total)

        return advance

    with bars:
        yield start


def _bars() -> Any:
    """Rich's progress bars, or None where rich is not installed."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        return None
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=36),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]left[/dim]"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _start_line(name: str, total: int | None) -> Callable[[int, int | None], None]:
    steps = f", {total} step{'s' * (total != 1)}" if total is not None else ""
    print(f"{name}{steps} ...", file=sys.stderr, flush=True)
    return _advance_nothing


def _start_nothing(name: str, total: int | None) -> Callable[[int, int | None], None]:
    return _advance_nothing


def _advance_nothing(done: int, total: int | None) -> None:
    pass
