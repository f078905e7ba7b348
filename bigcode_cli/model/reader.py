"""Stored tensors into a model that has no memory yet: read, checked, converted one at a time."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bigcode_cli.errors import ModelCorruptError, ModelIncompleteError, ModelUnsupportedError
from bigcode_cli.model.low_rank import merged
from bigcode_cli.model.names import LM_HEAD, WTE, is_quantized
from bigcode_cli.model.quantize import (
    dequantize_int8,
    install,
    quantize_int4,
    quantize_int8,
)
from bigcode_cli.model.stored import Stored
from bigcode_cli.model.tensor_index import SCALE_SUFFIX, matrix_bits
from bigcode_cli.records import Quantize


@dataclass(frozen=True, slots=True)
class Reader:
    """Puts stored tensors into a model that has no memory yet.

    Attributes:
        root: the module under which names are those of the checkpoint.
        is_tied: it has an ``lm_head`` whose weight is that of ``wte``.
        dtype: of the activations, and of all weights that are not quantised.
    """

    root: nn.Module
    stored: Mapping[str, Stored]
    is_tied: bool
    device: torch.device
    dtype: torch.dtype
    quantize: Quantize

    def load(self, name: str) -> None:
        """Read, check, convert and put in place one tensor, a tied ``lm_head`` with ``wte``.

        Raises:
            ModelError: as ``checkpoint.load_model``.
        """
        names = [name]
        if name == WTE and self.is_tied:
            names.append(LM_HEAD)
        raw = self.stored[name].read()
        scale = self._scale(name) if self.stored[name].quantized else None
        if self.stored[name].factors is not None:
            raw, scale = self._changed(name, raw, scale), None
        if self.quantize == "none" or not is_quantized(name):
            parameter = nn.Parameter(self._dense(name, raw, scale, self.dtype))
            for place in names:
                self._put(place, parameter)
            return
        if matrix_bits(name, self.quantize) == 4:
            codes, scale = quantize_int4(self._dense(name, raw, scale, torch.float32))
        elif scale is None:
            codes, scale = quantize_int8(self._dense(name, raw, None, torch.float32))
        else:
            codes = raw.to(self.device)
        for place in names:
            install(self.root, place, codes, scale, self.dtype)

    def make(self, name: str) -> None:
        """Give a parameter memory, whatever numbers are in it."""
        parameter = self.root.get_parameter(name)
        empty = torch.empty(parameter.shape, dtype=self.dtype, device=self.device)
        self._put(name, nn.Parameter(empty))

    def _put(self, name: str, parameter: nn.Parameter) -> None:
        path, _, leaf = name.rpartition(".")
        setattr(self.root.get_submodule(path), leaf, parameter)

    def _changed(self, name: str, raw: Tensor, scale: Tensor | None) -> Tensor:
        """A matrix with the product of its factors added: float32 on the device."""
        weight = self._dense(name, raw, scale, torch.float32)
        factors = self.stored[name].factors
        assert factors is not None
        up, down = (self._dense(name, half.read(), None, torch.float32) for half in factors)
        return merged(weight, up, down)

    def _scale(self, name: str) -> Tensor:
        """The float32 factors ``(rows,)`` of an int8 tensor."""
        shape = self.stored[name].shape[:1]
        factors = self.stored.get(name + SCALE_SUFFIX)
        if factors is None:
            raise ModelIncompleteError(f"{name + SCALE_SUFFIX} is missing from the weights")
        if factors.shape != shape:
            raise ModelCorruptError(f"{name + SCALE_SUFFIX} has shape {factors.shape}, not {shape}")
        return self._dense(name + SCALE_SUFFIX, factors.read(), None, torch.float32)

    def _dense(self, name: str, raw: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The tensor in ``dtype`` on the device, all of it finite."""
        if scale is not None:
            numbers = dequantize_int8(raw.to(self.device), scale, dtype)
        elif raw.is_floating_point():
            numbers = raw.to(self.device, dtype)
        else:
            raise ModelUnsupportedError(f"{name} is of type {raw.dtype}, which no weights have")
        if not is_finite(numbers):
            if scale is None and not is_finite(raw):
                raise ModelCorruptError(f"{name} holds NaN or infinity", "download the model again")
            raise ModelUnsupportedError(
                f"{name} holds numbers beyond {str(dtype).removeprefix('torch.')}",
                "try --dtype bfloat16 or float32",
            )
        return numbers


def is_finite(numbers: Tensor) -> bool:
    """Whether no number is NaN or infinite, in one pass and without a copy."""
    if numbers.numel() == 0:
        return True
    low, high = torch.aminmax(numbers)
    return bool(torch.isfinite(low) & torch.isfinite(high))
