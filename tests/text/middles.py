"""A twin of MiddleScanner that sees the whole output at once, written as plainly as it goes."""

import ast
import re

PATIENCE = 8
RUN = 16
COMMONPLACE = ("else", "try", "finally", "return", "return None", "pass", "break", "continue")


def parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def width(line: str) -> int:
    column = 0
    for char in line:
        if char == "\t":
            column += 8 - column % 8
        elif char == " ":
            column += 1
        elif char != "\r":
            break
    return column


def level(text: str, is_python: bool) -> int:
    """Brackets and strings that are open at the end, character by character."""
    depth, quote, i = 0, "", 0
    while i < len(text):
        char = text[i]
        if quote:
            if char == "\\":
                i += 2
                continue
            if text.startswith(quote, i):
                i += len(quote)
                quote = ""
                continue
            if char == "\n" and len(quote) == 1:
                quote = ""
        elif is_python and char in "\"'":
            quote = char * 3 if text.startswith(char * 3, i) else char
            i += len(quote)
            continue
        elif is_python and char == "#":
            while i < len(text) and text[i] != "\n":
                i += 1
            continue
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        i += 1
    return depth + bool(quote)


def brackets(text: str) -> int:
    return sum(map(text.count, "([{")) - sum(map(text.count, ")]}"))


def substance(line: str) -> bool:
    bare = line.strip().rstrip(":;")
    plain = bare in (*COMMONPLACE, "raise", "end", "fi", "done")
    return bool(re.search(r"\w", line)) and not plain and not re.fullmatch(r"@\w+", line.strip())


def whole_middle(
    prefix: str,
    suffix: str,
    text: str,
    *,
    span: str,
    texts: tuple[str, ...] = (),
    is_python: bool = True,
    cut_overlap: bool = True,
) -> str:
    """What MiddleScanner makes of a whole output."""
    head = prefix.split("\n")[-1]
    rest = suffix.split("\n")[0]
    stops = list(texts)
    if cut_overlap and head and rest.strip() and len(suffix[:RUN].strip()) == RUN:
        stops.append(suffix[:RUN])
    text = text[: min([text.index(stop) for stop in stops if stop in text], default=len(text))]
    if span == "line":
        return line_middle(prefix, suffix, text, cut_overlap)
    if span == "block":
        return text[: block_end(prefix, suffix, text, is_python, cut_overlap)]
    return text


def line_middle(prefix: str, suffix: str, text: str, cut_overlap: bool) -> str:
    line, newline, _ = text.partition("\n")
    if not newline:
        return line
    line = line.removesuffix("\r")
    head, rest = prefix.split("\n")[-1], suffix.split("\n")[0].rstrip()
    if cut_overlap and head and rest and line.endswith(rest):
        cut = line[: len(line) - len(rest)]
        whole = [brackets(prefix + middle + suffix) for middle in (line, cut)]
        if (head + cut).strip() and not (whole[0] == 0 and whole[1] != 0):
            return cut
    return line


def block_end(prefix: str, suffix: str, text: str, is_python: bool, cut_overlap: bool) -> int:
    head, rest = prefix.split("\n")[-1], suffix.split("\n")[0]
    adds_newline = bool(rest.strip()) and not head
    ahead = suffix.split("\n") if adds_newline else suffix.split("\n")[1:]
    ahead = [line.rstrip() for line in ahead if line.strip()][:4] if cut_overlap else []
    base = level(prefix, is_python)
    lines = text.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:i]) for i in range(len(lines))]
    full = [head + lines[0], *lines[1:]]

    def content(row: int) -> int:
        """Where what stands before a row ends, its blank lines left out."""
        filled = [i for i in range(row) if lines[i].strip()]
        return starts[filled[-1]] + len(lines[filled[-1]]) + adds_newline if filled else 0

    def before(row: int) -> str:
        return prefix + "\n".join(lines[:row]) + "\n" * (row > 0)

    def least(row: int) -> int:
        """The indentation that a row must have."""
        if head.strip():
            known, value = False, width(head)
        else:
            known, value = bool(lines[0].strip()), width(full[0] if lines[0].strip() else head)
        for i in range(1, row):
            if not known and lines[i].strip() and level(before(i), is_python) <= base:
                known, value = True, width(lines[i])
        return value

    def dedent(row: int) -> bool:
        if row == 0 or not lines[row].strip() or level(before(row), is_python) > base:
            return False
        if width(lines[row]) >= least(row):
            return False
        needed = brackets(before(row)) + brackets(suffix) > 0
        return is_python or not (lines[row].lstrip()[0] in ")]}" and needed)

    def repeated_from(row: int) -> int | None:
        """The first row from which up to this one all lines repeat the suffix for certain."""
        for start in range(1 if head.strip() else 0, row + 1):
            same = [line.rstrip() for line in full[start : row + 1] if line.strip()]
            if not full[start].strip():
                continue
            count = len(same)
            if not same or same != ahead[:count]:
                continue
            strong = any(map(substance, same))
            first = not head.strip() and not any(line.strip() for line in lines[:start])
            if (strong and count > 1) if first else (strong or count > 1):
                return start
        return None

    def fits(end: int) -> bool:
        return is_python and parses(prefix + text[:end] + suffix)

    def fits_whole() -> bool:
        whole = text if not adds_newline or text.endswith("\n") else text + "\n"
        return parses(prefix + whole + suffix)

    statement = bool(head.strip()) and (len(lines) == 1 or bool(lines[0].strip()))
    best: int | None = None
    cut: int | None = None
    patience = PATIENCE
    for row, line in enumerate(lines):
        is_last = row == len(lines) - 1
        ends: int | None = None
        if cut is None and line.strip():
            if dedent(row):
                ends = content(row)
            else:
                start = repeated_from(row)
                if start is not None:
                    ends = starts[start] if adds_newline else content(start)
        if ends is not None:
            if not is_python or fits(ends):
                return ends
            if best is not None:
                return best
            cut = ends
        if is_last or not line.strip() or not is_python:
            continue
        end = starts[row] + len(line) + adds_newline
        if cut is not None:
            patience -= 1
            if fits(end):
                return end
            if not patience:
                return cut
        elif statement:
            if fits(end):
                return end
            statement = level(before(row + 1), is_python) > 0
        elif fits(end):
            best = end
    last = cut if cut is not None else best
    if last is not None and not fits_whole():
        return last
    if not text.strip():
        return 0
    if "\n" in suffix and not rest.strip() and not lines[-1].strip():
        return content(len(lines) - 1)
    return len(text)
