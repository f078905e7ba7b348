"""Stretches of files that hold nothing personal, and the places where something can be put."""

import ast
import bisect
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bigcode_cli.training.heads.pii.screen import is_clean

MIN_CHARACTERS, MAX_CHARACTERS = 700, 1_700
"""Of a stretch before anything is put into it."""
MAX_LINE = 300
TRIES = 4

_ANCHORS = {
    "yaml": r"(?m)^( *)[\w.-]+:",
    "json": r'(?m)^( *)"[^"\n]+":',
    "shell": r"(?m)^( *)(?:echo|if|for|cd|[A-Za-z_]+=|export|local|set|return|mkdir|curl|git)\b",
    "settings": r"(?m)^()[\w.-]+ *=",
    "script": r"(?m)^( *)(?:const|let|var|return|if|function|export|await|this\.)\b",
    "code": r"(?m)^([ \t]*)(?:return|if|for|func|public|private|let|static|var)\b",
    "prose": r"(?m)(?<=\n\n)()(?=[A-Z])",
}
"""Where a line of a file's own kind can go before another; group 1 is its indentation."""
_REMARKS = {"script": "// ", "code": "// ", "json": None, "prose": None}
"""What begins a comment, ``#`` elsewhere; ``None`` where there is none."""
_STRING = re.compile(r"""(?<=["'])[\w ./:-]{3,40}(?=["'])""")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something can be put into a stretch.

    Attributes:
        kind: of the templates that fit.
        start: in characters, and ``end`` of what it replaces.
        before: what goes before it on each of its lines.
        after: what goes after it.
    """

    kind: str
    start: int
    end: int
    before: str = ""
    after: str = "\n"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some lines of a file that hold nothing personal, and places in them."""

    text: str
    places: tuple[Place, ...]


def stretches(text: str, kind: str, rng: random.Random) -> Iterator[Stretch]:
    """Some parts of a file that do not overlap and hold nothing personal."""
    lines = text.splitlines(keepends=True)
    if max(map(len, lines), default=0) > MAX_LINE:
        return
    starts = _line_starts(lines)
    found = _python_places(text, starts) if kind == "python" else _other_places(text, kind)
    found.sort(key=lambda place: place.start)
    begins = [place.start for place in found]
    first = 0 if rng.random() < 0.3 else rng.randrange(len(lines))
    for _ in range(TRIES):
        size = rng.randint(MIN_CHARACTERS, MAX_CHARACTERS)
        last = bisect.bisect_right(starts, starts[first] + size) - 1
        start, end = starts[first], starts[min(last, len(lines))]
        part = text[start:end]
        if len(part) >= MIN_CHARACTERS and is_clean(part, bare_values=kind != "python"):
            inside = found[bisect.bisect_left(begins, start) : bisect.bisect_left(begins, end)]
            yield Stretch(part, tuple(_distinct(_moved(place, -start) for place in inside)))
            first = last
        else:
            first += max(1, (last - first) // 2)
        if first >= len(lines):
            return


def _line_starts(lines: Sequence[str]) -> list[int]:
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    return starts


def _moved(place: Place, by: int) -> Place:
    return Place(place.kind, place.start + by, place.end + by, place.before, place.after)


def _distinct(places: Iterator[Place]) -> Iterator[Place]:
    """Places without those that touch an earlier one."""
    taken = -1
    for place in places:
        if place.start > taken:
            yield place
            taken = place.end


def _python_places(text: str, starts: Sequence[int]) -> list[Place]:
    """Before statements, after them, in docstrings and in place of short literals."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    places, lines = [Place("header", 0, 0)], text.split("\n")
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not _is_bound(node):
            line = starts[node.lineno - 1]
            indent = " " * node.col_offset
            if not lines[node.lineno - 1][: node.col_offset].strip():
                kind = ("python", "comment")[(node.lineno * 7 + node.col_offset) % 3 == 0]
                places.append(Place(kind, line, line, indent + "# " * (kind == "comment")))
            end = starts[node.lineno] - 1
            if (
                node.lineno == node.end_lineno
                and node.lineno % 5 == 0
                and "#" not in text[line:end]
            ):
                places.append(Place("comment", end, end, "  # ", ""))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.end_lineno:
            places += _in_string(node, lines, starts)
    return places


def _is_bound(statement: ast.stmt) -> bool:
    """Whether nothing can go before a statement: it is a docstring, or has decorators above it."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return bool(getattr(statement, "decorator_list", ()))


def _in_string(node: ast.Constant, lines: Sequence[str], starts: Sequence[int]) -> Iterator[Place]:
    line, last = lines[node.lineno - 1], node.end_lineno or node.lineno
    if last - node.lineno >= 2 and '"""' in line:
        inside = lines[last - 1]
        indent = inside[: len(inside) - len(inside.lstrip())]
        if inside.strip().startswith('"""'):
            yield Place("docstring", starts[last - 1], starts[last - 1], indent)
    elif last == node.lineno and line.isascii():
        found = _STRING.search(line, node.col_offset, node.end_col_offset or 0)
        if found and found[0] == node.value and node.lineno % 2:
            start = starts[node.lineno - 1]
            yield Place("literal", start + found.start(), start + found.end(), "", "")


def _other_places(text: str, kind: str) -> list[Place]:
    """Before lines of the same form, and in place of literals of code."""
    places, remark = [], _REMARKS.get(kind, "# ")
    for number, anchor in enumerate(re.finditer(_ANCHORS[kind], text)):
        at = anchor.start()
        if kind == "code" or (remark and number % 4 == 0):
            places.append(Place("comment", at, at, f"{anchor[1]}{remark}"))
        else:
            after = "\n\n" if kind == "prose" else "\n"
            places.append(Place(kind, at, at, anchor[1], after))
    if kind in ("script", "code"):
        strings = list(_STRING.finditer(text))[::3]
        places += [Place("literal", found.start(), found.end(), "", "") for found in strings]
    return places
