"""Where training runs, and how tensors get there."""

import os

import torch
from torch import Tensor

from bigcode_cli.errors import UsageError


def local_device(name: str) -> torch.device:
    """Where this process trains: each of several has a GPU of its own.

    Raises:
        UsageError: ``torchrun`` started more processes here than there are GPUs.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if device.index is None:
        here, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if here >= count:
            raise UsageError(f"{here + 1} processes, and {count} GPUs", "lower --nproc-per-node")
        device = torch.device("cuda", here)
    torch.cuda.set_device(device)
    return device


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; the host does not wait for a GPU to be there."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
