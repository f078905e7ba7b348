r"""A file that is filled: the difference as a patch, and the new content in the file's place.

The patch is made from where the holes are, not found by comparing: it takes time in proportion to
the file, and shows what was done, whatever else in the file looks alike.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from bigcode_cli.cli.replacement import Replacement
from bigcode_cli.errors import OutputError

CONTEXT = 3
"""Lines around a change, as everywhere."""

NO_NEWLINE = "\\ No newline at end of file\n"


@dataclass(frozen=True, slots=True)
class Edit:
    """Text that takes the place of what stands from ``start`` to ``end``, in characters."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class _Change:
    """Lines, with their ends, that take the place of others from line ``start`` (from 0) on."""

    start: int
    removed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def end(self) -> int:
        """The line after the last that is removed."""
        return self.start + len(self.removed)


def unified_diff(old: str, edits: Sequence[Edit], name: str) -> str:
    r"""What the edits do to a text, as a patch that ``git apply`` and ``patch -p1`` take.

    The format is that of ``git diff``, and so is the quoting of names. Lines end at ``\n`` alone:
    carriage returns and all other characters are part of them.

    Args:
        edits: in order, none within another.
        name: of the file, with slashes, relative to the root of its repository.

    Returns:
        The patch; nothing where the edits change nothing.
    """
    lines = _split(old)
    changes = list(_changes(lines, edits))
    if not changes:
        return ""
    before, after = _quoted(f"a/{name}"), _quoted(f"b/{name}")
    tab = "\t" if " " in name else ""  # or what follows the space would be taken for a date
    head = f"diff --git {before} {after}\n--- {before}{tab}\n+++ {after}{tab}\n"
    return head + "".join(_hunks(lines, changes))


def patch_name(file: Path) -> str:
    """How a patch names a file: from the root of its repository, else from the current folder.

    A file that is in neither is named from its own folder.
    """
    real = Path(os.path.realpath(file))  # git applies no patch through a symbolic link
    repository = next((folder for folder in real.parents if (folder / ".git").exists()), None)
    for root in (repository, Path(os.path.realpath(Path.cwd()))):
        if root is not None and real.is_relative_to(root):
            return real.relative_to(root).as_posix()
    return real.name


def check_can_replace(file: Path) -> None:
    """Refuse a file that ``replace_content`` would refuse, before any work is done.

    Raises:
        OutputError: it is no plain file, may not be written, or has several names.
    """
    real = Path(os.path.realpath(file))
    if not real.is_file():
        raise OutputError(f"{file} is no plain file")
    for place, mode in ((real, os.W_OK), (real.parent, os.W_OK | os.X_OK)):
        if not os.access(place, mode):
            raise OutputError(f"cannot write {file}: Permission denied")
    if (names := real.stat().st_nlink) > 1:
        raise OutputError(
            f"{file} has {names} names (hard links), of which one would be filled",
            "print the filled file instead: --print file",
        )


def replace_content(file: Path, old: bytes, new: bytes) -> None:
    """Give a file new content in one step, if it still has the old one.

    Raises:
        OutputError: it has not, or cannot be written; it is as it was.
    """

    def check() -> None:
        try:
            same = file.read_bytes() == old
        except OSError:
            same = False
        if not same:
            raise OutputError(f"{file} was changed meanwhile, and is left as it is")

    check()
    check_can_replace(file)
    replacement = Replacement(file)
    try:
        replacement.stream.write(new)
        replacement.commit(check)
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror}") from error
    finally:
        replacement.discard()


def _split(text: str) -> list[str]:
    """Lines with their ends; the last is what stands after the last newline, often nothing."""
    *lines, last = text.split("\n")
    return [*(f"{line}\n" for line in lines), last]


def _changes(lines: Sequence[str], edits: Sequence[Edit]) -> Iterator[_Change]:
    """The lines that change; edits in the same lines are one change."""
    starts = [0, *accumulate(map(len, lines[:-1]))]
    rest = list(edits)
    while rest:
        first = last = bisect_right(starts, rest[0].start) - 1
        here: list[Edit] = []
        while rest and starts[last] + len(lines[last]) + (last == len(lines) - 1) > rest[0].start:
            here.append(rest.pop(0))
            last = max(last, bisect_right(starts, here[-1].end) - 1)
        change = _trimmed(first, lines[first : last + 1], _edited(lines, starts, first, last, here))
        if change.removed or change.added:
            yield change


def _edited(
    lines: Sequence[str], starts: Sequence[int], first: int, last: int, edits: Sequence[Edit]
) -> str:
    """The text of some lines after the edits."""
    text, place, offset = "".join(lines[first : last + 1]), 0, starts[first]
    pieces: list[str] = []
    for edit in edits:
        pieces += [text[place : edit.start - offset], edit.text]
        place = edit.end - offset
    return "".join([*pieces, text[place:]])


def _trimmed(start: int, old: Sequence[str], text: str) -> _Change:
    """Without the lines that stay as they are."""
    removed = [line for line in old if line]
    added = [line for line in _split(text) if line]
    while removed and added and removed[0] == added[0]:
        del removed[0], added[0]
        start += 1
    while removed and added and removed[-1] == added[-1]:
        del removed[-1], added[-1]
    return _Change(start, tuple(removed), tuple(added))


def _hunks(lines: Sequence[str], changes: Sequence[_Change]) -> Iterator[str]:
    """Changes that are near one another share a hunk."""
    groups: list[list[_Change]] = []
    for change in changes:
        if groups and change.start - groups[-1][-1].end <= 2 * CONTEXT:
            groups[-1].append(change)
        else:
            groups.append([change])
    shift = 0
    for group in groups:
        start = max(0, group[0].start - CONTEXT)
        end = min(len(lines) - (not lines[-1]), group[-1].end + CONTEXT)
        body: list[str] = []
        place, grown = start, 0
        for change in group:
            body += (_line(" ", line) for line in lines[place : change.start])
            body += (_line("-", line) for line in change.removed)
            body += (_line("+", line) for line in change.added)
            place = change.end
            grown += len(change.added) - len(change.removed)
        body += (_line(" ", line) for line in lines[place:end])
        count = end - start
        yield f"@@ -{_range(start, count)} +{_range(start + shift, count + grown)} @@\n"
        yield from body
        shift += grown


def _range(start: int, count: int) -> str:
    """As in a hunk's header: from 1, and the line before where there are no lines."""
    first = start + 1 if count else start
    return str(first) if count == 1 else f"{first},{count}"


def _line(sign: str, line: str) -> str:
    return sign + line if line.endswith("\n") else f"{sign}{line}\n{NO_NEWLINE}"


def _quoted(name: str) -> str:
    r"""A name as git writes it: quoted, with octal bytes, where it is more than plain ASCII."""
    short = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
    shown = "".join(
        f"\\{short[byte]}"
        if byte in short
        else (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}")
        for byte in os.fsencode(name)
    )
    return f'"{shown}"' if "\\" in shown else shown
