"""Progress on a terminal: what a long command shows of its work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress

QUIET_SECONDS = 1.0  # work that is done by then shows no bar
REFRESH_SECONDS = 0.1


class ProgressBar:
    """A bar on standard error, where that is a terminal and the work takes longer than a second.

    `total` is what `advance` will end at, None where that is not known. `noun` is what is counted.
    """

    def __init__(
        self,
        total: int | None,
        shown: bool = True,
        now: Callable[[], float] = time.monotonic,
        noun: str = "records",
    ) -> None:
        """Show nothing yet; `shown` False keeps it so."""
        self._total = total
        self._shown = shown and sys.stderr.isatty()
        self._now = now
        self._noun = noun
        self._next = now() + QUIET_SECONDS
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        """The bar itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: int, records: int) -> None:
        """Say how far the work is: `done` of the total, and the `noun` handled so far."""
        if not self._shown or self._now() < self._next:
            return
        self._next = self._now() + REFRESH_SECONDS
        if self._bar is None:
            self._bar = _bar()
            self._bar.add_task("", total=self._total)
            self._bar.start()
        description = f"{records:,} {self._noun}"
        self._bar.update(self._bar.task_ids[0], completed=done, description=description)
        self._bar.refresh()


def _bar() -> Progress:
    """A bar of rich, which is only imported where one is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns: list[Any] = [
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), Remaining()
    ]  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
