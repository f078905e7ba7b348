"""Holes cut at random from the text files of folders."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePath
from random import Random
from typing import Literal, get_args

from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.bench.repeats import repeats
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.folders import list_files, matches

Kind = Literal["line", "block", "rest", "span", "edit"]
"""What a hole takes: a whole line, 2 to 8 of them, the rest of a line, a part of a line with text
on both sides, or 3 to 15 lines that are much like others near them (``repeats``)."""

KINDS: tuple[Kind, ...] = ("line", "block", "rest", "span")
"""Those that stand for code as it comes."""

MAX_BYTES = 400_000
MAX_LINE = 1_000
MAX_HOLE = 400
"""Characters of a block or an edit: about what 128 tokens hold."""

BLOCK_LINES, EDIT_LINES = (2, 8), (3, 15)
TRIES = 20
"""Places tried in a file before the next one is taken."""

DATA_SUFFIXES = frozenset(
    {".csv", ".ipynb", ".json", ".jsonl", ".lock", ".map", ".po", ".sum", ".svg", ".tsv", ".xml"}
)
"""Text that nobody types."""

_WORD = re.compile(r"\w+|[^\w\s]")
"""What a hole in a line begins and ends at: a word, a number, or a sign."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A file's text as lines without their ends, and where each begins."""

    name: str
    text: str
    lines: list[str]
    starts: list[int]


Range = tuple[int, int]
Finder = Callable[[_Source, Random], Range | None]


def parse_kinds(text: str | None) -> tuple[Kind, ...]:
    """The kinds that a comma-separated list names; all but edits without one.

    Raises:
        UsageError: there is no such kind.
    """
    if text is None:
        return KINDS
    names: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    wanted = [name.strip() for name in text.split(",")]
    if unknown := [name for name in wanted if name not in names]:
        raise UsageError(f"no such kind of hole: {unknown[0]!r}", f"use {', '.join(names)}")
    return tuple(dict.fromkeys(names[name] for name in wanted))


def draw_tasks(
    folders: Sequence[Path],
    *,
    count: int,
    seed: int,
    kinds: Sequence[Kind] = KINDS,
    glob: str | None = None,
    names: Sequence[str] | None = None,
) -> list[InfillTask]:
    """Holes cut from files of the folders: kind after kind, folder after folder, file after file.

    Each folder's files are taken in an order of chance, again and again; in each one place is
    drawn. No two holes are equal. The same seed gives the same holes for the same files.

    Args:
        count: how many; fewer where the files do not hold them.
        glob: what the files' names must match, such as ``*.py``.
        names: the only files that are taken; ``None`` is all that the folders hold.

    Raises:
        InputError: a folder is missing, or nothing in it can be used.
    """
    rng = Random(seed)
    rounds = [_Round(folder, rng, glob, names) for folder in folders]
    tasks: list[InfillTask] = []
    seen: set[tuple[str, Range]] = set()
    turns = [(kind, one) for one in rounds for kind in kinds]
    while turns and len(tasks) < count:
        for turn in list(turns):
            if len(tasks) < count:
                task = turn[1].draw(turn[0], rng, seen)
                tasks += [task] if task else []
                if task is None:
                    turns.remove(turn)
    if not tasks:
        raise InputError(f"no place for a hole in {', '.join(map(str, folders))}")
    return tasks


