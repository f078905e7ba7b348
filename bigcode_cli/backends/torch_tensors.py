"""PyTorch's tensors as the native engine takes them, in the memory that they are in."""

from collections.abc import Mapping

import torch
from torch import Tensor as TorchTensor

from bigcode_cli.kernels.native.tensors import Tensor

_NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int8: "I8",
    torch.uint8: "U8",
}


def borrowed(state: Mapping[str, TorchTensor]) -> dict[str, Tensor]:
    """CPU tensors of those types, each kept by what is given back."""
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    return {
        name: Tensor(_NAMES[tensor.dtype], tuple(tensor.shape), tensor.data_ptr(), tensor)
        for name, tensor in tensors.items()
    }
