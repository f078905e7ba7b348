r"""Fill-in-the-middle prompts: which control tokens a model has, and in which order they stand.

Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle", with the
orders that SantaCoder and StarCoder were trained on. The middle's ids follow the prompt's in both
orders, and ``<|endoftext|>`` follows the middle; training appends both.

StarCoder (Li et al. 2023, section 3) saw ``<reponame>NAME<filename>PATH<gh_stars>STARS\ncode``,
and holes were cut into that whole text: names stand at the head of the prefix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bigcode_cli.errors import ModelUnsupportedError, UsageError
from bigcode_cli.records import ContextFile, InfillOrder
from bigcode_cli.text.budget import Cut, fit
from bigcode_cli.text.tokenizer import Tokenizer

DialectName = Literal["starcoder", "santacoder"]

SPELLINGS: dict[DialectName, tuple[str, str, str]] = {
    "starcoder": ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    "santacoder": ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
}
"""Prefix, suffix and middle token of each dialect."""

FILE_NAME = "<filename>"
REPO_NAME = "<reponame>"

SUFFIX_SHARE = 4
"""One part in so many is the suffix's where prefix and suffix are both too long."""

NAMES_SHARE = 8
"""The file's and the repository's name are left out where they take more than one such part."""

SectionKind = Literal["control", "repo", "context", "file", "prefix", "suffix"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The ids of a tokenizer's fill-in-the-middle tokens, and of those that announce names."""

    name: DialectName
    prefix_id: int
    suffix_id: int
    middle_id: int
    filename_id: int | None = None
    repo_id: int | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a prompt.

    Attributes:
        label: a control token's spelling, or the name of a file or repository.
        text: what the model is shown, control tokens spelled out.
        tokens: of ``text``, control tokens counted in.
        dropped_tokens: of what did not fit.
        dropped_lines: lines that lost text.
    """

    kind: SectionKind
    label: str
    text: str
    tokens: int
    dropped_tokens: int = 0
    dropped_lines: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A prompt, and what it is made of.

    Attributes:
        sections: in the prompt's order; what was dropped whole stands in its place, without text.
        prefix: the part that the model is shown; likewise ``suffix``.
        prefix_tokens: of that part.
        prefix_dropped: tokens that did not fit.
    """

    ids: tuple[int, ...]
    order: InfillOrder
    dialect: Dialect
    sections: tuple[Section, ...]
    prefix: str
    suffix: str
    prefix_tokens: int
    suffix_tokens: int
    prefix_dropped: int
    suffix_dropped: int

    @property
    def text(self) -> str:
        """The whole prompt, control tokens spelled out."""
        return "".join(section.text for section in self.sections)


def find_dialect(tokenizer: Tokenizer, name: str | None = None) -> Dialect:
    """The dialect whose three tokens are all control tokens of this tokenizer.

    Args:
        name: the one that it must be; ``None`` takes the one that there is.

    Raises:
        UsageError: no dialect of that name, or not of this tokenizer.
        ModelUnsupportedError: the tokenizer has none, or several.
    """
    known = get_args(DialectName)
    if name is not None and name not in known:
        raise UsageError(f"unknown dialect {name!r}", f"use auto, {' or '.join(known)}")
    found = {
        dialect.name: dialect
        for spelling in SPELLINGS
        if (dialect := _dialect(tokenizer, spelling)) is not None
    }
    if not found:
        raise ModelUnsupportedError(
            "the model has no fill-in-the-middle tokens",
            "infilling needs a model that was trained for it",
        )
    if name is None:
        if len(found) > 1:
            raise ModelUnsupportedError(
                "the model has the fill-in-the-middle tokens of several dialects",
                f"choose one: --dialect {' or '.join(found)}",
            )
        return next(iter(found.values()))
    if name not in found:
        raise UsageError(
            f"the model has no fill-in-the-middle tokens of the dialect {name}",
            f"it has those of {' and '.join(found)}",
        )
    return found[name]


def _dialect(tokenizer: Tokenizer, name: DialectName) -> Dialect | None:
    ids = [_control_id(tokenizer, text) for text in SPELLINGS[name]]
    prefix_id, suffix_id, middle_id = ids
    if prefix_id is None or suffix_id is None or middle_id is None:
        return None
    names = _control_id(tokenizer, FILE_NAME), _control_id(tokenizer, REPO_NAME)
    return Dialect(name, prefix_id, suffix_id, middle_id, *names)


def _control_id(tokenizer: Tokenizer, text: str) -> int | None:
    id_ = tokenizer.token_id(text)
    return id_ if id_ in tokenizer.control_ids else None


def psm(dialect: Dialect, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
    """Prefix, suffix, middle: ``PREFIX prefix SUFFIX suffix MIDDLE``."""
    return [dialect.prefix_id, *prefix, dialect.suffix_id, *suffix, dialect.middle_id]


def spm(dialect: Dialect, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
    """Suffix, prefix, middle: ``PREFIX SUFFIX suffix MIDDLE prefix``; the middle goes straight on.

    The order that SantaCoder and StarCoder were trained on (their variant 2); others exist.
    """
    return [dialect.prefix_id, dialect.suffix_id, *suffix, dialect.middle_id, *prefix]


def assemble(
    tokenizer: Tokenizer,
    dialect: Dialect,
    prefix: str,
    suffix: str,
    *,
    order: InfillOrder,
    room: int,
    path: str | None = None,
    repo: str | None = None,
    context: Sequence[ContextFile] = (),
) -> Assembly:
    r"""The prompt for the text between ``prefix`` and ``suffix``.

    All text and all names are encoded as plain text, each by itself, as in training. Without
    ``repo`` and ``context`` the prompt is the bare one; with either, the prefix stands behind
    ``<reponame>repo``, ``<filename>name\ntext`` of each context file, and ``<filename>path\n``,
    of which a tokenizer without ``<reponame>`` or ``<filename>`` gets what it has tokens for:
    the bare text of the context files, each with a newline behind it.

    Where all this is too long, context goes first, the farthest file before the nearest, and of
    the last one that fits in part the first lines stay. Then the prefix loses its first lines and
    the suffix its last, so that they are as 3 : 1; what one does not need is the other's.

    Args:
        room: tokens that the prompt may have, control tokens counted in.
        path: the name of the file with the hole.
        repo: the name of its repository.
        context: other files, the nearest last.

    Raises:
        InputError: as ``Tokenizer.encode``.
        UsageError: there is no room for any text.
    """
    room -= len(SPELLINGS[dialect.name])
    names = repo is not None or bool(context)
    repo_part = _announced(tokenizer, "repo", dialect.repo_id, repo if names else None)
    file_part = _announced(tokenizer, "file", dialect.filename_id, path if names else None)
    most = room // NAMES_SHARE
    if sum(len(part.ids) for part in (*repo_part, *file_part)) > most:
        repo_part, file_part = _left_out(repo_part), _left_out(file_part)
    room -= sum(len(part.ids) for part in (*repo_part, *file_part))
    left, right = _share(tokenizer, prefix, suffix, room)
    if room < 0 or ((prefix or suffix) and not (left.ids or right.ids)):
        raise UsageError(
            "there is no room for the text around the hole", "ask for fewer new tokens"
        )
    room -= len(left.ids) + len(right.ids)
    head = [*repo_part, *_context(tokenizer, dialect, context, room), *file_part]
    ids = [id_ for part in head for id_ in part.ids] + list(left.ids)
    join = psm if order == "psm" else spm
    return Assembly(
        ids=tuple(join(dialect, ids, right.ids)),
        order=order,
        dialect=dialect,
        sections=_sections(dialect, order, head, left, right),
        prefix=left.text,
        suffix=right.text,
        prefix_tokens=len(left.ids),
        suffix_tokens=len(right.ids),
        prefix_dropped=left.dropped_tokens,
        suffix_dropped=right.dropped_tokens,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """What stands before the prefix: its section and its ids."""

    section: Section
    ids: tuple[int, ...] = ()


def _share(tokenizer: Tokenizer, prefix: str, suffix: str, room: int) -> tuple[Cut, Cut]:
    """Prefix and suffix in 3 : 1 of the room; what one leaves, whole lines' rests too, is used."""
    room = max(0, room)
    before, after = tokenizer.encode(prefix), tokenizer.encode(suffix)
    least = max(room // SUFFIX_SHARE, room - len(before))
    right = fit(tokenizer, suffix, least, drop="right", ids=after)
    left = fit(tokenizer, prefix, room - len(right.ids), drop="left", ids=before)
    if right.dropped_tokens and room - len(left.ids) > least:
        right = fit(tokenizer, suffix, room - len(left.ids), drop="right", ids=after)
    return left, right


def _announced(
    tokenizer: Tokenizer, kind: Literal["repo", "file"], id_: int | None, name: str | None
) -> list[_Part]:
    """A name behind its control token; a file's has a line of its own."""
    if id_ is None or name is None:
        return []
    text = _plain(name) + ("\n" if kind == "file" else "")
    ids = (id_, *tokenizer.encode(text))
    return [_Part(Section(kind, name, tokenizer.decode(ids), len(ids)), ids)]


def _left_out(parts: list[_Part]) -> list[_Part]:
    return [
        _Part(Section(part.section.kind, part.section.label, "", 0, len(part.ids), 1))
        for part in parts
    ]


def _context(
    tokenizer: Tokenizer, dialect: Dialect, files: Sequence[ContextFile], room: int
) -> list[_Part]:
    """The context files that fit, from the last to the first; none behind one that was cut."""
    parts: list[_Part] = []
    for file in reversed(files):
        head: tuple[int, ...] = ()
        tail: list[int] = []
        if dialect.filename_id is not None:
            head = (dialect.filename_id, *tokenizer.encode(_plain(file.name) + "\n"))
        else:
            tail = tokenizer.encode("\n")
        space = room - len(head) - len(tail)
        cut = fit(tokenizer, file.text, max(0, space), drop="right", whole_lines=True)
        ids = (*head, *cut.ids, *tail) if cut.ids and space > 0 else ()
        room = room - len(ids) if ids and not cut.dropped_tokens else 0
        section = Section(
            "context",
            file.name,
            tokenizer.decode(ids),
            len(ids),
            cut.dropped_tokens,
            cut.dropped_lines,
        )
        parts.append(_Part(section, ids))
    return parts[::-1]


def _plain(name: str) -> str:
    """A file's name as text: bytes of it that are no UTF-8 (PEP 383) cannot be encoded."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _sections(
    dialect: Dialect, order: InfillOrder, head: Sequence[_Part], left: Cut, right: Cut
) -> tuple[Section, ...]:
    begin, suffix, middle = (Section("control", text, text, 1) for text in SPELLINGS[dialect.name])
    before = [*(part.section for part in head), _section("prefix", left)]
    after = _section("suffix", right)
    if order == "psm":
        return (begin, *before, suffix, after, middle)
    return (begin, suffix, after, middle, *before)


def _section(kind: Literal["prefix", "suffix"], cut: Cut) -> Section:
    return Section(kind, "", cut.text, len(cut.ids), cut.dropped_tokens, cut.dropped_lines)
