"""Weights that PyTorch holds, before the native engine: of models that were drawn, not read."""

import torch
from torch import Tensor as TorchTensor

from bigcode_cli.backends.loading import Loaded
from bigcode_cli.kernels.native.model import Engine
from bigcode_cli.kernels.native.tensors import Tensor
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM

_DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int8: "I8",
    torch.uint8: "U8",
}


def engine_of(loaded: Loaded[GPTBigCodeForCausalLM], vocab_size: int) -> Engine:
    """The engine on a model's own tensors, with as many threads as PyTorch uses.

    Args:
        vocab_size: ids that may be sampled.

    Raises:
        ModelUnsupportedError: the engine cannot run it.
    """
    return Engine(
        loaded.model.config,
        tensors_of(loaded.model),
        vocab=vocab_size,
        threads=torch.get_num_threads(),
        quantises=loaded.weights in {"int8", "int4"},
    )


def tensors_of(model: GPTBigCodeForCausalLM) -> dict[str, Tensor]:
    """A model's parameters and quantised weights, none of them copied."""
    return {name: _tensor(tensor) for name, tensor in model.state_dict().items()}


def _tensor(tensor: TorchTensor) -> Tensor:
    lying = tensor.detach().contiguous()
    return Tensor(_DTYPES[lying.dtype], tuple(lying.shape), lying.data_ptr(), lying)
