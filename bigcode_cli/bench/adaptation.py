"""What tuning a model to a folder was worth: the same files and holes, before and after."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bigcode_cli.bench.infill_run import exact_match
from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.bench.intervals import bootstrap_ratio_difference
from bigcode_cli.bench.quality import infill
from bigcode_cli.engine.session import Session
from bigcode_cli.records import Failure, Reporter, Scored, ScoreRequest, bits_per_byte

LEAST_GAIN = 0.001
"""Share of bits per byte that a gain is at least: rounding the weights alone moves some 0.0001."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good a model is on some files.

    Attributes:
        files: as ``bigcode score`` has it, one for each.
        exact: whether each hole was filled exactly.
    """

    files: tuple[Scored, ...]
    exact: tuple[bool, ...]

    @property
    def bits_per_byte(self) -> float:
        """Over all files, weighted by their bytes."""
        nll, size = sum(one.nll_sum for one in self.files), sum(one.n_bytes for one in self.files)
        value = bits_per_byte(nll, size)
        assert value is not None
        return value


@dataclass(frozen=True, slots=True)
class Change:
    """Two models on the same files and holes."""

    before: Quality
    after: Quality

    @property
    def share(self) -> float:
        """Bits per byte after over those before, less 1: negative is better."""
        return self.after.bits_per_byte / self.before.bits_per_byte - 1

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference in bits per byte, paired over the files."""
        return bootstrap_ratio_difference(*map(_bits, (self.before, self.after)))

    @property
    def is_better(self) -> bool:
        """Whether bits per byte fell, and by more than rounding or the choice of files explains."""
        return self.share <= -LEAST_GAIN and self.interval[1] < 0


def _bits(quality: Quality) -> list[tuple[float, float]]:
    """Bits and bytes of each file."""
    return [(one.nll_sum / math.log(2), one.n_bytes) for one in quality.files]


def measure(
    session: Session, texts: Sequence[str], tasks: Sequence[InfillTask], report: Reporter
) -> Quality:
    """Score whole texts and fill holes.

    Args:
        texts: none of them empty.

    Raises:
        BigcodeError: what one of them failed with.
    """
    files = []
    requests = [ScoreRequest(pieces=[text]) for text in texts]
    size = sum(len(text.encode()) for text in texts)
    for event in session.score(requests, report=report, total_bytes=size):
        if isinstance(event, Failure):
            raise event.error
        if isinstance(event, Scored):
            files.append(event)
    report.progress("filling holes", 0, None, "")
    middles = infill(session, tasks)
    report.progress("filling holes", 1, 1, "")
    exact = (exact_match(middle, task.middle) for middle, task in zip(middles, tasks, strict=True))
    return Quality(files=tuple(files), exact=tuple(exact))
