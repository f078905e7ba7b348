"""The texts of the golden share, and this package's side of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bigcode_cli.engine.session import Session
from bigcode_cli.model.locate import locate
from bigcode_cli.records import (
    Attention,
    LoadOptions,
    ModelFolder,
    Scored,
    ScoreOptions,
    ScoreRequest,
)
from tests.tokenizers import TINY_TEXT

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden.json"
LIMIT = 1e-5
"""Relative difference of the sums, in float32, with the same attention on both sides.

``mini`` is sensitive: whatever the attention, float32 sums of files of a few hundred tokens are up
to 1.7e-5 off those in float64, so that two ways to compute attention may be as far apart.
"""


@dataclass(frozen=True)
class Sizes:
    """How a text is scored."""

    context: int
    stride: int
    bos: bool


SIZES = [Sizes(2048, 1024, True), Sizes(256, 128, True), Sizes(512, 511, False)]


def golden_texts() -> dict[str, str]:
    """Texts that do not change, or whose change must be followed by ``--golden``."""
    vectors = ROOT / "tests" / "text" / "fixtures" / "starcoder_vectors.json"
    return {
        "licence": (ROOT / "LICENSE").read_bytes().decode(),
        "many scripts": vectors.read_bytes().decode()[:2000],
        "a program": TINY_TEXT,
        "line ends of DOS": TINY_TEXT.replace("\n", "\r\n"),
        "one token": "x",
    }


def open_mini(attention: Attention = "auto") -> Session:
    """``mini`` in float32 on a CPU."""
    folder = ModelFolder(name="mini", path=locate("mini"))
    return Session.open(folder, LoadOptions(device="cpu", dtype="float32", attention=attention))


def score(session: Session, texts: Iterable[str], sizes: Sizes) -> Sequence[Scored]:
    """All texts in one call, so that they are run side by side."""
    options = ScoreOptions(context=sizes.context, stride=sizes.stride, bos=sizes.bos)
    events = list(session.score([ScoreRequest(pieces=[text]) for text in texts], options))
    scored = [event for event in events if isinstance(event, Scored)]
    assert len(scored) == len(events)
    return scored


def relative(got: float, wanted: float) -> float:
    """The relative difference; nothing of nothing."""
    return abs(got - wanted) / abs(wanted) if wanted else abs(got)
