import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest

from bigcode_cli.cli.render import DELAY_S, TerminalReporter
from tests.cli.running import Stream


@contextmanager
def a_terminal() -> Iterator[Stream]:
    """A terminal in the place of stderr."""
    stream = Stream(terminal=True)
    with redirect_stderr(stream):
        yield stream


def told(stream: Stream) -> str:
    stream.flush()
    return stream.bytes.getvalue().decode()


def wait_for(text: str, stream: Stream) -> None:
    until = time.monotonic() + 20
    while text not in told(stream):
        assert time.monotonic() < until, told(stream)
        time.sleep(0.05)


def test_short_work_shows_nothing() -> None:
    with a_terminal() as terminal:
        with TerminalReporter() as report:
            for done in range(1, 11):
                report.progress("work", done, 10, "B")
        time.sleep(DELAY_S + 0.1)
        assert told(terminal) == ""


def test_long_work_shows_even_while_it_is_silent() -> None:
    with a_terminal() as terminal, TerminalReporter() as report:
        report.progress("loading \x1b[2J", 0, None, "")
        wait_for("loading \\x1b[2J", terminal)
        report.progress("loading \x1b[2J", 1, 1, "")
        wiped_and_cursor_shown = "\r\x1b[2K\x1b[?25h\r"
        assert told(terminal).endswith(wiped_and_cursor_shown)


def test_a_timer_that_was_called_off_too_late_shows_nothing() -> None:
    """It is on its way, for rich takes long to import, when the next one is set."""
    with a_terminal() as terminal, TerminalReporter() as report:
        report.progress("work", 1, 10, "B")
        report.clear()
        report.progress("work", 2, 10, "B")
        called_off = threading.Thread(target=report._show)
        called_off.start()
        called_off.join()
        assert report._bars is None
        wait_for("work", terminal)


def test_bar_counts_and_notes_stand_above_it() -> None:
    with a_terminal() as terminal, TerminalReporter() as report:
        report.progress("fetching", 0, 4_000_000, "B")
        wait_for("0.0/4.0 MB", terminal)
        report.progress("fetching", 2_000_000, 4_000_000, "B")
        report.note("[bold]half :smile:")
        wait_for("2.0/4.0 MB", terminal)
        assert "note: [bold]half :smile:" in told(terminal)


@pytest.mark.parametrize("reason", ["quiet", "pipe", "dumb"])
def test_no_progress_where_it_is_not_wanted(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(terminal=reason != "pipe")
    monkeypatch.setattr("sys.stderr", stream)
    if reason == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    with TerminalReporter(quiet=reason == "quiet") as report:
        report.progress("work", 0, 10, "B")
        time.sleep(DELAY_S + 0.2)
    assert told(stream) == ""


def test_notes_are_one_line_and_quiet_has_none() -> None:
    with a_terminal() as terminal:
        TerminalReporter(quiet=True).note("x")
        TerminalReporter().note("two\nlines")
        assert told(terminal) == "note: two lines\n"


def test_progress_obeys_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with a_terminal() as terminal, TerminalReporter() as report:
        report.progress("work", 1, 10, "B")
        wait_for("work", terminal)
        assert "\x1b[3" not in told(terminal)


def test_stderr_that_nobody_reads_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    stream.close()
    for broken in (stream, None):
        monkeypatch.setattr("sys.stderr", broken)
        with TerminalReporter() as report:
            report.note("x")
            report.progress("work", 1, 2, "B")
