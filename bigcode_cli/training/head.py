"""Heads that classify, trained on a model of the family.

Under a frozen trunk the hidden states never change: they are computed once, if memory holds them.
"""

import math
import random
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bigcode_cli.backends.devices import choose_device, free_bytes
from bigcode_cli.backends.torch_classifier import CLASSES, Model
from bigcode_cli.engine.windows import batches
from bigcode_cli.errors import BigcodeError, BigcodeWarning, UsageError
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import ModelFolder, Reporter
from bigcode_cli.training.head_losses import label_weights, loss_mass, summed_loss
from bigcode_cli.training.head_samples import HeadOptions, Sample
from bigcode_cli.training.loop import rate_factor

WARM_UP = 0.1
WEIGHT_DECAY = 0.01
CLIP = 1.0
TRUNK_RATE = 0.1
"""The unfrozen layers' learning rate over the head's, which begins from nothing."""

PASS_TOKENS = {"cpu": 2**12, "cuda": 2**15, "mps": 2**13}
"""Tokens that go through the trunk at once."""


def load_base(base: ModelFolder, labels: Sequence[str], options: HeadOptions) -> Model:
    """The base under a new head, in float32, with what is not to be trained frozen.

    Raises:
        ModelError: the base cannot be loaded.
        UsageError: it has fewer layers than are to be trained, or the device is not here.
    """
    if base.base is not None:
        raise UsageError(
            f"{base.name} holds only what differs from another model", "name that one with --model"
        )
    config = GPTBigCodeConfig.from_file(base.path)
    if options.unfreeze > config.n_layer:
        raise UsageError(f"--unfreeze {options.unfreeze}: {base.name} has {config.n_layer} layers")
    kind = "multi_label_classification" if options.multi_label else "single_label_classification"
    config = config.with_changes(
        id2label=dict(enumerate(labels)),
        problem_type=kind if options.kind == "sequence" else None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BigcodeWarning)  # that there is no head yet
        model = load_model(
            CLASSES[options.kind],
            base.path,
            device=choose_device(options.device),
            dtype=torch.float32,
            config=config,
        )
    model.draw(head_of(model))
    first = model.config.n_layer - options.unfreeze
    trained = [f"transformer.h.{at}." for at in range(first, model.config.n_layer)]
    for name, parameter in model.named_parameters():
        in_trunk = name.startswith("transformer.")
        is_late = name.startswith(("transformer.ln_f.", *trained)) and options.unfreeze > 0
        parameter.requires_grad_(not in_trunk or is_late or options.unfreeze == -1)
    return model


def head_of(model: Model) -> nn.Module:
    """The layer that makes logits of hidden states."""
    return model.get_submodule("score" if hasattr(model, "score") else "classifier")


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
        self._cache: list[Tensor] | None = None
        targets = torch.cat([sample.targets for sample in samples])
        labels = model.config.num_labels
        self._weights = label_weights(targets, labels) if options.balanced else torch.ones(labels)
        trunk = [p for p in model.transformer.parameters() if p.requires_grad]
        rate = options.learning_rate
        groups = [
            {"params": list(self._head.parameters()), "peak": rate},
            {"params": trunk, "peak": rate * TRUNK_RATE},
        ]
        self._optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], rate, weight_decay=WEIGHT_DECAY
        )

    def run(self) -> float:
        """Train to the end; the mean loss of the last epoch, in nats a target.

        Raises:
            BigcodeError: the loss is no longer a number.
        """
        options, count = self._options, len(self._samples)
        self._model.train()
        if not options.unfreeze:
            self._model.transformer.eval()
            self._fill_cache()
        order, rng = list(range(count)), random.Random(options.seed)
        steps = options.rounds * math.ceil(count / options.batch_size)
        done, loss = 0, math.nan
        for _ in range(options.rounds):
            rng.shuffle(order)
            losses = torch.zeros((), device=self._device)
            total = 0.0
            for at in range(0, count, options.batch_size):
                found, mass = self._step(order[at : at + options.batch_size], done / steps)
                losses += found
                total += mass
                done += 1
                self._report.progress("training the head", done, steps, "steps")
            loss = losses.item() / total
            if not math.isfinite(loss):
                raise BigcodeError(f"training diverged: the loss is {loss}", "lower the rate")
        self._model.eval()
        return loss

    def _step(self, batch: Sequence[int], position: float) -> tuple[Tensor, float]:
        """One step of the optimizer: the batch's summed loss, and its mass."""
        targets = torch.cat([self._samples[at].targets for at in batch])
        mass = loss_mass(targets, self._weights)
        total = torch.zeros((), device=self._device)
        weights = self._weights.to(self._device)
        for some in self._passes(batch):
            states = self._states(some)
            wanted = torch.cat([self._samples[at].targets for at in some]).to(self._device)
            if self._options.kind == "token":
                states = self._model.get_submodule("dropout")(states)
            loss = summed_loss(self._head(states), wanted, weights)
            torch.autograd.backward(loss / mass)
            total += loss.detach()
        trained = [p for group in self._optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * rate_factor(position, WARM_UP)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total, mass

    def _passes(self, batch: Sequence[int]) -> Iterator[list[int]]:
        """The samples of a batch in groups that go through the trunk together."""
        if self._cache is not None:
            yield list(batch)
            return
        lengths = [len(self._samples[at].ids) for at in batch]
        for places in batches(lengths, PASS_TOKENS[self._device.type]):
            yield [batch[place] for place in places]

    def _states(self, some: Sequence[int]) -> Tensor:
        """The states that some samples are about: float32 ``(states, n_embd)``."""
        if self._cache is not None:
            return torch.cat([self._cache[at] for at in some])
        with torch.set_grad_enabled(self._options.unfreeze != 0):
            return torch.cat(self._run([self._samples[at] for at in some]))

    def _run(self, samples: Sequence[Sample]) -> list[Tensor]:
        """The trunk's last hidden states of each; what pads a row follows all that is read."""
        longest = max(len(sample.ids) for sample in samples)
        ids = torch.zeros(len(samples), longest, dtype=torch.int64)
        for row, sample in enumerate(samples):
            ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        ids = ids.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=ids.is_cuda):
            hidden = self._model.transformer(ids, use_cache=False).last_hidden_state
        return [
            hidden[row, sample.first : len(sample.ids)].float()
            for row, sample in enumerate(samples)
        ]

    def _fill_cache(self) -> None:
        """Compute the states of all samples, if half of the free memory holds them."""
        count = sum(len(sample.ids) - sample.first for sample in self._samples)
        free = free_bytes(self._device)
        if free is not None and 4 * count * self._model.config.n_embd > free // 2:
            self._report.note("the hidden states do not fit into memory: each epoch makes them")
            return
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            for some in self._passes(range(len(self._samples))):
                states = self._run([self._samples[at] for at in some])
                # Copied: a view would keep the whole pass alive.
                found |= {at: own.clone() for at, own in zip(some, states, strict=True)}
                self._report.progress("reading texts", len(found), len(self._samples), "windows")
        self._cache = [found[at] for at in range(len(self._samples))]
