"""What a user set as the worst to put up with: a perplexity, or an earlier run."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from bigcode_cli.cli.inputs import BYTE_ORDER_MARK, decode, read_file
from bigcode_cli.cli.score_text import Item, figure
from bigcode_cli.errors import InputError, ThresholdError, UsageError
from bigcode_cli.records import Reporter, Scored

NAMES_TOLD = 3

Key = tuple[str, str | int | None, int]
"""What a text is known by: ``path`` or ``id``, that, and how many had the same before it."""


@dataclass(frozen=True, slots=True)
class _Miss:
    """A text beyond a threshold; the worst has the highest share."""

    text: int
    share: float
    told: str
    model: str


class Thresholds:
    """All that is put up with.

    Args:
        limit: of any text's perplexity.
        regression: what an earlier run has to say.
    """

    def __init__(self, limit: float | None, regression: "Regression | None") -> None:
        self._limit, self._regression = limit, regression
        self._texts: set[int] = set()  # several models score the same
        self._misses: list[_Miss] = []

    def begin(self, way: "Way", model: str, report: Reporter) -> None:
        """Look at how texts are to be scored, before any is.

        Raises:
            UsageError: they would not compare with the baseline.
        """
        if self._regression is not None and (note := self._regression.check(way, model)):
            report.note(note)

    def take(self, item: Item, scored: Scored) -> None:
        """Look at a text's score."""
        self._texts.add(item.number)
        if self._regression is not None:
            self._regression.take(item, scored)
        ppl = scored.perplexity
        if self._limit is not None and ppl is not None and ppl > self._limit:
            self._misses.append(
                _Miss(item.number, ppl, f"{item.name}: {figure(ppl)}", scored.model)
            )

    def skip(self, item: Item) -> None:
        """Pass over a text that came to nothing, which is told already."""
        if self._regression is not None:
            self._regression.skip(item)

    def verdict(self, report: Reporter) -> ThresholdError | None:
        """What was not met, if anything was not."""
        parts = [self._over()]
        if self._regression is not None:
            for note in self._regression.notes():
                report.note(note)
            parts.append(self._regression.verdict())
        told = [part for part in parts if part is not None]
        return ThresholdError("; ".join(told)) if told else None

    def _over(self) -> str | None:
        if self._limit is None or not self._misses:
            return None
        worst = max(self._misses, key=lambda miss: miss.share)
        several = len({miss.model for miss in self._misses}) > 1
        missed = len({miss.text for miss in self._misses})
        return (
            f"{_count(missed, len(self._texts))} a perplexity above {figure(self._limit)}, "
            f"the worst {worst.told}{f' with {worst.model}' if several else ''}"
        )


@dataclass(frozen=True, slots=True)
class Way:
    """How texts were scored; only scores of the same way compare."""

    context: int
    stride: int
    bos: bool

    def __str__(self) -> str:
        return f"context {self.context}, stride {self.stride} and --{'' if self.bos else 'no-'}bos"


@dataclass(frozen=True, slots=True)
class Baseline:
    """An earlier ``--json`` output.

    Attributes:
        file: where it was read.
        bits_per_byte: of each text that had a byte to score.
    """

    file: Path
    bits_per_byte: Mapping[Key, float | None]
    way: Way
    model: str | None

    @classmethod
    def read(cls, file: Path) -> "Baseline":
        """Read it.

        Raises:
            InputError: it is missing, or not what ``--json`` wrote with one model.
        """
        text = decode(read_file(file), "utf-8", str(file)).removeprefix(BYTE_ORDER_MARK)
        bits: dict[Key, float | None] = {}
        ways: set[Way] = set()
        models: set[str | None] = set()
        seen = Seen()
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            row = _parse_row(line, f"{file}:{number}")
            if row.get("total") is True:
                continue
            if row.get("comparison") is True:
                raise InputError(f"{file} compares models", "a baseline is of one")
            bits[seen.key(row.get("path"), row.get("id"))] = row["bits_per_byte"]
            ways.add(Way(row["context"], row["stride"], row["bos"]))
            models.add(row.get("model"))
        if not bits:
            raise InputError(f"{file} has no scores", "it is what bigcode score --json wrote")
        if len(models) > 1:
            raise InputError(f"{file} holds scores of several models", "a baseline is of one")
        if len(ways) > 1:
            raise InputError(f"{file} holds scores of several contexts, strides or --bos")
        return cls(file, bits, ways.pop(), models.pop())


