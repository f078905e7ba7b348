"""Where the answer goes: a terminal, a pipe, or a file that is written whole or not at all."""

import codecs
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol, Self

from bigcode_cli.cli.render import is_terminal
from bigcode_cli.cli.replacement import Replacement
from bigcode_cli.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.style import Style

STDOUT = "-"


class Answer(Protocol):
    """Takes the answer, piece by piece. Use it as a context manager.

    Attributes:
        terminal: whether someone watches the answer grow.
    """

    terminal: bool

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; a Ctrl-C ends it like success, so that what is there is kept."""

    def write(self, text: str) -> None:
        """Add text that the model wrote or the user gave."""

    def write_json(self, line: str) -> None:
        """Add one line of JSON, which is ASCII in any encoding."""

    def pause(self) -> None:
        """Let others write to the terminal: end the line there. A pipe needs nothing."""

    def separate(self) -> None:
        """Set what follows off from what stands: end the line, leave one blank."""


def open_answer(output: Path | None, encoding: str) -> Answer:
    """Open what ``-o`` names, or stdout. What cannot be written fails here, before any work.

    Raises:
        OutputError: it cannot be written.
    """
    if output is not None and str(output) != STDOUT:
        return FileAnswer(output, encoding)
    if sys.stdout is None:
        raise OutputError("stdout is closed", "write to a file with --output")
    return TerminalAnswer() if is_terminal(sys.stdout) else PipeAnswer(sys.stdout.buffer, encoding)


class TerminalAnswer:
    """Shows text as it comes, with what would drive the terminal escaped.

    rich writes it (markup, emoji and highlighting off, soft wrap); as a bare segment, so that tabs
    stay tabs.
    """

    terminal = True

    def __init__(self) -> None:
        from bigcode_cli.text.terminal import TerminalText

        self._safe = TerminalText()
        self._console: Console | None = None
        self._at_line_start = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.pause()

    def write(self, text: str) -> None:
        """Show text, all but a carriage return that may be half a line end."""
        self._show(self._safe.push(text))

    def write_json(self, line: str) -> None:
        """Show a line that holds nothing to escape."""
        self._show(line + "\n")

    def pause(self) -> None:
        """End the line, if it is not ended."""
        self._show(self._safe.flush())
        if not self._at_line_start:
            self._show("\n")

    def separate(self) -> None:
        """End the line and leave one blank."""
        self.pause()
        self._show("\n")

    def show_parts(self, parts: Iterable[tuple[str, "Style | None"]]) -> None:
        """Show text with styles, in which nothing is left to escape.

        rich leaves the colours out where the user or the terminal wants none.
        """
        from rich.segment import Segment, Segments

        segments = [Segment(text, style) for text, style in parts if text]
        if not segments:
            return
        try:
            self._get_console().print(Segments(segments), end="", soft_wrap=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write to stdout: {error.strerror}") from error
        self._at_line_start = segments[-1].text.endswith("\n")

    def _show(self, text: str) -> None:
        self.show_parts([(text, None)])

    def _get_console(self) -> "Console":
        if self._console is None:
            from rich.console import Console

            with suppress(AttributeError):  # a console that cannot spell a character shows its code
                sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            self._console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
        return self._console


class PipeAnswer:
    """Passes bytes on, unchanged and at once.

    Args:
        stream: takes bytes.
        encoding: of the text; its byte order mark, where it has one, is written once.
        name: of the stream in errors.
    """

    terminal = False

    def __init__(self, stream: IO[bytes], encoding: str, name: str = "to stdout") -> None:
        self._stream = stream
        self._encoder = codecs.getincrementalencoder(encoding)()
        self._encoding = encoding
        self._name = name
        self._last = "\n"
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def write(self, text: str) -> None:
        """Write and flush the text.

        Raises:
            OutputError: the encoding lacks a character, or the disk is full.
        """
        if not text:
            return
        try:
            data = self._encoder.encode(text)
        except UnicodeEncodeError as error:
            raise unencodable(error, self._encoding) from error
        self._put(data)
        self._last = text[-1]

    def write_json(self, line: str) -> None:
        """Write and flush a line of JSON."""
        self._put(line.encode("ascii") + b"\n")

    def pause(self) -> None:
        """Nothing: nobody else writes here."""

    def separate(self) -> None:
        """End the line and leave one blank."""
        self.write("\n" if self._last == "\n" else "\n\n")

    def _put(self, data: bytes) -> None:
        self._begun = True
        try:
            self._stream.write(data)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"cannot write {self._name}: {error.strerror}") from error


def unencodable(error: UnicodeEncodeError, encoding: str) -> OutputError:
    """What to tell of a character that an encoding lacks."""
    character = f"U+{ord(error.object[error.start]):04X}"
    return OutputError(f"{encoding} cannot write {character}", "utf-8 can: --encoding utf-8")


class FileAnswer(PipeAnswer):
    """Writes a file that appears under its name only when it is whole.

    After an error the old file is still there. A Ctrl-C keeps what came before it, if anything
    did. Devices and pipes are written to as they are.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self._replacement = Replacement(path) if _is_plain(path) else None
        super().__init__(self._open(path), encoding, str(path))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None or (issubclass(kind, KeyboardInterrupt) and self._begun):
                self._finish()
        finally:
            with suppress(OSError):
                self._stream.close()
            if self._replacement is not None:
                self._replacement.discard()

    def _open(self, path: Path) -> IO[bytes]:
        if self._replacement is not None:
            return self._replacement.stream
        try:
            return path.open("wb")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def _finish(self) -> None:
        if self._replacement is not None:
            self._replacement.commit()
            return
        try:
            self._stream.flush()
        except OSError as error:
            raise OutputError(f"cannot write {self._name}: {error.strerror}") from error


def _is_plain(path: Path) -> bool:
    """Whether a file is one whose place another can take.

    Raises:
        OutputError: it is a folder.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # not there yet
        return True
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder, not a file")
    return stat.S_ISREG(mode)
