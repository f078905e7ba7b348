"""Fine-tuning a model of the family on one folder's texts, within minutes on a CPU.

What is trained is chosen by what it costs. The layers below the first trained one are only run
forward, and where the embeddings stay as they are too, what those layers give is kept: from the
second epoch on, the upper ones alone are run. Dropout is off throughout.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.errors import BigcodeError, UsageError
from bigcode_cli.model.attention import Visible, sdpa
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.layers import Pass
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.adapt_feed import epoch_windows
from bigcode_cli.training.low_rank import add_low_rank
from bigcode_cli.training.objective import IGNORED, Objective, Vocabulary
from bigcode_cli.training.recipe import TrainingSettings
from bigcode_cli.training.schedule import make_optimizers, rate_factor

CLIP = 1.0
PASS_TOKENS = {"cpu": 2**11, "cuda": 2**15, "mps": 2**12}
"""Tokens that go through the model at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptSettings:
    """How a model is adapted.

    Attributes:
        layers: how many are trained, counted from the last; -1 is all of them.
        rank: of the factors that are trained beside each matrix of those layers; 0 trains the
            matrices themselves. Norms (and, without factors, biases) are trained in either case.
        embeddings: the tied token embedding stays ``frozen``, or is trained by the ``output``'s
            gradient alone, which spares the way back through all layers, or by ``both`` ends'.
        optimizer: of matrices; the rest is AdamW's.
        learning_rate: of matrices, at its peak.
        embedding_learning_rate: of embeddings, norms and biases.
        warm_up: share of the training in which the rate rises; then it falls to 0, linearly.
        epochs: how often each text is seen at most.
        minutes: how long training takes at most, by the clock.
        window: tokens of a training window.
        tokens_per_step: inputs of one optimizer step.
        fim_rate: share of pieces that become fill-in-the-middle samples.
        cached: draw the windows once for all epochs, and keep what frozen layers give of them.
    """

    layers: int = -1
    rank: int = 0
    embeddings: Literal["frozen", "output", "both"] = "frozen"
    optimizer: Literal["muon", "adamw"] = "adamw"
    learning_rate: float = 3e-4
    embedding_learning_rate: float = 3e-4
    weight_decay: float = 0.0
    warm_up: float = 0.1
    epochs: float = 3.0
    minutes: float | None = None
    window: int = 512
    tokens_per_step: int = 2048
    fim_rate: float = 0.5
    cached: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs <= 0 or (self.minutes is not None and self.minutes <= 0):
            raise UsageError("epochs and minutes must be above 0")
        if self.rank < 0 or self.layers < -1 or self.layers == 0:
            raise UsageError("a rank is at least 0, and layers at least 1, or -1")


WHOLE = AdaptSettings(
    optimizer="muon",
    embeddings="both",
    window=2048,
    tokens_per_step=4096,
    fim_rate=0.25,
)
"""What served best of what two cores do in some minutes, on packages that ``mini`` has not seen.

At equal tokens, all matrices and the embedding by Muon at this rate gain half as much again as
factors beside the matrices, the upper half alone, or shorter windows; holes cost next to nothing.
"""

UPPER = AdaptSettings(
    layers=4, rank=16, learning_rate=4e-3, window=1024, fim_rate=0.25, cached=True
)
"""For models of which no CPU trains all in minutes, or holds the gradients of all."""

MAX_WHOLE = 100_000_000
"""Parameters of the largest model that is trained as a whole."""


