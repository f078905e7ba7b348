"""Texts that are nearly the same: alike in at least 0.7 of their runs of five words.

As StarCoder's data was cleaned (Li et al. 2023, section 3; Ben Allal et al. 2023, section 3.3):
Jaccard similarity of the sets of 5-grams of words, at least 0.7, candidates by MinHash (Broder
1997) and locality-sensitive hashing (Indyk and Motwani 1998). The library is datasketch. Here
candidates are then compared exactly, so no text is taken for a copy that is none.

128 permutations in 32 bands of 4: a pair of similarity s becomes a candidate with probability
1 - (1 - s⁴)³², which is 0.9998 at 0.7 and 0.003 at 0.1.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from zlib import crc32

from bigcode_cli.errors import UsageError
from bigcode_cli.training.data.filters import head_comment

if TYPE_CHECKING:
    from datasketch import LeanMinHash, MinHash

THRESHOLD = 0.7
WORDS = 5
BANDS, ROWS = 32, 4

_WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")
"""Letters beyond ASCII count as parts of words in any script."""
_LICENCE = re.compile(r"licen[cs]e|copyright", re.IGNORECASE)
_SEED = 1
_SCHEME = "affine32"


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is kept of a text to compare it by; some 4 bytes a word.

    Attributes:
        shingles: distinct 32-bit hashes of its runs of words, ascending.
        signature: its MinHash, 128 values of 32 bits.
    """

    shingles: bytes
    signature: bytes


def check_installed() -> None:
    """Say at once what would otherwise be said after all has been read.

    Raises:
        UsageError: datasketch is not installed.
    """
    try:
        import datasketch  # noqa: F401
    except ImportError:
        raise UsageError(
            "to find near-duplicates, the datasketch package is needed",
            "pip install 'bigcode-cli[train]'",
        ) from None


def shingles(text: str) -> frozenset[int]:
    """Hashes of all runs of five words; of all words where there are fewer, none without a word.

    The words stand for the text: white space, operators and brackets are passed over, and so is a
    licence at its head, which would make any two short files of a project alike.
    """
    head = head_comment(text)
    start = len(head) if _LICENCE.search(head) and len(head) < len(text) else 0
    words = _WORD.findall(text[start:].encode("utf-8", "surrogatepass"))
    runs = max(1, len(words) - WORDS + 1) if words else 0
    return frozenset(crc32(b" ".join(words[start : start + WORDS])) for start in range(runs))


def sketch(text: str) -> Sketch:
    """The sketch of a text; most of the work, fit for worker processes."""
    hashes = shingles(text)
    minhash = _blank().copy()
    minhash.update_batch(hashes)
    return Sketch(array("I", sorted(hashes)).tobytes(), minhash.hashvalues.tobytes())


def similarity(first: Sketch, second: Sketch) -> float:
    """Jaccard similarity of the two texts' shingles; 0 where one has none."""
    ours, theirs = set(_values(first.shingles)), set(_values(second.shingles))
    shared = len(ours & theirs)
    return shared / (len(ours) + len(theirs) - shared) if shared else 0.0


class Index:
    """Sketches under numbers, found again by what is nearly the same."""

    def __init__(self) -> None:
        check_installed()
        from datasketch import MinHashLSH

        self._sketches: dict[int, Sketch] = {}
        self._buckets = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))

    def add(self, number: int, one: Sketch) -> None:
        """Add a sketch under a number of its own; without a shingle it is never found."""
        if one.shingles:
            self._sketches[number] = one
            self._buckets.insert(number, _minhash(one))

    def candidates(self, one: Sketch) -> list[int]:
        """Numbers of those that may be nearly the same, ascending."""
        return sorted(self._buckets.query(_minhash(one))) if one.shingles else []

    def alike(self, one: Sketch, number: int) -> bool:
        """Whether a sketch and one that was added are nearly the same."""
        other = self._sketches[number]
        sizes = sorted((len(one.shingles), len(other.shingles)))
        # What is much shorter cannot be alike, whatever it holds.
        return sizes[0] >= THRESHOLD * sizes[1] and similarity(one, other) >= THRESHOLD

    def has_alike(self, one: Sketch) -> bool:
        """Whether any that was added is nearly the same."""
        return any(self.alike(one, number) for number in self.candidates(one))


def without_near_duplicates(sketches: Iterable[Sketch]) -> Iterator[bool]:
    """Whether each is kept: the first of its kind is, what is nearly the same as a kept one is not.

    So no two kept ones are nearly the same, and for each other one there is a kept one before it.
    """
    index = Index()
    for number, one in enumerate(sketches):
        kept = not index.has_alike(one)
        if kept:
            index.add(number, one)
        yield kept


def near_duplicate_groups(sketches: Sequence[Sketch]) -> list[list[int]]:
    """Numbers in groups, such that all that are nearly the same are in one group.

    Also over a third: two of a group need not be alike. Groups are in the order of their first
    members, members ascending; one that is like no other is a group alone.
    """
    index = Index()
    leader = list(range(len(sketches)))

    def leader_of(number: int) -> int:
        while leader[number] != number:
            leader[number] = number = leader[leader[number]]
        return number

    firsts: dict[bytes, int] = {}
    for number, one in enumerate(sketches):
        first = firsts.setdefault(one.shingles, number) if one.shingles else number
        if first != number:
            # A thousand copies would be candidates of one another, a million pairs.
            leader[number] = leader_of(first)
            continue
        for other in index.candidates(one):
            ours, theirs = leader_of(number), leader_of(other)
            if ours != theirs and index.alike(one, other):
                leader[max(ours, theirs)] = min(ours, theirs)
        index.add(number, one)
    groups: dict[int, list[int]] = {}
    for number in range(len(sketches)):
        groups.setdefault(leader_of(number), []).append(number)
    return list(groups.values())


@cache
def _blank() -> "MinHash":
    """An empty MinHash, copied for its permutations: drawing them takes longer than using them."""
    check_installed()
    from datasketch import MinHash

    # Shingles are hashes already; the scheme mixes them once more.
    return MinHash(num_perm=BANDS * ROWS, seed=_SEED, scheme=_SCHEME, hashfunc=int)


def _minhash(one: Sketch) -> "LeanMinHash":
    from datasketch import LeanMinHash

    return LeanMinHash(seed=_SEED, hashvalues=_values(one.signature), scheme=_SCHEME)


def _values(data: bytes) -> "array[int]":
    values = array("I")
    values.frombytes(data)
    return values
