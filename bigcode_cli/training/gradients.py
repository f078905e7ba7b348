"""The gradients of one step: windows go through the model in passes, a share in each process."""

from contextlib import AbstractContextManager, nullcontext
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from bigcode_cli.errors import UsageError
from bigcode_cli.training.borders import sample_borders
from bigcode_cli.training.circles import circle_loss, make_circles
from bigcode_cli.training.devices import moved
from bigcode_cli.training.objective import IGNORED
from bigcode_cli.training.processes import Processes
from bigcode_cli.training.recipe import TrainingSettings


def summed_loss(model: nn.Module, inputs: Tensor, targets: Tensor, eos_id: int | None) -> Tensor:
    """Nats of all targets that are not −100.

    Args:
        inputs: ``(windows, n_positions)``, as ``targets``.
        eos_id: parts samples from each other; ``None`` lets them see what stands before them.
    """
    mask, positions = (None, None) if eos_id is None else sample_borders(inputs, eos_id)
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.is_cuda):
        logits = model(inputs, attention_mask=mask, position_ids=positions, use_cache=False).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )


class Gradients:
    """Adds up the gradients of steps in the model's weights.

    Args:
        windows: of a step, in all processes together.
        eos_id: ends samples.
        pad_id: is no target.
        kinds: of tokens, see ``circles.token_kinds``; only needed where the settings have circles.
        compiled: whether to use ``torch.compile``.

    Raises:
        UsageError: the processes cannot share the windows evenly.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        processes: Processes,
        *,
        windows: int,
        eos_id: int,
        pad_id: int,
        kinds: Tensor,
        seed: int,
        compiled: bool,
    ) -> None:
        if windows % processes.world:
            raise UsageError(
                f"{processes.world} processes cannot share {windows} windows a step",
                "choose tokens_per_step so that they can",
            )
        self._model = processes.share(model)
        self._settings, self._processes = settings, processes
        self._eos_id = eos_id if settings.borders else None
        self._pad_id, self._kinds, self._seed = pad_id, kinds, seed
        self._share = windows // processes.world
        self._device = next(model.parameters()).device
        self._loss, self._circle_loss = summed_loss, circle_loss
        if compiled:
            self._loss = torch.compile(summed_loss, dynamic=False)
            self._circle_loss = torch.compile(circle_loss, dynamic=False)

    def add(self, windows: Tensor, step: int) -> Tensor:
        """Add one step's gradients; the process's share of the mean loss in nats a target.

        Args:
            windows: int64 ``(windows, n_positions + 1)`` on the CPU, the same in all processes.
            step: its number, which random draws depend on.
        """
        if self._settings.circles:
            self._add_circles(windows, step)
        inputs, targets, count = self._to_device(windows)
        size = self._settings.windows_per_pass
        passes = list(zip(torch.split(inputs, size), torch.split(targets, size), strict=True))
        total = torch.zeros((), device=self._device)
        for number, (some, wanted) in enumerate(passes, 1):
            with self._keeping(is_last=number == len(passes)):
                loss = self._loss(self._model, some, wanted, self._eos_id) / count
                # Gradients come out as the mean of all processes' ones, and their sum is wanted.
                torch.autograd.backward(loss * self._processes.world)
            total += loss.detach()
        return total

    def _add_circles(self, windows: Tensor, step: int) -> None:
        """Add the gradients of some windows that end in copies of one stretch."""
        settings, world = self._settings, self._processes.world
        random = Random(f"circles/{self._seed}/{step}")
        circles = make_circles(windows, self._kinds, settings.circles * world, random)
        if circles is None:
            return
        first = self._processes.rank * settings.circles
        mine = circles.part(slice(first, first + settings.circles), self._device)
        with self._keeping(is_last=False):
            loss = self._circle_loss(self._model, mine) / circles.count
            torch.autograd.backward(loss * settings.circle_weight * world)

    def _keeping(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Keep gradients to oneself until the last pass of a step."""
        if is_last or not isinstance(self._model, DistributedDataParallel):
            return nullcontext()
        kept: AbstractContextManager[None] = self._model.no_sync()
        return kept

    def _to_device(self, windows: Tensor) -> tuple[Tensor, Tensor, int]:
        """The process's inputs and targets ``(windows, n_positions)``; how many count in all."""
        targets = windows[:, 1:].clone()
        targets[targets == self._pad_id] = IGNORED
        count = int((targets != IGNORED).sum())
        first = self._processes.rank * self._share
        mine = slice(first, first + self._share)
        inputs, targets = windows[mine, :-1].contiguous(), targets[mine]
        return moved(inputs, self._device), moved(targets, self._device), count
