"""Heads that classify, trained on a model of the family.

Under a frozen trunk the hidden states never change: they are computed once, if memory holds them.
On a GPU nothing in a step waits for it; the loss is read once an epoch.
"""

import math
import random
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from bigcode_cli.backends.devices import free_bytes
from bigcode_cli.backends.plans import AttentionPlans
from bigcode_cli.backends.torch_classifier import Model
from bigcode_cli.engine.windows import batches
from bigcode_cli.errors import BigcodeError, ModelTooLargeError
from bigcode_cli.records import Reporter
from bigcode_cli.training.devices import moved
from bigcode_cli.training.heads.losses import label_weights, loss_mass, summed_loss
from bigcode_cli.training.heads.samples import HeadOptions, Sample, Tune
from bigcode_cli.training.heads.trunk import head_of
from bigcode_cli.training.schedule import rate_factor

WARM_UP = 0.1
WEIGHT_DECAY = 0.01
CLIP = 1.0
TRUNK_RATE: dict[Tune, float] = {"head": 0.1, "norms": 0.3, "low-rank": 0.3}
"""The learning rate of what is trained of the trunk over the head's, which begins from nothing."""

PASS_TOKENS = {"cpu": 2**12, "cuda": 2**15, "mps": 2**13}
"""Tokens that go through the trunk at once, at most."""

GPU_STEP = 64
"""Lengths of rows on a GPU are multiples of it."""

NEIGHBOURS = 16
"""Batches whose windows are sorted by length, so that those of one batch are of similar length."""


