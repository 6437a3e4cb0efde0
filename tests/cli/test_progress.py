"""The bar of long work, and Ctrl-C as a wish."""

import io
import signal
import sys
import threading

import pytest

from streamgauge.cli.interrupt import Interrupt
from streamgauge.cli.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def shown(monkeypatch: pytest.MonkeyPatch, total: int | None, *steps: tuple[float, int]) -> str:
    """What a terminal gets to see when work advances at these seconds to these bytes."""
    terminal, clock = Terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with ProgressBar(total, now=clock) as bar:
        for seconds, done in steps:
            clock.time = 100.0 + seconds
            bar.advance(done, done // 2)
    return terminal.getvalue()


def test_short_work_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 10, (0.1, 5), (0.9, 10)) == ""


@pytest.mark.parametrize("total", [10_000, None])
def test_long_work_shows_records_and_goes_away(
    total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(monkeypatch, total, (0.5, 100), (1.1, 5000), (1.11, 6000), (2.0, 9000))
    assert "2,500 records" in text and "4,500 records" in text
    assert "3,000 records" not in text  # too soon after the one before
    assert text.endswith("\x1b[2K")  # the line is cleared


def test_no_terminal_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    with ProgressBar(10, now=clock) as bar:
        clock.time += 5
        bar.advance(5, 5)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", Terminal())
    clock = Clock()
    with ProgressBar(10, shown=False, now=clock) as bar:
        clock.time += 5
        bar.advance(5, 5)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_the_first_ctrl_c_is_a_wish_the_second_an_order() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_nothing_is_waited_for_after_ctrl_c() -> None:
    with Interrupt() as interrupt:
        with interrupt.waiting():
            pass
        with pytest.raises(KeyboardInterrupt), interrupt.waiting():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupt.waiting():
            raise AssertionError("not reached")


def test_ctrl_c_just_before_waiting() -> None:
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), interrupt.waiting():
            raise AssertionError("not reached")


def test_other_threads_leave_the_signal_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.extend([signal.getsignal(signal.SIGINT), interrupt.asked])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, False]
