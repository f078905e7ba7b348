"""What infill works on: texts with holes, from a file, stdin, two texts or JSON Lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bigcode_cli.cli.answers import Asked
from bigcode_cli.cli.edit import Edit
from bigcode_cli.cli.infill_flags import HoleFlags
from bigcode_cli.cli.inputs import (
    STDIN,
    check_argument,
    decode,
    exact_encoding,
    read_file,
    read_stdin,
    stdin_is_terminal,
    usable_records,
)
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.text.holes import MARKER, Place, Template, hole_at, parse_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A text with holes.

    Attributes:
        name: of the text, in headers and notes.
        encoding: by which the text is the same bytes again.
        marker: what stands in each hole: ``<FILL_HERE>`` or nothing.
        path: of the file that it comes from, if it does.
        data: what was read, if it is one text.
    """

    asked: Asked
    template: Template
    name: str
    encoding: str
    marker: str = ""
    path: Path | None = None
    data: bytes | None = None

    @property
    def text(self) -> str:
        """The text as it was read."""
        return self.marker.join(self.template.parts)

    @property
    def lines(self) -> tuple[int, ...]:
        """The line of each hole, from 1."""
        return tuple(self.text.count("\n", 0, start) + 1 for start, _ in self._places())

    def edits(self, middles: Sequence[str]) -> list[Edit]:
        """What fills the holes, line ends and all."""
        return [
            Edit(start, end, self.template.hole(middles[:number]).middle(middles[number]))
            for number, (start, end) in enumerate(self._places())
        ]

    def _places(self) -> list[tuple[int, int]]:
        """Where each hole is in the text."""
        places: list[tuple[int, int]] = []
        end = 0
        for part, _ in pairwise(self.template.parts):
            start = end + len(part)
            end = start + len(self.marker)
            places.append((start, end))
        return places


def read_drafts(
    argument: str | None, flags: HoleFlags, *, encoding: str
) -> tuple[list[Draft], int]:
    """What is to be filled, and how many records were told on stderr to be unusable.

    Args:
        argument: ``FILE[:LINE[:COL]]``, or ``-`` for stdin.

    Raises:
        UsageError: the hole is given in two ways or in none.
        InputError: the only input is missing, empty or undecodable.
    """
    if sum([argument is not None, flags.texts, flags.jsonl is not None]) > 1:
        raise UsageError(
            "the hole is given twice",
            "FILE, --jsonl, or --prefix and --suffix in either form: one of them",
        )
    if flags.jsonl is not None:
        records, bad = usable_records(flags.jsonl, ("prefix", "suffix"), encoding=encoding)
        drafts = [
            Draft(
                asked=Asked(id=record.id, place=record.place),
                template=Template((record.texts["prefix"], record.texts["suffix"])),
                name=record.place,
                encoding=encoding,
            )
            for record in records
        ]
        return drafts, bad
    return [_around(flags, encoding) if flags.texts else _placed(argument, encoding)], 0


def check_return(draft: Draft) -> None:
    """Refuse a text that would not be the same bytes again.

    Raises:
        InputError: its encoding writes it in another way.
    """
    if draft.data is not None and draft.text.encode(draft.encoding) != draft.data:
        raise InputError(
            f"{draft.name} would not be written as it was read in {draft.encoding}",
            "print the middle alone",
        )


def _around(flags: HoleFlags, encoding: str) -> Draft:
    """The hole between two texts."""
    if str(flags.prefix_file) == str(flags.suffix_file) == STDIN:
        raise UsageError("stdin cannot be both the prefix and the suffix")
    prefix = _side(flags.prefix, flags.prefix_file, "prefix", encoding)
    suffix = _side(flags.suffix, flags.suffix_file, "suffix", encoding)
    if not (prefix or suffix):
        raise InputError("the prefix and the suffix are empty")
    template = Template((prefix, suffix))
    return Draft(asked=Asked(), template=template, name="the hole", encoding=encoding)


def _side(text: str | None, file: Path | None, what: str, encoding: str) -> str:
    if text is not None and file is not None:
        raise UsageError(f"the {what} is given twice: with --{what} and with --{what}-file")
    if file is not None:
        if str(file) == STDIN:
            return decode(read_stdin(), encoding, "stdin")
        return decode(read_file(file), encoding, str(file))
    return check_argument(text or "", what)


def _placed(argument: str | None, encoding: str) -> Draft:
    """The hole in a file or on stdin."""
    if argument is None and stdin_is_terminal():
        raise UsageError(
            "nothing to fill", f"name FILE:LINE, or a file or a pipe with {MARKER} in it"
        )
    if argument in (None, STDIN):
        place = Place(STDIN)
        path, name, data = None, "stdin", read_stdin()
    else:
        place = _find(argument)
        path, name, data = Path(place.file), place.file, read_file(Path(place.file))
    exact = exact_encoding(encoding, data)
    text = decode(data, exact, name)
    if not text:
        raise InputError(f"{name} is empty")
    if place.line is None:
        template, marker = Template.split(text), MARKER
        if not template.count:
            raise UsageError(f"{name} has no {MARKER}", f"put one in, or name a line: {name}:LINE")
    else:
        try:
            found = hole_at(text, place.line, place.column)
        except UsageError as error:
            raise UsageError(f"{name}: {error.message}") from error
        template, marker = Template((found.before, found.after)), ""
    hole = template.hole()
    if not (hole.prefix or hole.suffix):
        raise InputError(f"{name} holds nothing but the hole")
    return Draft(
        asked=Asked(), template=template, name=name, encoding=exact, marker=marker, path=path,
        data=data,
    )  # fmt: skip


def _find(argument: str) -> Place:
    """The reading whose file is there, else the last."""
    readings = parse_place(argument)
    return next((place for place in readings if _exists(place.file)), readings[-1])


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # longer than a name can be
        return False