class HeadTrainer:
    """One head on its way.

    Args:
        model: as ``load_base`` gives it.
        samples: what is learned from.
    """

    def __init__(
        self, model: Model, samples: Sequence[Sample], options: HeadOptions, report: Reporter
    ) -> None:
        self._model, self._samples = model, samples
        self._options, self._report = options, report
        self._device = model.device
        self._head = head_of(model)
        self._plans = AttentionPlans()
        self._states: Tensor | None = None  # of all samples, one behind the other
        self._ends = [0]
        for sample in samples:
            self._ends.append(self._ends[-1] + len(sample.targets))
        self._pass_tokens = self._most_tokens()
        labels = model.config.num_labels
        self._weights = torch.ones(labels)
        if options.balanced:
            self._weights = label_weights(torch.cat([at.targets for at in samples]), labels)
        self._masses = [loss_mass(sample.targets, self._weights) for sample in samples]
        self._weights = self._weights.to(self._device)
        self._optimizer = self._make_optimizer()

    def run(self) -> float:
        """Train to the end; the mean loss of the last epoch, in nats a target.

        Raises:
            BigcodeError: the loss is no longer a number.
            ModelTooLargeError: the device has no memory for a window.
        """
        self._model.train()
        if self._options.is_frozen:
            self._model.transformer.eval()
        try:
            if self._options.is_frozen:
                self._keep_states()
            loss = self._train()
        except torch.OutOfMemoryError as error:
            raise ModelTooLargeError(
                f"{self._device} has no memory left to train", "use a smaller --context"
            ) from error
        self._model.eval()
        return loss

    def _train(self) -> float:
        """All epochs, or as many as the time allows."""
        rng, rounds = random.Random(self._options.seed), self._options.rounds
        steps = rounds * math.ceil(len(self._samples) / self._options.batch_size)
        done, loss, started = 0, math.nan, time.monotonic()
        for epoch in range(1, rounds + 1):
            losses, total = torch.zeros((), device=self._device), 0.0
            for batch in self._shuffled(rng):
                position = max(done / steps, self._spent(started))
                if position >= 1:
                    break
                losses += self._step(batch, position)
                total += sum(self._masses[at] for at in batch)
                done += 1
                self._report.progress("training the head", done, steps, "steps")
            if not total:
                break
            loss = losses.item() / total
            if not math.isfinite(loss):
                raise BigcodeError(
                    f"training diverged: the loss is {loss}", "use a smaller --learning-rate"
                )
            if not self._options.is_frozen:
                self._report.note(f"epoch {epoch} of {rounds}: loss {loss:.4f}")
        if done < steps:
            self._report.note(f"the time was up after {done:,} of {steps:,} steps")
        return loss

    def _spent(self, started: float) -> float:
        """The share of the time that is over."""
        if self._options.minutes is None:
            return 0.0
        return (time.monotonic() - started) / 60 / self._options.minutes

    def _shuffled(self, rng: random.Random) -> list[list[int]]:
        """All samples in batches, in another order each time.

        Where they go through the trunk, those of a batch are of similar length (as
        ``group_by_length`` of transformers' Trainer), so that little is padding.
        """
        size = self._options.batch_size
        order = rng.sample(range(len(self._samples)), len(self._samples))
        if not self._options.is_frozen:
            near = [
                order[at : at + size * NEIGHBOURS] for at in range(0, len(order), size * NEIGHBOURS)
            ]
            for some in near:
                some.sort(key=lambda place: len(self._samples[place].ids))
            order = [place for some in near for place in some]
        cut = [order[at : at + size] for at in range(0, len(order), size)]
        rng.shuffle(cut)
        return cut

    def _step(self, batch: Sequence[int], position: float) -> Tensor:
        """One step of the optimizer: the batch's summed loss."""
        mass = sum(self._masses[at] for at in batch)
        total = torch.zeros((), device=self._device)
        for some in self._passes(batch):
            states = self._states_of(some)
            wanted = moved(torch.cat([self._samples[at].targets for at in some]), self._device)
            if self._options.kind == "token":
                states = self._model.get_submodule("dropout")(states)
            loss = summed_loss(self._head(states), wanted, self._weights)
            torch.autograd.backward(loss / mass)
            total += loss.detach()
        trained = [p for group in self._optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * rate_factor(position, WARM_UP)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def _passes(self, batch: Sequence[int]) -> list[list[int]]:
        """The samples of a batch in groups that go through the trunk together."""
        if self._states is not None:
            return [list(batch)]
        lengths = [self._length(at) for at in batch]
        return [[batch[place] for place in some] for some in batches(lengths, self._pass_tokens)]

    def _length(self, at: int) -> int:
        """Tokens of a sample that go through the trunk."""
        return len(self._samples[at].ids) * self._options.readings

    def _states_of(self, some: Sequence[int]) -> Tensor:
        """The states that some samples are about: float32 ``(states, n_embd)``."""
        if self._states is not None:
            return self._states.index_select(0, moved(self._places(some), self._device))
        with torch.set_grad_enabled(not self._options.is_frozen):
            return self._run([self._samples[at] for at in some])

    def _places(self, some: Sequence[int]) -> Tensor:
        """Where the states of some samples stand among those of all."""
        return torch.cat([torch.arange(self._ends[at], self._ends[at + 1]) for at in some])

    def _run(self, samples: Sequence[Sample]) -> Tensor:
        """The trunk's last hidden states that samples are about, one sample behind the other.

        What pads a row follows all that is read. Where a window is read twice, its states are
        those of the second time.
        """
        before = self._options.readings - 1
        longest = self._padded(max(len(sample.ids) for sample in samples) * (before + 1))
        ids = torch.zeros(len(samples), longest, dtype=torch.int64)
        places = []
        for row, sample in enumerate(samples):
            tokens = sample.ids * (before + 1)
            ids[row, : len(tokens)] = torch.tensor(tokens)
            start = row * longest + before * len(sample.ids)
            places.append(torch.arange(start + sample.first, start + len(sample.ids)))
        ids = moved(ids, self._device)
        half = torch.autocast(self._device.type, torch.bfloat16, enabled=ids.is_cuda)
        with half, self._plans.using((len(samples), longest)):
            hidden: Tensor = self._model.transformer(ids, use_cache=False).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, moved(torch.cat(places), self._device)).float()

    def _padded(self, longest: int) -> int:
        """How long the rows of a pass are: of few lengths on a GPU, where a new one costs."""
        if self._device.type != "cuda":
            return longest
        return min(math.ceil(longest / GPU_STEP) * GPU_STEP, self._model.config.n_positions)

    def _keep_states(self) -> None:
        """Compute the states of all samples, if half of the free memory holds them."""
        shape = self._ends[-1], self._model.config.n_embd
        free = free_bytes(self._device)
        if free is not None and 4 * math.prod(shape) > free // 2:
            self._report.note("the hidden states do not fit into memory: each epoch makes them")
            return
        states, done = torch.empty(shape, device=self._device), 0
        with torch.no_grad():
            for some in self._passes(range(len(self._samples))):
                found = self._run([self._samples[at] for at in some])
                states.index_copy_(0, moved(self._places(some), self._device), found)
                done += len(some)
                self._report.progress("reading texts", done, len(self._samples), "windows")
        self._states = states

    def _most_tokens(self) -> int:
        """Tokens that go through the trunk at once."""
        most, free = PASS_TOKENS[self._device.type], free_bytes(self._device)
        if free is None or self._options.is_frozen:
            return most
        config = self._model.config
        # What the backward pass keeps of a token, all of it in float32.
        kept = 4 * config.n_layer * (8 * config.n_embd + 2 * config.inner_dim)
        return max(1, min(most, free // 2 // kept))

    def _make_optimizer(self) -> torch.optim.AdamW:
        """AdamW; norms and biases are not decayed."""
        rate = self._options.learning_rate
        trunk = [p for p in self._model.transformer.parameters() if p.requires_grad]
        low = rate * TRUNK_RATE[self._options.tune]
        groups = [
            (rate, WEIGHT_DECAY, list(self._head.parameters())),
            (low, WEIGHT_DECAY, [p for p in trunk if p.ndim > 1]),
            (low, 0.0, [p for p in trunk if p.ndim == 1]),
        ]
        return torch.optim.AdamW(
            [
                {"params": params, "peak": peak, "weight_decay": decay}
                for peak, decay, params in groups
                if params
            ],
            rate,
            fused=True,
        )
