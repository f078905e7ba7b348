"""Learning not to go in circles.

A language model that wrote a line twice finds it likelier the third time, and greedy decoding never
gets out. Xu et al. 2022 ("Learning to Break the Loop", DITTO) repeat a stretch of a text to the end
of a window and teach that each copy is ``DECAY`` times as likely as the one before.
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.devices import moved

WIDTH = 512
"""Tokens of a window at most."""

COPIES = 3
"""At least so many copies of a stretch fit into a window."""

DECAY = 0.5
PLAIN, LINE_END, CONTROL = range(3)
_TRIES = 8
_SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class Circles:
    """Windows that end in copies of one stretch.

    Attributes:
        ids: int64 ``(rows, width + 1)``.
        first: int64 ``(rows,)``, where the second copy begins.
        period: int64 ``(rows,)``, tokens of a copy.
    """

    ids: Tensor
    first: Tensor
    period: Tensor

    @property
    def count(self) -> int:
        """Tokens of second and later copies."""
        return int((self.ids.shape[1] - self.first).sum())

    def part(self, rows: slice, device: torch.device) -> "Circles":
        """Some of the windows."""
        parts = (moved(part[rows], device) for part in (self.ids, self.first, self.period))
        return Circles(*parts)


def token_kinds(tokenizer: Tokenizer) -> Tensor:
    """``PLAIN``, ``LINE_END`` (or with one in it) or ``CONTROL`` of each id: int8 ``(ids,)``."""
    kinds = torch.full((tokenizer.vocab_size,), PLAIN, dtype=torch.int8)
    for id_ in range(tokenizer.vocab_size):
        if id_ in tokenizer.control_ids:
            kinds[id_] = CONTROL
        elif b"\n" in tokenizer.token_bytes(id_):
            kinds[id_] = LINE_END
    return kinds


def make_circles(windows: Tensor, kinds: Tensor, rows: int, random: Random) -> Circles | None:
    """Draw stretches of one to three lines and repeat them; ``None`` where no window has one.

    Args:
        windows: int64 ``(windows, time)``.
        kinds: see ``token_kinds``.
    """
    width = min(WIDTH, windows.shape[1] - 1)
    made: list[tuple[Tensor, int, int]] = []
    for _ in range(_TRIES * rows):
        if len(made) == rows:
            break
        row = _circle(windows[random.randrange(len(windows))], kinds, width, random)
        if row is not None:
            made.append(row)
    if not made:
        return None
    # The number of rows is always the same: another shape would be compiled anew.
    made = [made[row % len(made)] for row in range(rows)]
    ids, first, period = zip(*made, strict=True)
    return Circles(torch.stack(ids), torch.tensor(first), torch.tensor(period))


def _circle(
    window: Tensor, kinds: Tensor, width: int, random: Random
) -> tuple[Tensor, int, int] | None:
    """One window that ends in copies of one of its stretches, the place of the second, its size."""
    own = kinds[window]
    ends = (own == LINE_END).nonzero().flatten().tolist()
    lines = 1 if random.random() < 0.7 else random.randint(2, 3)
    if len(ends) <= lines:
        return None
    begin = random.randrange(len(ends) - lines)
    start, stop = ends[begin] + 1, ends[begin + lines] + 1
    period = stop - start
    if not 1 < period <= width // COPIES or bool((own[start:stop] == CONTROL).any()):
        return None
    before = random.randint(0, width - COPIES * period)
    head = window[max(0, start - before) : stop]
    copies = -(-(width + 1 - len(head)) // period)
    ids = torch.cat([head, window[start:stop].repeat(copies)])[: width + 1]
    return ids, len(head), period


def circle_loss(model: nn.Module, circles: Circles) -> Tensor:
    """Summed over the tokens of second and later copies: −log(1 − |p − DECAY · p′|).

    Of each token, p is its probability and p′ (no gradient goes there) that of the same token one
    copy before. Equation 2 of the paper.
    """
    inputs, targets = circles.ids[:, :-1], circles.ids[:, 1:]
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
        logits = model(inputs, use_cache=False).logits
    nats = functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="none"
    ).view_as(targets)
    chance = torch.exp(-nats)
    time = torch.arange(targets.shape[1], device=targets.device)
    earlier = (time - circles.period[:, None]).clamp(min=0)
    before = chance.detach().gather(1, earlier)
    distance = (chance - DECAY * before).abs()
    losses = -torch.log((1 - distance).clamp(min=_SMALLEST))
    # The target at ``time`` is the token at ``time + 1``.
    return losses.where(time + 1 >= circles.first[:, None], 0.0).sum()
