"""Holes of which the right middle is known: what they are, and files of them."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bigcode_cli.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class InfillTask:
    """A hole of which the right middle is known.

    Attributes:
        id: unique among all.
        group: what it is reported under.
        path: the file's name, as ``InfillRequest`` has it.
        entry_point: the function that ``test`` is about.
        test: Python that defines ``check(candidate)``.
    """

    prefix: str
    suffix: str
    middle: str
    id: str = ""
    group: str = ""
    path: str | None = None
    entry_point: str | None = None
    test: str | None = None

    def program(self, middle: str) -> str | None:
        """The filled program and its test; ``None`` where there is no test.

        A hole that takes whole lines ends with a line end, which no middle of a line has: it is
        put back, as the exact match does not count it either.
        """
        if self.test is None or self.entry_point is None:
            return None
        if self.middle.endswith("\n") and not middle.endswith("\n"):
            middle += "\n"
        filled = self.prefix + middle + self.suffix
        return f"{filled}\n{self.test}\ncheck({self.entry_point})\n"


def read_tasks(path: Path) -> list[InfillTask]:
    """The tasks of a file in HumanEval-Infilling's format, one JSON object a line, gzip or plain.

    ``{"task_id", "prompt", "suffix", "canonical_solution"}``, for running them also
    ``"entry_point"`` and ``"test"`` (Bavarian et al. 2022). They are reported under the file's
    name.

    Raises:
        InputError: the file is missing, or a line is no such task.
    """
    try:
        data = path.read_bytes()
        if data.startswith(GZIP_MAGIC):
            data = gzip.decompress(data)
        text = data.decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path} is broken gzip: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not utf-8") from error
    group = path.name.removesuffix(".gz").removesuffix(".jsonl")
    tasks = [
        _task(line, f"{path}:{number}", group)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not tasks:
        raise InputError(f"{path} has no tasks", "one JSON object a line")
    return tasks


def _task(line: str, place: str, group: str) -> InfillTask:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON") from error
    if not isinstance(content, dict):
        raise InputError(f"{place}: not a JSON object")
    return InfillTask(
        id=_text(content, "task_id", place),
        group=group,
        prefix=_text(content, "prompt", place),
        suffix=_text(content, "suffix", place),
        middle=_text(content, "canonical_solution", place),
        entry_point=_text(content, "entry_point", place) if "entry_point" in content else None,
        test=_text(content, "test", place) if "test" in content else None,
    )


def _text(content: dict[str, object], field: str, place: str) -> str:
    text = content.get(field)
    if not isinstance(text, str):
        raise InputError(f'{place}: no text "{field}"')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f'{place}: "{field}" holds a lone surrogate') from error
    return text


def spaced(items: Sequence[_Item], count: int) -> list[_Item]:
    """``count`` of the items at even distances, or all where there are no more."""
    count = min(count, len(items))
    return [items[rank * len(items) // count] for rank in range(count)]


def digest(tasks: Sequence[InfillTask]) -> str:
    """SHA-256 of all that the tasks ask for: equal where two runs had the same ones."""
    state = hashlib.sha256()
    for task in tasks:
        for text in (task.prefix, task.middle, task.suffix):
            state.update(len(text.encode()).to_bytes(8, "little") + text.encode())
    return state.hexdigest()
