"""What a training shows while it runs, and how Ctrl-C ends it."""

import signal
import sys
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from bigcode_cli.cli.render import TerminalReporter, is_terminal

if TYPE_CHECKING:
    from rich.live import Live

SECONDS_BETWEEN_LINES = 20.0
INTERRUPTED_EXIT_CODE = 130


class Interrupt:
    """Ctrl-C asks for a stop after the step; a second one stops at once."""

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def asked(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


class TrainingDisplay:
    """One live line on a terminal; elsewhere a line now and then."""

    def __init__(self, report: TerminalReporter, *, quiet: bool) -> None:
        self._report = report
        self._quiet = quiet
        self._live: Live | None = None
        self._told = -SECONDS_BETWEEN_LINES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, line: dict[str, Any]) -> None:
        """One line of the log."""
        if self._quiet:
            return
        if "bits_per_byte" in line:
            found = ", ".join(f"{name} {bits:.3f}" for name, bits in line["bits_per_byte"].items())
            self._report.note(f"step {line['step']}: bits per byte {found}")
            return
        text = describe(line)
        if is_terminal(sys.stderr):
            self._show_live(text)
        elif time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            self._report.note(text)

    def _show_live(self, text: str) -> None:
        from rich.text import Text

        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4)
            self._live.start()
        self._live.update(Text(text, no_wrap=True, overflow="ellipsis"))


def describe(line: dict[str, Any]) -> str:
    """A line of the log for people: how far, how good, how fast, how long still."""
    done = min(1.0, line["position"])  # the last step of a plan by the clock ends behind it
    parts = [f"step {line['step']:,}", f"{done:.1%}", f"loss {line['loss']:.4f}"]
    rate = line["tokens_per_s"]
    if rate:
        parts.append(f"{rate:,} tokens/s")
    if done > 0:
        left = line["seconds"] * (1 / done - 1)
        parts.append(f"{left / 60:.1f} min left")
    return ", ".join(parts)
