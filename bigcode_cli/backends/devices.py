"""Which device and dtype a model runs on, and how much memory is free there."""

import torch

from bigcode_cli.backends.memory import free_host_bytes
from bigcode_cli.errors import UsageError
from bigcode_cli.records import Dtype

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def choose_device(name: str) -> torch.device:
    """``auto`` takes the first GPU, else Apple's, else the CPU.

    Raises:
        UsageError: the device asked for is not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise UsageError(
                f"there is no {name} here: {count} CUDA devices", "use --device auto or cpu"
            )
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("there is no mps device here", "use --device auto or cpu")
    return device


def choose_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on GPUs that have it in hardware, else float16; float32 on CPUs."""
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; ``None`` where it cannot be told.

    What PyTorch holds of a GPU's for tensors that are gone is free to the next ones.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held
    return free_host_bytes()
