"""What the demo shows: a table on a terminal, lines elsewhere, and at its end the last screen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from .demo_run import Progress

LINE_TICKS = 50  # of event time, between two lines of progress
ALERTS_SHOWN = 12
BAR_CELLS = 60


@contextmanager
def screen(progress: Progress, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show how far the demo is; what is handed out is to be called now and then while it runs."""
    if quiet:
        yield lambda: None
    elif sys.stdout.isatty():
        from rich.live import Live

        with Live(get_renderable=lambda: table(progress), refresh_per_second=5, transient=True):
            yield lambda: None
    else:
        told = 0

        def tend() -> None:
            nonlocal told
            if progress.tick // LINE_TICKS > told:
                told = progress.tick // LINE_TICKS
                typer.echo(
                    f"{progress.tick:>6} of {progress.seconds} s: {progress.sent:,} sent,"
                    f" {progress.counts.records:,} read, {len(progress.alerts)} alerts"
                )

        yield tend


def table(progress: Progress) -> Any:
    """The state of the run and the newest alerts, for rich; always of the same size."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = ProgressBar(total=progress.seconds, completed=progress.tick, width=BAR_CELLS)
    alerts = list(progress.alerts.values())
    last = {alert.device: alert.state for alert in alerts}
    firing = list(last.values()).count("firing")
    counts = progress.counts
    line = Text(
        f"{progress.tick:>5} of {progress.seconds} s   {progress.sent:,} sent"
        f"   {counts.records:,} read   {counts.duplicates:,} duplicates"
        f"   {counts.rejected:,} rejected"
    )
    newest = Table(title=f"{len(alerts)} alerts, {firing} firing now")
    for name, width, side in (
        ("event time", 10, "left"), ("device", 12, "left"), ("state", 8, "left"),
        ("mean of 60 s", 12, "right"), ("limit", 7, "right"),
    ):  # fmt: skip
        newest.add_column(name, min_width=width, justify=side)  # type: ignore[arg-type]
    for alert in alerts[: -ALERTS_SHOWN - 1 : -1]:
        at = datetime.fromtimestamp(alert.time / 1000, UTC)
        style = "red" if alert.state == "firing" else "green"
        cells = (f"{at:%H:%M:%S}", alert.device, alert.state, f"{alert.value:.2f}")
        newest.add_row(*cells, f"{alert.threshold:g}", style=style)
    for _ in range(ALERTS_SHOWN - len(alerts)):
        newest.add_row()
    grid = Table.grid()  # a bar by itself does not end its line
    grid.add_row(bar)
    return Group(line, grid, newest)


def last_screen(result: dict[str, Any], folder: Path) -> Iterator[str]:
    """The lines that the demo ends with, of what came out."""
    for name, text in (
        ("records_sent", "readings sent"),
        ("records_evaluated", "evaluated"),
        ("filtered", "filtered"),
        ("duplicates", "duplicates"),
        ("rejected", "rejected: each in the error stream, byte for byte"),
        ("lost", "lost"),
    ):
        if name == "records_sent" and "broker" in result:
            text = f"readings published over MQTT, through {result['broker']} and the bridge"
        if name == "rejected" and result["altered"]:
            text = f"rejected: {result['altered']} NOT as they were sent in the error stream"
        yield f"{result[name]:>10,}  {text}"
    yield (
        f"{result['alerts']:>10,}  alerts in the queue, of {result['alerts_expected']:,} that the"
        f" simulator knows to be right: {result['alerts_missing']} missing,"
        f" {result['alerts_spurious']} spurious"
    )
    p50, p99 = result["latency_p50_ms"], result["latency_p99_ms"]
    yield f"            reading to alert in the queue: p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    yield f"done in {result['seconds']:.1f} s; pipeline, readings, alerts and errors: {folder}/"
    yield ""
    yield "try next:"
    yield f"  {result['next']}"
