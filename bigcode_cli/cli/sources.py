"""The texts that a command goes through: files, folders, stdin or JSON Lines, each of any size."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bigcode_cli.cli.inputs import STDIN, check_encoding, stdin_is_terminal, usable_records
from bigcode_cli.cli.render import print_error
from bigcode_cli.cli.texts import Data, KeptData, NotTextError, Text, open_data
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.folders import list_files, matches

PIECE_CHARACTERS = 1 << 18

MARK_BYTES = 4
"""Of the longest byte order mark."""

Lines = frozenset[int] | None
"""Lines that count, from 1; ``None`` counts all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One text, which is known to be text.

    Attributes:
        path: as the user named it, or the folder's name joined with the file's; ``-`` for stdin;
            ``None`` for a record. Bytes that are no text are lone surrogates in it.
        id: a record's, unchanged.
        place: its name in errors.
        size: of the text, in bytes of UTF-8.
        lines: those that count.
        read: begins to read it.
        start: the first bytes, among them a byte order mark that is no part of the text; of a
            record none.
    """

    path: str | None
    place: str
    size: int
    read: Callable[[], Iterator[str]] = field(repr=False, compare=False)
    id: str | int | None = None
    lines: Lines = None
    start: bytes = b""

    def pieces(self) -> Iterator[str]:
        """The exact text in pieces of about 256 KiB, from its beginning with each call.

        Raises:
            InputError: it can no longer be read, or changed since it was found.
        """
        return self.read()


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to go through.

    Attributes:
        sources: in the order of the command line, a folder's sorted by name; none of them where
            several inputs all failed, or where nothing changed.
        failed: inputs of which the user was told on stderr that they cannot be used.
        binary: files in folders that are no text and were passed over.
    """

    sources: list[Source]
    failed: int = 0
    binary: int = 0

    @property
    def skipped(self) -> str | None:
        """What is to be noted of files that were passed over."""
        if not self.binary:
            return None
        return f"{self.binary:,} binary file{'s' * (self.binary > 1)} skipped"


def find_sources(
    files: Sequence[Path],
    *,
    globs: Sequence[str],
    jsonl: Path | None,
    encoding: str,
    what: str,
) -> Found:
    """The texts to go through. Each is read once, to know that it is text before any is used.

    Args:
        files: files, folders, ``-`` for stdin; each counts as often as it is named. None at all is
            stdin. A link that is named is followed, those in folders are not.
        globs: patterns of which a folder's file must fit one, see ``folders.matches``.
        jsonl: instead of files, lines ``{"id", "text"}``.
        what: an input's name in errors, such as ``text``.

    Raises:
        UsageError: files and records are both given, or neither and stdin is a terminal; or the
            encoding is unknown or a pattern without use.
        InputError: the only input is missing, unreadable, no text, empty, or a folder without text.
    """
    check_encoding(encoding)
    if jsonl is not None:
        if files:
            raise UsageError(f"--jsonl holds the {what}s: no FILES beside it")
        check_globs(globs, files)
        return _read_records(jsonl, encoding)
    if not files and stdin_is_terminal():
        raise UsageError(f"no {what}", "name files or folders, or give it through a pipe")
    check_globs(globs, files)
    gathering = Gathering(encoding, alone=len(files) < 2)
    for name in files or (Path(STDIN),):
        if is_folder(name):
            gathering.take_folder(name, globs)
        else:
            gathering.take_file(name)
    return gathering.found()


def check_globs(globs: Sequence[str], files: Sequence[Path]) -> None:
    """Refuse what would be silently without effect.

    Raises:
        UsageError: a pattern is empty, or there is no input that may be a folder.
    """
    if "" in globs:
        raise UsageError("--glob needs a pattern", "for example '*.py'")
    if globs and all(str(name) == STDIN for name in files):
        raise UsageError("--glob chooses among the files of a folder", "name the folder")


class Gathering:
    """Collects sources, and tells of what cannot be one.

    Args:
        alone: there is one input only, so that what is wrong with it is an error.
    """

    def __init__(self, encoding: str, *, alone: bool) -> None:
        self._encoding = encoding
        self._alone = alone
        self._sources: list[Source] = []
        self._failed = self._binary = 0
        self._stdin: Data | None = None

    def take_file(self, name: Path, lines: Lines = None) -> None:
        """Take a file, or stdin.

        Raises:
            InputError: the only input cannot be used.
        """
        with self.told():
            source = self._open(name, lines)
            if self._alone and not source.size:
                raise InputError(f"{source.place} is empty")
            self._sources.append(source)

    def take_folder(self, folder: Path, globs: Sequence[str]) -> None:
        """Take a folder's files that fit one of the patterns.

        Raises:
            InputError: the only input has no text.
        """
        with self.told():
            names = _names_within(folder, globs)
            before = len(self._sources) + self._failed
            self.take_inner((folder / name, None) for name in names)
            if len(self._sources) + self._failed == before:
                raise InputError(f"no text in {folder}, where {len(names)} files are binary")

    def take_inner(self, files: Iterable[tuple[Path, Lines]]) -> None:
        """Take files that nobody named: what is no text is passed over."""
        for name, lines in files:
            try:
                self._sources.append(self._open(name, lines))
            except NotTextError:
                self._binary += 1
            except InputError as error:
                self._tell(error)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Where there are several inputs, an error within is told, and the others go on."""
        try:
            yield
        except InputError as error:
            if self._alone:
                raise
            self._tell(error)

    def found(self) -> Found:
        """All that was taken."""
        return Found(self._sources, self._failed, self._binary)

    def _open(self, name: Path, lines: Lines) -> Source:
        is_stdin = str(name) == STDIN
        place = "stdin" if is_stdin else str(name)
        text = Text(self._read_stdin() if is_stdin else open_data(name), self._encoding, place)
        return Source(
            path=str(name),
            place=place,
            size=text.measure(),
            read=text.pieces,
            lines=lines,
            start=next(text.data.chunks(), b"")[:MARK_BYTES],
        )

    def _read_stdin(self) -> Data:
        if self._stdin is None:
            if sys.stdin is None:
                raise InputError("stdin is closed")
            self._stdin = KeptData(sys.stdin.buffer, "stdin")
        return self._stdin

    def _tell(self, error: InputError) -> None:
        print_error(error.message, error.hint)
        self._failed += 1


def is_folder(name: Path) -> bool:
    """Whether a folder is named, be it by a link."""
    return os.path.isdir(name)  # noqa: PTH112 — what cannot be looked at raises nothing here


def _names_within(folder: Path, globs: Sequence[str]) -> list[str]:
    names = list_files(folder)
    chosen = [name for name in names if fits(name, globs)]
    if not chosen:
        _check_readable(folder)
        matching = f" match {' or '.join(globs)}" if names else ""
        raise InputError(f"no files in {folder}{matching}")
    return chosen


def fits(name: str, globs: Sequence[str]) -> bool:
    """Whether a name from its folder fits one of the patterns, or there is none to fit."""
    return not globs or any(matches(name, glob) for glob in globs)


def _check_readable(folder: Path) -> None:
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error


def _read_records(jsonl: Path, encoding: str) -> Found:
    records, bad = usable_records(jsonl, ("text",), encoding=encoding)
    sources = [
        Source(
            path=None,
            id=record.id,
            place=record.place,
            size=len(record.texts["text"].encode()),
            read=partial(_cut, record.texts["text"]),
        )
        for record in records
    ]
    return Found(sources, bad)


def _cut(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE_CHARACTERS):
        yield text[start : start + PIECE_CHARACTERS]
