"""Everything that is not the answer: notes, progress and errors, on stderr."""

import os
import re
import sys
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DELAY_S = 0.5
"""Work that ends sooner shows no progress."""

RETURN_S = 0.1
"""After which the progress of longer work comes back, where part of an answer took it down."""


def is_terminal(stream: TextIO | None) -> bool:
    """Whether someone watches this stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def wants_colour(stream: TextIO | None) -> bool:
    """Whether a stream may be coloured: a terminal, and no ``NO_COLOR`` (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and not _dumb()


def one_line(text: str) -> str:
    """A message on one line that cannot drive the terminal."""
    from bigcode_cli.text.terminal import escape_control

    return escape_control(re.sub(r"\s*[\r\n]+\s*", " ", text).replace("\t", " "))


def print_error(message: str, hint: str | None = None) -> None:
    """``error: …`` and, where there is one, ``hint: …``."""
    colour = wants_colour(sys.stderr)
    error, hint_label = (
        ("\x1b[1;31merror:\x1b[0m", "\x1b[1mhint:\x1b[0m")
        if colour
        else (
            "error:",
            "hint:",
        )
    )
    _say(f"{error} {one_line(message)}")
    if hint:
        _say(f"{hint_label} {one_line(hint)}")


class TerminalReporter:
    """Tells the user on stderr what goes on: notes as lines, progress only on a terminal.

    Progress shows after ``DELAY_S``, even where a long silent step is what takes the time, and
    leaves nothing behind. Use it as a context manager, so that it ends with the command.

    Args:
        quiet: tell nothing at all.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._work: dict[str, tuple[int, int | None, str]] = {}
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, float] = {}
        self._bars: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.clear()

    def note(self, text: str) -> None:
        """``note: …`` on a line of its own."""
        if not self._quiet:
            self.line(f"note: {one_line(text)}")

    def header(self, text: str) -> None:
        """Name the output that comes next."""
        if not self._quiet:
            self.line(f"==> {one_line(text)} <==")

    def line(self, text: str) -> None:
        """A line as it is; bars under way go on below it."""
        with self._lock:
            if self._bars is None:
                _say(text)
            else:
                self._bars.console.out(text, highlight=False)

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        """Show how far some work is; ``total`` ``None`` shows that it goes on."""
        if self._quiet or not is_terminal(sys.stderr) or _dumb():
            return
        with self._lock:
            if done == total:
                self._end(label)
                return
            self._work[label] = (done, total, unit)
            if self._bars is not None:
                self._update(label)
            elif self._timer is None:
                now = monotonic()
                spent = now - self._begun.setdefault(label, now)
                self._timer = threading.Timer(max(DELAY_S - spent, RETURN_S), self._show)
                self._timer.daemon = True
                self._timer.start()

    def clear(self) -> None:
        """Take down what is shown: part of the answer comes, or the command ends."""
        with self._lock:
            self._work.clear()
            self._stop()

    def _end(self, label: str) -> None:
        self._work.pop(label, None)
        self._begun.pop(label, None)
        if self._bars is not None and (task := self._tasks.pop(label, None)) is not None:
            self._bars.remove_task(task)
        if not self._work:
            self._stop()

    def _show(self) -> None:
        """Called by the timer, on its own thread."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        with self._lock:
            # One that was cancelled may have been on its way here, and another have been set since.
            if self._timer is not threading.current_thread() or not self._work:
                return
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[amount]}", markup=False),
                console=Console(stderr=True, highlight=False, markup=False, emoji=False),
                transient=True,
                refresh_per_second=10,
            )
            for label in self._work:
                self._update(label)
            self._bars.start()

    def _update(self, label: str) -> None:
        assert self._bars is not None
        done, total, unit = self._work[label]
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(one_line(label), total=total, amount="")
        self._bars.update(
            self._tasks[label], completed=done, total=total, amount=_amount(done, total, unit)
        )

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bars is not None:
            with suppress(OSError):
                self._bars.stop()
            self._bars = None
            self._tasks.clear()


def _amount(done: int, total: int | None, unit: str) -> str:
    if not unit:
        return ""
    if unit == "B":
        return (
            f"{done / 1e6:,.1f} MB" if total is None else f"{done / 1e6:,.1f}/{total / 1e6:,.1f} MB"
        )
    return f"{done:,} {unit}" if total is None else f"{done:,}/{total:,} {unit}"


def _say(text: str) -> None:
    """A line on stderr. That no one can read it is no reason to fail."""
    with suppress(OSError, ValueError, AttributeError):
        encoding = sys.stderr.encoding or "utf-8"
        print(
            text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr, flush=True
        )


def _dumb() -> bool:
    return os.environ.get("TERM") == "dumb"
