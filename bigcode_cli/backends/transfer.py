"""Between host and device without waiting: through pinned memory, in the order of the stream."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from bigcode_cli.engine.protocol import Pending

ResultT = TypeVar("ResultT")
PartT = TypeVar("PartT")


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device.

    From memory that is not pinned a copy would wait for all that was launched before it.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Arriving(Generic[ResultT]):
    """What the device has yet to tell, behind ``engine.protocol.Pending``.

    Args:
        told: on the device, ``(columns, …)``.
        read: what it means, as lists.
    """

    def __init__(self, told: Tensor, read: Callable[[list[list[float]]], ResultT]) -> None:
        self._read = read
        self._event: torch.cuda.Event | None = None
        self._told = told
        if told.is_cuda:
            self._told = torch.empty(told.shape, dtype=told.dtype, pin_memory=True)
            self._told.copy_(told, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(told.device))

    def is_done(self) -> bool:
        """See ``Pending``."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> ResultT:
        """See ``Pending``."""
        if self._event is not None:
            self._event.synchronize()
        return self._read(self._told.tolist())


class Joined(Generic[PartT]):
    """Two lists that are one, behind ``engine.protocol.Pending``."""

    def __init__(self, first: Pending[list[PartT]], second: Pending[list[PartT]]) -> None:
        self._parts = first, second

    def is_done(self) -> bool:
        """See ``Pending``."""
        return all(part.is_done() for part in self._parts)

    def wait(self) -> list[PartT]:
        """See ``Pending``."""
        return [one for part in self._parts for one in part.wait()]
