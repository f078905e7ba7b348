"""The processes that train one model together, as ``torchrun`` starts them; most often just one.

Each has a part of every batch and all of the weights. Gradients are averaged by
``DistributedDataParallel``; what is decided by a clock or a signal is decided by the first process.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Processes:
    """Where this process stands among its like.

    Attributes:
        rank: its number.
        world: how many there are.
        control: a group over the CPU, for what is not a tensor on a GPU.
    """

    rank: int = 0
    world: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether it is this one that writes and speaks."""
        return self.rank == 0

    def agree(self, value: _Value) -> _Value:
        """The first process's value, in all of them."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.world > 1:
            dist.barrier(self.control)

    def add_up(self, value: Tensor) -> None:
        """Replace a tensor by the sum of all processes' ones."""
        if self.world > 1:
            dist.all_reduce(value)

    def share(self, model: nn.Module) -> nn.Module:
        """The model as it is to be called: gradients become the mean of all processes' ones."""
        return model if self.world == 1 else DistributedDataParallel(model, broadcast_buffers=False)


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Find the others, if ``torchrun`` started any (its variables are in the environment)."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        control = dist.new_group(backend="gloo")
        yield Processes(dist.get_rank(), dist.get_world_size(), control)
    finally:
        dist.destroy_process_group()
