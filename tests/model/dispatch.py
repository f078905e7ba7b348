"""What PyTorch is asked to do, counted by the names of its operators."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

READING = frozenset(
    {
        "aten::_local_scalar_dense",
        "aten::equal",
        "aten::is_nonzero",
        "aten::item",
        "aten::masked_select",
        "aten::nonzero",
        "aten::unique_dim",
        "aten::_unique2",
    }
)
"""Operators that wait for the device, since they read numbers or sizes back from it."""


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count and go on."""
        name = func._schema.name  # type: ignore[attr-defined]
        self.calls[name] += 1
        if name.startswith("aten::index") and any(map(_is_boolean, args[1:2])):
            self.calls["aten::nonzero"] += 1  # Called inside, where no mode sees it.
        return func(*args, **(kwargs or {}))

    @property
    def reading(self) -> dict[str, int]:
        """Those that wait for the device."""
        return {name: count for name, count in self.calls.items() if name in READING}


def _is_boolean(indices: object) -> bool:
    """Whether there is a mask among the indices."""
    given = indices if isinstance(indices, list | tuple) else [indices]
    return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in given)
