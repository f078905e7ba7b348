"""What the REPL keeps on disk: the history in the user's state folder, and the code itself."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from prompt_toolkit.history import FileHistory

from bigcode_cli.cli.inputs import BYTE_ORDER_MARK, decode, exact_encoding, read_file
from bigcode_cli.cli.output import FileAnswer

NEW_NAME = "code.py"
"""What code is taken for that has no file yet."""


def state_folder() -> Path:
    """Where the history is: ``$XDG_STATE_HOME/bigcode``, else ``~/.local/state/bigcode``.

    A relative ``XDG_STATE_HOME`` is to be ignored (XDG Base Directory Specification 0.8).
    """
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "bigcode"


class History(FileHistory):
    """Entries of any number of lines in a file that others cannot read.

    Args:
        path: of the file; its folder is made when the first entry is stored.
        warn: told, once, why nothing can be read or kept.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        super().__init__(path)
        self._path, self._warn = path, warn
        self._warned = False

    def load_history_strings(self) -> Iterable[str]:
        """The entries, newest first; none where they cannot be read."""
        try:
            return list(super().load_history_strings())
        except OSError as error:
            self._failed("read", error)
            return []

    def store_string(self, string: str) -> None:
        """Add an entry; the program goes on where that fails."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600))
            # What was typed and is no text, a lone surrogate, is kept as a question mark.
            super().store_string(string.encode("utf-8", "replace").decode("utf-8"))
        except OSError as error:
            self._failed("kept", error)

    def _failed(self, verb: str, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"the history cannot be {verb}: {self._path}: {error.strerror}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFile:
    r"""A file of code, and what of it the screen does not show.

    Attributes:
        mark: it begins with a byte order mark.
        crlf: all its lines end in ``\r\n``.
        ended: its last line is ended.
    """

    path: Path
    encoding: str
    mark: bool = False
    crlf: bool = False
    ended: bool = True

    @classmethod
    def read(cls, path: Path, encoding: str) -> tuple["CodeFile", str]:
        """A file and its code.

        Raises:
            InputError: it is missing, a folder, not to be read, or not of this encoding.
        """
        data = read_file(path)
        encoding = exact_encoding(encoding, data)
        text = decode(data, encoding, str(path))
        mark = text.startswith(BYTE_ORDER_MARK)
        text = text.removeprefix(BYTE_ORDER_MARK)
        crlf = "\r\n" in text and text.count("\r\n") == text.count("\n")
        if crlf:
            text = text.replace("\r\n", "\n")
        ended = not text or (text.endswith("\n") and text != "\n")
        file = cls(path=path, encoding=encoding, mark=mark, crlf=crlf, ended=ended)
        return file, text.removesuffix("\n") if ended else text

    def content(self, code: str) -> str:
        """What the file holds when its code is this."""
        text = code + "\n" if self.ended and code else code
        if self.crlf:
            text = text.replace("\n", "\r\n")
        return (BYTE_ORDER_MARK if self.mark else "") + text

    def write(self, code: str) -> None:
        """Put the code in the file, whole or not at all.

        Raises:
            OutputError: the old file is still there.
        """
        with FileAnswer(self.path, self.encoding) as answer:
            answer.write(self.content(code))
