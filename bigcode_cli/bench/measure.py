"""How long work takes: several sides by turns, several times, on a clock that waits for the device.

Before each measurement every side does the work once, so that compilation, caches and clock rates
are as they will be. What is measured of one round is measured of all sides one after the other (A B
A B …): a machine that slows down slows all of them.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch

from bigcode_cli.backends.plans import MIN_USES
from bigcode_cli.bench.cases import Case
from bigcode_cli.errors import BigcodeError
from bigcode_cli.records import Reporter

Clock = Callable[[], int]
"""Nanoseconds, when all work that was begun is done."""

WARM_UPS = {"sc": MIN_USES}
"""Turns before the first that counts, where it is not one: passes that score get a plan then."""

Mark = Literal["begun", "first", "ended"]
"""All is prepared; the first token is known; the work that is timed is done."""

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"


class Side(Protocol):
    """Something that does the work of a case.

    Attributes:
        name: how reports call it.
        weight_bytes: what its weights take of the device's memory.
        ids: that the last ``tg`` chose for each sequence, the first from the prompt.
        nll: that the last ``sc`` found, in nats a token.
    """

    name: str
    weight_bytes: int
    ids: list[list[int]]
    nll: float | None

    def can(self, case: Case) -> bool:
        """Whether it does such work at all."""

    def run(self, case: Case) -> Iterator[Mark]:
        """Do the work, telling each moment that there is when it has come."""

    def tokens(self, case: Case) -> int:
        """How many tokens the time of the last run was for."""

    def release(self) -> None:
        """Give back what is kept of earlier work."""


class Memory(Protocol):
    """Tells the most memory that was taken."""

    def begin(self) -> None:
        """Forget what was."""

    def peak(self, weight_bytes: int) -> int | None:
        """Bytes since then, of a side with such weights; ``None`` where it cannot be told."""


@dataclass(slots=True)
class Samples:
    """What was measured of one side at one case, so far.

    Attributes:
        samples_ns: of each round.
        first_token_ns: likewise, from the beginning to the first token.
        tokens: that each sample is for.
        ids: see ``Side``; likewise ``nll``.
        error: what the side failed with.
    """

    case: Case
    side: str
    samples_ns: list[int] = field(default_factory=list)
    first_token_ns: list[int] = field(default_factory=list)
    tokens: int = 0
    ids: list[list[int]] = field(default_factory=list)
    nll: float | None = None
    peak_memory_bytes: int | None = None
    error: str | None = None


def device_clock(device: str) -> Clock:
    """A clock that lets the device finish before it looks."""
    kind = torch.device(device).type
    if kind == "cuda":
        wait: Callable[[], None] = lambda: torch.cuda.synchronize(device)  # noqa: E731
    elif kind == "mps":
        wait = torch.mps.synchronize
    else:
        return time.perf_counter_ns

    def now() -> int:
        wait()
        return time.perf_counter_ns()

    return now


def measure(
    cases: Sequence[Case],
    sides: Sequence[Side],
    *,
    repetitions: int,
    clock: Clock,
    memory: Memory,
    report: Reporter,
    done: list[Samples],
) -> None:
    """Time every case on every side that can do it.

    A side that fails at a case is left out of it from there on; the others go on.

    Args:
        done: takes what is measured as it is measured, so that nothing is lost to a Ctrl-C.
    """
    for case in cases:
        able = [(side, Samples(case, side.name)) for side in sides if side.can(case)]
        done += [samples for _, samples in able]
        warm_ups = WARM_UPS.get(case.kind, 1)
        turns = warm_ups + repetitions
        for turn in range(turns):
            report.progress(case.label, turn, turns, "runs")
            for side, samples in able:
                if samples.error is None:
                    _run_once(side, samples, clock, memory, is_warm_up=turn < warm_ups)
        report.progress(case.label, turns, turns, "runs")


def _run_once(
    side: Side, samples: Samples, clock: Clock, memory: Memory, *, is_warm_up: bool
) -> None:
    memory.begin()
    try:
        marks = {mark: clock() for mark in side.run(samples.case)}
    except (BigcodeError, torch.OutOfMemoryError) as error:
        samples.error = str(error).partition("\n")[0]
        return
    finally:
        side.release()
    if is_warm_up:
        return
    samples.tokens = side.tokens(samples.case)
    samples.ids = side.ids if samples.case.kind == "tg" else []
    samples.nll = side.nll if samples.case.kind == "sc" else None
    samples.samples_ns.append(marks["ended"] - marks["begun"])
    if "first" in marks:
        samples.first_token_ns.append(marks["first"] - marks["begun"])
    peak = memory.peak(side.weight_bytes)
    if peak is not None:
        samples.peak_memory_bytes = max(peak, samples.peak_memory_bytes or 0)


class DeviceMemory:
    """What tensors take on a GPU, the side's weights counted in; elsewhere the whole process.

    Args:
        is_shared: several sides are in memory. A process cannot be told apart by them: then its
            peak says nothing.
    """

    def __init__(self, device: str, *, is_shared: bool) -> None:
        self._device = torch.device(device)
        self._is_shared = is_shared
        self._before = 0

    def begin(self) -> None:
        """See ``Memory``."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        elif _CLEAR_REFS.exists():
            with suppress(OSError):  # then it is the peak since the process began
                _CLEAR_REFS.write_text(_FORGET_PEAK)

    def peak(self, weight_bytes: int) -> int | None:
        """See ``Memory``."""
        if self._device.type == "cuda":
            return weight_bytes + torch.cuda.max_memory_allocated(self._device) - self._before
        if self._is_shared or self._device.type != "cpu":
            return None
        return _resident_peak()


def _resident_peak() -> int | None:
    """The most bytes that were resident at once: ``VmHWM``, else since the process began."""
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # no Unix
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
