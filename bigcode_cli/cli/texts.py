"""Files and pipes as pieces of text: exact, in little memory, again and again."""

import codecs
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Protocol

from bigcode_cli.cli.inputs import BYTE_ORDER_MARK, exact_encoding
from bigcode_cli.errors import InputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PIECE = 1 << 18
"""Bytes read at a time."""

SNIFFED = 8192
"""Characters among which a NUL says that a file is binary."""

KEPT_IN_MEMORY = 1 << 22
"""Bytes of a pipe beyond which it is kept on disk."""

_WHOLE = frozenset({"idna", "punycode"})
"""Encodings whose parts mean something else than the whole."""


class NotTextError(InputError):
    """A file is binary or of another encoding."""


class Data(Protocol):
    """Bytes that can be read from their beginning as often as one likes."""

    def chunks(self) -> Iterator[bytes]:
        """All of them, ``PIECE`` bytes at a time.

        Raises:
            InputError: they cannot be read, or are no longer what they were.
        """
        ...


@dataclass(frozen=True, slots=True)
class FileData:
    """A plain file, which must stay as it is."""

    path: Path
    state: tuple[int, ...]

    def chunks(self) -> Iterator[bytes]:
        """See ``Data``."""
        with _open(self.path) as file:
            self._check(file)
            yield from _chunks(file, str(self.path))
            self._check(file)

    def _check(self, file: IO[bytes]) -> None:
        if _state(os.fstat(file.fileno())) != self.state:
            raise InputError(f"{self.path} changed while it was read")


class KeptData:
    """What can be read only once, kept: in memory while it is short, else on disk.

    Raises:
        InputError: it cannot be read or kept.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._name = name
        self._file = SpooledTemporaryFile(KEPT_IN_MEMORY)  # noqa: SIM115 — closed in __del__
        try:
            for chunk in _chunks(file, name):
                self._file.write(chunk)
        except OSError as error:
            raise InputError(f"cannot keep {name} for a second look: {error.strerror}") from error

    def chunks(self) -> Iterator[bytes]:
        """See ``Data``."""
        place = 0
        while True:
            self._file.seek(place)  # two may read at the same time
            chunk = self._file.read(PIECE)
            if not chunk:
                return
            place += len(chunk)
            yield chunk

    def __del__(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes of a known encoding.

    Attributes:
        name: in errors.
    """

    data: Data
    encoding: str
    name: str

    def pieces(self) -> Iterator[str]:
        """The text in pieces, none of them empty.

        Raises:
            NotTextError: a byte is not of the encoding.
            InputError: see ``Data.chunks``.
        """
        return decoded(self.data.chunks(), self.encoding, self.name)

    def measure(self) -> int:
        """How long the text is, in bytes of UTF-8; goes through all of it.

        Raises:
            NotTextError: it is binary or of another encoding.
            InputError: see ``Data.chunks``.
        """
        size = seen = 0
        for piece in self.pieces():
            if seen < SNIFFED and "\0" in piece[: SNIFFED - seen]:
                raise NotTextError(f"{self.name} is binary, not text")
            seen += len(piece)
            try:
                size += len(piece.encode())
            except UnicodeEncodeError as error:
                raise NotTextError(f"{self.name} holds a lone surrogate") from error
        return size


def open_data(path: Path) -> Data:
    """What is in a file; that of a pipe or a device is read at once, since it can be only once.

    Raises:
        InputError: it is missing, a folder, or cannot be read.
    """
    with _open(path) as file:
        made = os.fstat(file.fileno())
        if stat.S_ISREG(made.st_mode) and made.st_size:
            return FileData(path, _state(made))
        return KeptData(file, str(path))  # files that the system makes up claim to be empty


def decoded(chunks: Iterable[bytes], encoding: str, name: str) -> Iterator[str]:
    """Bytes as text, as ``bytes.decode`` gives it on the whole.

    Args:
        chunks: none of them empty; the first has at least four bytes, if there are so many.
        name: of what is decoded, in errors.

    Raises:
        NotTextError: a byte is not of this encoding.
    """
    decoder: codecs.IncrementalDecoder | None = None
    plain = codecs.lookup(encoding).name
    newlines, marked = 0, False
    for chunk in chain(chunks, (b"",)):
        if decoder is None:
            # Python's own incremental decoders of a mark differ from the whole where it is missing.
            exact = exact_encoding(encoding, chunk)
            decoder, marked = _decoder(exact), exact != plain
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            held = error.object[: len(error.object) - len(chunk)].count(b"\n")
            line = newlines - held + error.object.count(b"\n", 0, error.start) + 1
            raise _undecodable(name, encoding, error.object[error.start], line) from error
        except UnicodeError as error:
            raise NotTextError(f"{name} is not {encoding}: {error}") from error
        newlines += chunk.count(b"\n")
        if text and marked:
            text, marked = text.removeprefix(BYTE_ORDER_MARK), False
        if text:
            yield text


class _WholeDecoder(codecs.IncrementalDecoder):
    """Decodes nothing before the end."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding
        self._held: list[ReadableBuffer] = []

    def decode(self, data: "ReadableBuffer", final: bool = False) -> str:
        """See the class."""
        self._held.append(data)
        return b"".join(self._held).decode(self._encoding) if final else ""


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    if encoding in _WHOLE:
        return _WholeDecoder(encoding)
    return codecs.getincrementaldecoder(encoding)()


def _undecodable(name: str, encoding: str, byte: int, line: int) -> NotTextError:
    return NotTextError(
        f"{name} is not {encoding}: byte 0x{byte:02x} in line {line}",
        "name its encoding with --encoding",
    )


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, not a file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {_reason(error)}") from error


def _chunks(file: IO[bytes], name: str) -> Iterator[bytes]:
    while True:
        try:
            chunk = file.read(PIECE)
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {name}: {_reason(error)}") from error
        if not chunk:
            return
        yield chunk


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _state(made: os.stat_result) -> tuple[int, ...]:
    return made.st_dev, made.st_ino, made.st_size, made.st_mtime_ns