class _Round:
    """The files of one folder, in an order of chance, around and around."""

    def __init__(
        self, folder: Path, rng: Random, glob: str | None, names: Sequence[str] | None
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"no such folder: {folder}")
        self._folder = folder
        self._names = [
            name
            for name in (list_files(folder) if names is None else names)
            if PurePath(name).suffix.lower() not in DATA_SUFFIXES
            and (glob is None or matches(name, glob))
        ]
        if not self._names:
            raise InputError(f"no text files in {folder}" + (f" match {glob}" if glob else ""))
        rng.shuffle(self._names)
        self._next = 0
        self._sources: dict[str, _Source | None] = {}

    def draw(self, kind: Kind, rng: Random, seen: set[tuple[str, Range]]) -> InfillTask | None:
        """A hole that was not drawn before; ``None`` where none is found in any file."""
        for _ in range(len(self._names)):
            name = self._names[self._next % len(self._names)]
            self._next += 1
            if name not in self._sources:
                self._sources[name] = _read(self._folder, name)
            source = self._sources[name]
            for _ in range(TRIES if source else 0):
                assert source is not None
                place = _FINDERS[kind](source, rng)
                key = (str(self._folder / name), place or (0, 0))
                if place is not None and key not in seen:
                    seen.add(key)
                    return _cut(source, place, kind, self._folder)
        return None


def _read(folder: Path, name: str) -> _Source | None:
    """A file as the model sees it; ``None`` where it is no text of a sensible size."""
    try:
        if (folder / name).stat().st_size > MAX_BYTES:
            return None
        text = (folder / name).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines = text.split("\n")
    if "\0" in text or max(map(len, lines)) > MAX_LINE:
        return None
    starts = [0, *accumulate(len(line) + 1 for line in lines)][: len(lines)]
    return _Source(name, text, lines, starts)


def _cut(source: _Source, place: Range, kind: Kind, folder: Path) -> InfillTask:
    start, end = place
    line = source.text.count("\n", 0, start) + 1
    column = start - source.starts[line - 1] + 1
    return InfillTask(
        id=f"{folder.resolve().name}/{source.name}:{line}:{column}+{end - start}",
        group=kind,
        prefix=source.text[:start],
        suffix=source.text[end:],
        middle=source.text[start:end],
        path=source.name,
    )


def _line(source: _Source, rng: Random) -> Range | None:
    row = rng.randrange(len(source.lines))
    start = source.starts[row]
    return (start, start + len(source.lines[row])) if _says(source.lines[row]) else None


def _block(source: _Source, rng: Random) -> Range | None:
    return _lines(source, rng, BLOCK_LINES)


def _edit(source: _Source, rng: Random) -> Range | None:
    place = _lines(source, rng, EDIT_LINES)
    if place is None:
        return None
    start, end = place
    text = source.text
    return place if repeats(text[:start], text[start:end], text[end:]) else None


def _lines(source: _Source, rng: Random, counts: tuple[int, int]) -> Range | None:
    """Whole lines that begin and end with text, at least two that say something."""
    count = rng.randint(*counts)
    row = rng.randrange(len(source.lines))
    last = row + count - 1
    if last >= len(source.lines) or not (source.lines[row].strip() and source.lines[last].strip()):
        return None
    start, end = source.starts[row], source.starts[last] + len(source.lines[last])
    worth = sum(map(_says, source.lines[row : last + 1])) > 1
    return (start, end) if worth and end - start <= MAX_HOLE else None


def _rest(source: _Source, rng: Random) -> Range | None:
    row = rng.randrange(len(source.lines))
    words = list(_WORD.finditer(source.lines[row]))
    if len(words) < 2:
        return None
    start = rng.choice(words[1:]).start()
    rest = source.lines[row][start:]
    begin = source.starts[row] + start
    return (begin, begin + len(rest)) if _says(rest) else None


def _span(source: _Source, rng: Random) -> Range | None:
    row = rng.randrange(len(source.lines))
    words = list(_WORD.finditer(source.lines[row]))
    if len(words) < 3:
        return None
    first, last = sorted(rng.choices(range(1, len(words) - 1), k=2))
    start, end = words[first].start(), words[last].end()
    begin = source.starts[row]
    return (begin + start, begin + end) if _says(source.lines[row][start:end]) else None


def _says(text: str) -> bool:
    """Whether there is more than signs."""
    return any(character.isalnum() for character in text)


_FINDERS: dict[Kind, Finder] = {
    "line": _line,
    "block": _block,
    "rest": _rest,
    "span": _span,
    "edit": _edit,
}
