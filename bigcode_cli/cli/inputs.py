"""What a command works on: an argument, a file or stdin, as text that nothing was done to."""

import codecs
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.cli.render import print_error
from bigcode_cli.errors import InputError, UsageError

STDIN = "-"
BYTE_ORDER_MARK = "\ufeff"

_MARKS = {
    "utf-16": {"be": codecs.BOM_UTF16_BE, "le": codecs.BOM_UTF16_LE},
    "utf-32": {"be": codecs.BOM_UTF32_BE, "le": codecs.BOM_UTF32_LE},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of a JSON Lines file.

    Attributes:
        place: ``file:line``.
        id: the caller's name for it, unchanged; ``None`` where it has none.
        texts: the fields asked for.
    """

    place: str
    id: str | int | None
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A line that holds no usable record; the error names its place."""

    error: InputError


def check_encoding(name: str) -> str:
    """The name, if Python knows a text encoding by it.

    Raises:
        UsageError: it does not.
    """
    try:
        info = codecs.lookup(name)
        "".encode(info.name)  # bytes-to-bytes codecs such as base64 refuse this
    except (LookupError, ValueError) as error:
        raise UsageError(f"unknown encoding {name!r}", "for example utf-8 or latin-1") from error
    return name


def read_text(argument: str | None, file: Path | None, *, encoding: str, what: str) -> str:
    """The one input: the argument, or the file, or stdin where neither is given.

    Args:
        argument: text, or ``-`` for stdin.
        file: its path, or ``-`` for stdin.
        encoding: of the file or stdin.
        what: the input's name in errors, such as ``prompt``.

    Raises:
        UsageError: both are given, or neither and stdin is a terminal.
        InputError: it is missing, empty or undecodable.
    """
    if argument is not None and file is not None:
        raise UsageError(f"the {what} is given twice: as an argument and with --file")
    if argument is not None and argument != STDIN:
        text = check_argument(argument, what)
    elif file is not None and str(file) != STDIN:
        text = decode(read_file(file), encoding, str(file))
    else:
        if argument is None and file is None and stdin_is_terminal():
            raise UsageError(f"no {what}", "give it as an argument, with --file, or through a pipe")
        text = decode(read_stdin(), encoding, "stdin")
    if not text:
        raise InputError(f"the {what} is empty")
    return text


def read_records(
    file: Path, fields: tuple[str, ...], *, encoding: str
) -> Iterator[Record | BadRecord]:
    """The records of a JSON Lines file; blank lines are passed over, unknown keys ignored.

    Args:
        file: its path, or ``-`` for stdin.
        fields: keys that every record must have; their texts may not all be empty.

    Raises:
        InputError: the file is missing or has no line at all.
    """
    for place, content in read_objects(file, encoding=encoding):
        if isinstance(content, InputError):
            yield BadRecord(content)
        else:
            yield _read_record(content, place, fields)


def read_objects(
    file: Path, *, encoding: str
) -> Iterator[tuple[str, dict[str, object] | InputError]]:
    """The objects of a JSON Lines file with their places, or what is wrong with them.

    Blank lines are passed over.

    Args:
        file: its path, or ``-`` for stdin.

    Raises:
        InputError: the file is missing or has no line at all.
    """
    name = "stdin" if str(file) == STDIN else str(file)
    data = read_stdin() if str(file) == STDIN else read_file(file)
    if "\n".encode(encoding) != b"\n":  # UTF-16 and the like: a line is no run of bytes
        data, encoding = decode(data, encoding, name).encode(), "utf-8"
    empty = True
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        empty = False
        place = f"{name}:{number}"
        content: dict[str, object] | InputError
        try:
            content = _parse_object(line, encoding, place)
        except InputError as error:
            content = error
        yield place, content
    if empty:
        raise InputError(f"{name} has no records", "one JSON object a line")


def usable_records(
    file: Path, fields: tuple[str, ...], *, encoding: str
) -> tuple[list[Record], int]:
    """The records of a JSON Lines file that can be used, and how many others were told on stderr.

    Raises:
        see ``read_records``.
    """
    good: list[Record] = []
    bad = 0
    for record in read_records(file, fields, encoding=encoding):
        if isinstance(record, BadRecord):
            print_error(record.error.message, record.error.hint)
            bad += 1
        else:
            good.append(record)
    return good, bad


def stdin_is_terminal() -> bool:
    """Whether reading stdin would wait for someone to type (or stdin is closed)."""
    return sys.stdin is None or sys.stdin.isatty()


def read_stdin() -> bytes:
    """All of stdin.

    Raises:
        InputError: it cannot be read.
    """
    if sys.stdin is None:
        raise InputError("stdin is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise InputError(f"cannot read stdin: {error.strerror}") from error


def read_file(path: Path) -> bytes:
    """All of a file.

    Raises:
        InputError: it is missing, a folder, or may not be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, not a file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}") from error


def exact_encoding(encoding: str, data: bytes) -> str:
    """The encoding by which a byte order mark is text, so that bytes decoded can come back.

    Args:
        encoding: as the user names it.
        data: what is to be decoded; its mark tells the order of its bytes.
    """
    name = codecs.lookup(encoding).name
    if name == "utf-8-sig":
        return "utf-8"
    if name not in _MARKS:
        return name
    for order, mark in _MARKS[name].items():
        if data.startswith(mark):
            return f"{name}-{order}"
    return f"{name}-{'be' if sys.byteorder == 'big' else 'le'}"  # as Python decodes it


def decode(data: bytes, encoding: str, name: str) -> str:
    """Bytes as text, line endings and byte order mark included.

    Raises:
        InputError: a byte is not of this encoding.
    """
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name} is not {encoding}: byte 0x{data[error.start]:02x} in line {line}",
            "name its encoding with --encoding",
        ) from error


def check_argument(argument: str, what: str) -> str:
    """An argument's undecodable bytes arrive as lone surrogates."""
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the {what} is not valid text: an undecodable byte at character {error.start + 1}",
            "pass it through a file and name its encoding with --encoding",
        ) from error
    return argument


def _read_record(
    content: dict[str, object], place: str, fields: tuple[str, ...]
) -> Record | BadRecord:
    try:
        id_ = content.get("id")
        if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, str | int)):
            raise InputError(f'{place}: "id" must be a text or a whole number')
        texts = {field: _text_field(content, field, place) for field in fields}
        if not any(texts.values()):
            names = " and ".join(f'"{field}"' for field in fields)
            raise InputError(f"{place}: {names} {'are' if len(fields) > 1 else 'is'} empty")
    except InputError as error:
        return BadRecord(error)
    return Record(place=place, id=id_, texts=texts)


def _parse_object(line: bytes, encoding: str, place: str) -> dict[str, object]:
    try:
        content = json.loads(line.decode(encoding).removeprefix(BYTE_ORDER_MARK))
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise InputError(f"{place}: not {encoding}: byte 0x{byte:02x}") from error
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "nested too deeply"
        raise InputError(f"{place}: not JSON: {reason}") from error
    if not isinstance(content, dict):
        raise InputError(f"{place}: not a JSON object")
    return content


def _text_field(content: dict[str, object], field: str, place: str) -> str:
    if field not in content:
        raise InputError(f'{place}: no "{field}"')
    text = content[field]
    if not isinstance(text, str):
        raise InputError(f'{place}: "{field}" must be a text')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f'{place}: "{field}" holds a lone surrogate') from error
    return text
