"""What is captured once as a CUDA graph and then replayed, and how the host hears of its result."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


class Pool:
    """Memory that graphs share, each of which is done with it when it ends."""

    def __init__(self) -> None:
        self.handle = torch.cuda.graph_pool_handle()


def captured(
    work: Callable[[], None], device: torch.device, *, pool: Pool | None = None
) -> torch.cuda.CUDAGraph:
    """A graph of what ``work`` launches; it is also carried out, once.

    Args:
        pool: where it has its memory; by default in one of its own.

    Raises:
        RuntimeError, OSError …: whatever compiling or capturing came upon.
    """
    with torch.cuda.device(device):
        # Once beforehand, on a stream of its own: what is compiled or allocated lazily, is.
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        handle = None if pool is None else pool.handle
        with torch.cuda.graph(graph, pool=handle, capture_error_mode="thread_local"):
            work()
    return graph


@dataclass(frozen=True, slots=True)
class Flight:
    """What was chosen on the device, on its way to the host.

    Attributes:
        told: float64 ``(2, rows)``, see ``Buffers``; there when ``arrived`` has happened.
    """

    told: Tensor
    arrived: torch.cuda.Event | None

    def wait(self) -> list[list[float]]:
        """Ids and highest logits."""
        if self.arrived is not None:
            self.arrived.synchronize()
        told: list[list[float]] = self.told.tolist()
        return told


class Landing:
    """Where a flight arrives: of those that are sent here, one can be under way at a time."""

    def __init__(self, rows: int, device: torch.device) -> None:
        is_cuda = device.type == "cuda"
        with torch.inference_mode(False):
            self._told = torch.zeros(2, rows, dtype=torch.float64, pin_memory=is_cuda)
        self._arrived: torch.cuda.Event | None = None
        if is_cuda:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def send(self, told: Tensor) -> Flight:
        """Send ``Buffers.told`` as it will be behind all that was launched so far."""
        self._told.copy_(told, non_blocking=True)
        if self._arrived is not None:
            self._arrived.record()
        return Flight(self._told, self._arrived)