class Seen:
    """Counts texts of the same name, so that each is its own."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str | int | None]] = Counter()

    def key(self, path: str | None, id_: str | int | None) -> Key:
        """The key of the next text. ``./a`` is ``a``."""
        name: tuple[str, str | int | None] = (
            ("id", id_) if path is None else ("path", str(PurePath(path)))
        )
        self._counts[name] += 1
        return (*name, self._counts[name])


class Regression:
    """``--baseline``: no text may have become worse by more than a share.

    Args:
        percent: the share, of a text's bits per byte.
    """

    def __init__(self, baseline: Baseline, percent: float) -> None:
        self._baseline, self._percent = baseline, percent
        self._seen = Seen()
        self._gone = dict(baseline.bits_per_byte)
        self._new: list[str] = []
        self._texts = 0
        self._misses: list[_Miss] = []

    def check(self, way: Way, model: str) -> str | None:
        """What is to be noted before the texts are scored.

        Raises:
            UsageError: they would not compare.
        """
        if way != self._baseline.way:
            raise UsageError(
                f"{self._baseline.file} was scored with {self._baseline.way}, this is {way}",
                "the same --context, --stride and --bos compare",
            )
        if model == self._baseline.model:
            return None
        return f"the baseline is of {self._baseline.model}, this is {model}"

    def skip(self, item: Item) -> None:
        """Pass over a text that came to nothing, which is told already."""
        self._gone.pop(self._seen.key(item.source.path, item.source.id), None)

    def take(self, item: Item, scored: Scored) -> None:
        """Look at one text."""
        key, new = self._seen.key(item.source.path, item.source.id), scored.bits_per_byte
        if key not in self._baseline.bits_per_byte:
            self._new.append(item.name)
            return
        old = self._gone.pop(key)
        self._texts += 1
        if old is None or new is None or new <= old * (1 + self._percent / 100):
            return
        share = new / old - 1 if old else math.inf
        self._misses.append(
            _Miss(
                item.number,
                share,
                f"{item.name}: {figure(new)}, was {figure(old)} ({share:+.1%})",
                scored.model,
            )
        )

    def notes(self) -> list[str]:
        """Which texts have nothing to compare with."""
        gone = [str(path if path is not None else "null") for _, path, _ in self._gone]
        return [
            f"{what}: {_names(names)}"
            for names, what in (
                (self._new, f"not in {self._baseline.file}"),
                (gone, f"only in {self._baseline.file}"),
            )
            if names
        ]

    def verdict(self) -> str | None:
        """What is wrong, if anything is."""
        if not self._misses:
            return None
        worst = max(self._misses, key=lambda miss: miss.share)
        more = f"{figure(self._percent)} % more bits per byte than in {self._baseline.file}"
        return f"{_count(len(self._misses), self._texts)} over {more}, the worst {worst.told}"


def _count(missed: int, texts: int) -> str:
    return f"{missed:,} of {texts:,} text{'s' * (texts != 1)} {'has' if missed == 1 else 'have'}"


def _names(names: Sequence[str]) -> str:
    """The first few of some names."""
    more = f" and {len(names) - NAMES_TOLD:,} more" if len(names) > NAMES_TOLD else ""
    return f"{', '.join(names[:NAMES_TOLD])}{more}"


def _parse_row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON", "a baseline is what --json wrote") from error
    if isinstance(row, dict) and (row.get("total") is True or row.get("comparison") is True):
        return row
    if not isinstance(row, dict) or not _is_score(row):
        raise InputError(f"{place}: no score of a text", "a baseline is what --json wrote")
    return row


def _is_score(row: Mapping[str, object]) -> bool:
    """Whether a row has what a comparison needs, each of its type."""
    bits, path, id_ = row.get("bits_per_byte", ""), row.get("path"), row.get("id")
    return (
        ("path" in row or "id" in row)
        and (path is None or isinstance(path, str))
        and (id_ is None or (isinstance(id_, str | int) and not isinstance(id_, bool)))
        and (bits is None or (isinstance(bits, int | float) and not isinstance(bits, bool)))
        and isinstance(row.get("bos"), bool)
        and all(
            isinstance(row.get(name), int) and not isinstance(row.get(name), bool)
            for name in ("context", "stride")
        )
        and isinstance(row.get("model"), str)
    )