def settings_for(parameters: int) -> AdaptSettings:
    """How a model of that many parameters is tuned."""
    return WHOLE if parameters <= MAX_WHOLE else UPPER


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step that was done: where training stands.

    Attributes:
        position: share of the training that is done, from 0 to 1.
        loss: of the step, in nats a target.
        tokens: inputs so far.
        seconds: since training began.
    """

    step: int
    position: float
    loss: float
    tokens: int
    seconds: float
    epochs: float


def prepare(model: GPTBigCodeForCausalLM, settings: AdaptSettings) -> int:
    """Choose what is trained; the first trained layer.

    Raises:
        UsageError: the model has fewer layers, or a rank beyond its matrices.
    """
    count = model.config.n_layer
    if settings.layers > count:
        raise UsageError(f"the model has {count} layers, not {settings.layers}")
    first = 0 if settings.layers == -1 else count - settings.layers
    model.requires_grad_(False)
    transformer = model.transformer
    trained = [*transformer.h[first:], transformer.ln_f]
    for module in trained:
        module.requires_grad_(True)
    if settings.rank:
        torch.manual_seed(settings.seed)
        add_low_rank(model, settings.rank, first_layer=first)
    if settings.embeddings != "frozen":
        model.lm_head.requires_grad_(True)  # the token embedding itself, where they are tied
    if settings.embeddings == "both":
        transformer.wte.requires_grad_(True)
    return first


class Adapter:
    """One model on its way through some texts.

    Args:
        model: in float32; it is changed in place.
        texts: what is learned from.
        clock: seconds.
    """

    def __init__(
        self,
        model: GPTBigCodeForCausalLM,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        texts: Sequence[str],
        settings: AdaptSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model, self.settings = model.eval(), settings
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._texts, self._clock = texts, clock
        self._device = model.device
        self._first = prepare(model, settings)
        self._window = min(settings.window, model.config.n_positions)
        plan = TrainingSettings(
            optimizer=settings.optimizer,
            learning_rate=settings.learning_rate,
            embedding_learning_rate=settings.embedding_learning_rate,
            weight_decay=settings.weight_decay,
            steps=1,
        )
        self._optimizers = make_optimizers(model, plan)
        self._trained = [weight for weight in model.parameters() if weight.requires_grad]
        self._kept: dict[int, Tensor] = {}

    def run(self, observer: Callable[[Step], None] = lambda _: None) -> Step:
        """Train to the end of the plan; the last step.

        Raises:
            BigcodeError: the loss is no longer a number.
        """
        settings = self.settings
        began = self._clock()
        batch = max(1, settings.tokens_per_step // self._window)
        inputs, targets = self._draw(0)
        keeps = self._keeps(len(inputs))
        total = max(1, math.ceil(settings.epochs * len(inputs) / batch))
        step = tokens = 0
        seen = 0.0
        order: list[int] = []
        epoch = -1
        while True:
            if not order:
                epoch += 1
                if epoch and not keeps and not settings.cached:
                    inputs, targets = self._draw(epoch)
                order = list(range(len(inputs)))
                Random(f"order/{settings.seed}/{epoch}").shuffle(order)
            seconds = self._clock() - began
            rows, order = order[:batch], order[batch:]
            position = self._position(step, total, seconds)
            loss = self._step(inputs, targets, rows, position, keeps=keeps)
            step += 1
            tokens += len(rows) * self._window
            seen += len(rows) / len(inputs)
            seconds = self._clock() - began
            position = min(1.0, self._position(step, total, seconds))
            done = Step(
                step=step, position=position, loss=loss, tokens=tokens, seconds=seconds, epochs=seen
            )
            if not math.isfinite(loss):
                raise BigcodeError(f"training diverged: the loss is {loss}")
            observer(done)
            if position >= 1:
                return done

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of an epoch, ``(windows, window)``."""
        settings = self.settings
        return epoch_windows(
            self._texts,
            Objective(fim_rate=settings.fim_rate),
            self._tokenizer,
            self._vocabulary,
            self._window,
            Random(f"windows/{settings.seed}/{epoch}"),
        )

    def _keeps(self, windows: int) -> bool:
        """Whether what the frozen layers give is kept: it never changes, and memory holds it."""
        settings = self.settings
        if not settings.cached or settings.embeddings != "frozen" or self._first == 0:
            return False
        needed = 4 * windows * self._window * self.model.config.n_embd
        free = free_bytes(self._device)
        return free is None or needed < free // 2

    def _position(self, step: int, total: int, seconds: float) -> float:
        minutes = self.settings.minutes
        return max(step / total, 0.0 if minutes is None else seconds / (60 * minutes))

    def _step(
        self, inputs: Tensor, targets: Tensor, rows: list[int], position: float, *, keeps: bool
    ) -> float:
        """One step of the optimizers: the mean loss of its targets."""
        size = max(1, PASS_TOKENS[self._device.type] // self._window)
        count = int((targets[rows] != IGNORED).sum())
        total = torch.zeros((), device=self._device)
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            loss = self._loss(inputs, targets, some, keeps=keeps) / count
            torch.autograd.backward(loss)
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self._trained, CLIP)
        factor = rate_factor(position, self.settings.warm_up)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total.item()

    def _loss(self, inputs: Tensor, targets: Tensor, rows: list[int], *, keeps: bool) -> Tensor:
        """The summed loss of some windows, in nats."""
        model, transformer = self.model, self.model.transformer
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            hidden = self._lower(inputs, rows, keeps=keeps)
            run = Pass(attend=sdpa, visible=Visible(causal=True))
            for block in transformer.h[self._first :]:
                hidden = block(hidden, run)[0]
            wanted = targets[rows].to(self._device)
            counted = wanted != IGNORED
            logits = model.lm_head(transformer.ln_f(hidden[counted]))
        return functional.cross_entropy(logits.float(), wanted[counted], reduction="sum")

    def _lower(self, inputs: Tensor, rows: list[int], *, keeps: bool) -> Tensor:
        """What the first trained layer is given, ``(windows, window, n_embd)``."""
        if keeps and all(row in self._kept for row in rows):
            return torch.stack([self._kept[row] for row in rows])
        transformer = self.model.transformer
        with torch.set_grad_enabled(self.settings.embeddings == "both"):
            ids = inputs[rows].to(self._device)
            places = torch.arange(ids.shape[1], device=ids.device)
            hidden: Tensor = transformer.wte(ids) + transformer.wpe(places)
            run = Pass(attend=sdpa, visible=Visible(causal=True))
            for block in transformer.h[: self._first]:
                hidden = block(hidden, run)[0]
        if keeps:
            # Copied: a view would keep all of the pass alive.
            self._kept |= {row: own.clone() for row, own in zip(rows, hidden, strict=True)}
        return hidden
