"""Which lines a patch adds to which files."""

import re
from collections.abc import Iterator
from typing import IO

_PART = 1 << 16
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_QUOTED = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_ESCAPES = dict(zip(b"abtnvfr", b"\a\b\t\n\v\f\r", strict=True))


def read_patch(patch: IO[bytes]) -> Iterator[tuple[bytes, frozenset[int] | None]]:
    """Each file to which a patch adds lines, and their numbers there, from 1.

    A file that was not there before has ``None`` instead: all its lines. Files' texts are passed
    over in parts, so that memory does not grow with the length of a line.

    Args:
        patch: git's, without context, with the prefixes ``a/`` and ``b/``, made without ``-z``.
    """
    name, is_new = b"", False
    lines: set[int] = set()
    while line := patch.readline():
        if line.startswith(b"diff "):
            if lines:
                yield name, None if is_new else frozenset(lines)
            name, is_new, lines = b"", False, set()
        elif line.startswith(b"--- "):
            is_new = line == b"--- /dev/null\n"
        elif line.startswith(b"+++ "):
            name = _unquoted(line[4:]).removeprefix(b"b/")
        elif hunk := _HUNK.match(line):
            removed, first, added = (int(one) if one is not None else 1 for one in hunk.groups())
            lines.update(range(first, first + added))
            _pass_over(patch, removed + added)
    if lines:
        yield name, None if is_new else frozenset(lines)


def _pass_over(patch: IO[bytes], count: int) -> None:
    """Leave out some lines of files."""
    begins = True
    while count and (part := patch.readline(_PART)):
        if begins and part.startswith(b"\\"):
            continue  # the note between two lines that the first of them has no end
        begins = part.endswith(b"\n")
        count -= begins


def _unquoted(name: bytes) -> bytes:
    """A name from the head of a patch, in quotes where git cannot write it plainly."""
    name = name.removesuffix(b"\n").removesuffix(b"\t")
    if not name.startswith(b'"'):
        return name
    return _QUOTED.sub(_unescaped, name[1:-1])


def _unescaped(match: re.Match[bytes]) -> bytes:
    sign = match[1]
    return bytes([int(sign, 8) if len(sign) == 3 else _ESCAPES.get(sign[0], sign[0])])
