"""Writes judged documents into a corpus folder: each text once, what is held out apart."""

import json
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from bigcode_cli.training.data import manifest
from bigcode_cli.training.data.documents import Judged
from bigcode_cli.training.data.hold_out import HoldOut, draw
from bigcode_cli.training.data.near_duplicates import Index
from bigcode_cli.training.data.packages import Package, normal_name

FILES_GROUP = "files"
"""The group of held-out files where they are not held out by package."""
_FILES = ("corpus.idx", "held_out.bin", "held_out.idx", "held_out.json")


class Writer:
    """Keeps what is new, and counts what is left out.

    Args:
        compare: whether what is nearly the same as a document before it is left out too.
    """

    def __init__(self, folder: Path, *, compare: bool) -> None:
        self.dropped: Counter[str] = Counter()
        self.owners: list[Package] = []
        self._folder = folder
        self._offsets = array("Q", [0])
        self._seen: set[bytes] = set()
        self._index = Index() if compare else None

    def __enter__(self) -> "Writer":
        # Until all is written there is no corpus, nor what another left here.
        for name in _FILES:
            (self._folder / name).unlink(missing_ok=True)
        self._blob = (self._folder / "corpus.bin").open("w+b")
        return self

    def __exit__(self, *_: object) -> None:
        self._blob.close()

    def add(self, package: Package, answers: Iterable[Judged]) -> None:
        """Write some of a package's documents."""
        for one in answers:
            reason = one.objection or self._repeats(one)
            if reason:
                self.dropped[reason] += 1
                continue
            data = one.text.encode()
            self._blob.write(data)
            self._offsets.append(self._offsets[-1] + len(data))
            self.owners.append(package)

    def _repeats(self, one: Judged) -> str:
        """Why a document is not new; from now on it is known."""
        if one.fingerprint in self._seen:
            return "duplicate"
        self._seen.add(one.fingerprint)
        if self._index is not None and one.sketch is not None:
            if self._index.has_alike(one.sketch):
                return "near-duplicate"
            self._index.add(len(self.owners), one.sketch)
        return ""

    def finish(
        self, hold_out: HoldOut | None, refused: list[dict[str, str]], facts: Mapping[str, Any]
    ) -> None:
        """Put aside what is held out, and write the index and the manifest.

        Args:
            refused: packages that were left out as a whole.
            facts: for the manifest.

        Raises:
            UsageError: nothing can be held out.
        """
        sizes = [end - start for start, end in pairwise(self._offsets)]
        aside: frozenset[int] = frozenset()
        if hold_out:
            aside = draw(self._groups(hold_out), sizes, hold_out)
            self._put_aside(aside, hold_out)
        rows = [
            manifest.count(
                (owner, size)
                for number, (owner, size) in enumerate(zip(self.owners, sizes, strict=True))
                if (number in aside) is held
            )
            for held in (False, True)
        ]
        manifest.write(
            self._folder,
            rows[0],
            dropped=self.dropped,
            refused=refused,
            held_out=rows[1],
            facts=facts,
        )
        self._blob.flush()
        _write_offsets(self._folder / "corpus.idx", self._offsets)

    def _groups(self, hold_out: HoldOut) -> list[str] | range:
        """What each document belongs to: all versions of a package are one group."""
        if hold_out.split == "file":
            return range(len(self.owners))
        return [normal_name(owner.name) for owner in self.owners]

    def _put_aside(self, aside: frozenset[int], hold_out: HoldOut) -> None:
        """Move documents out of ``corpus.bin``, and the others together."""
        left, held = array("Q", [0]), array("Q", [0])
        names: list[str] = []
        with (self._folder / "held_out.bin").open("wb") as blob:
            for number, (start, end) in enumerate(pairwise(self._offsets)):
                self._blob.seek(start)
                data = self._blob.read(end - start)
                if number in aside:
                    blob.write(data)
                    held.append(held[-1] + len(data))
                    by_package = hold_out.split == "package"
                    names.append(self.owners[number].name if by_package else FILES_GROUP)
                else:
                    self._blob.seek(left[-1])
                    self._blob.write(data)
                    left.append(left[-1] + len(data))
        self._blob.truncate(left[-1])
        self._offsets = left
        _write_offsets(self._folder / "held_out.idx", held)
        (self._folder / "held_out.json").write_text(json.dumps(names) + "\n", "utf-8")


def _write_offsets(path: Path, offsets: "array[int]") -> None:
    if sys.byteorder == "big":
        offsets = array("Q", offsets)
        offsets.byteswap()
    path.write_bytes(offsets.tobytes())
