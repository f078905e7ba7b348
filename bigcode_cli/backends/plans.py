"""For which shapes cuDNN may plan its attention.

Of PyTorch's fused kernels cuDNN's is the fastest on recent GPUs, by up to 1.9 times (H100), but
for each shape that it has not met it works out a plan: 40 ms, and 1.4 MB of the host's memory that
it keeps. Prompts and files are all of different lengths, so a shape has to earn its plan.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MIN_USES = 4
"""Times that a shape is met before it is planned."""

MAX_PLANS = 64
"""Shapes that are planned at most."""


class AttentionPlans:
    """Counts the shapes that a model is run on."""

    def __init__(self) -> None:
        self._uses: Counter[tuple[int, int]] = Counter()
        self._planned: set[tuple[int, int]] = set()

    @contextmanager
    def using(self, shape: tuple[int, int]) -> Iterator[None]:
        """Run a pass over ``(rows, time)`` tokens: planned, if the shape has earned it."""
        allow_plans(self._earns(shape))
        try:
            yield
        finally:
            allow_plans(False)

    def _earns(self, shape: tuple[int, int]) -> bool:
        if shape not in self._planned:
            self._uses[shape] += 1
            if self._uses[shape] < MIN_USES or len(self._planned) == MAX_PLANS:
                return False
            self._planned.add(shape)
        return True


def allow_plans(allowed: bool) -> None:
    """Let PyTorch choose cuDNN's attention, or keep it from that; without a GPU it is no matter."""
    torch.backends.cuda.enable_cudnn_sdp(allowed)
