"""Products with a model's matrices, by cuBLAS on a GPU: with what follows in their epilogue."""

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.kernels.weights import Matrix
from bigcode_cli.model.layers import ACTIVATION_FUNCTIONS
from bigcode_cli.model.quantize import dequantize_int4, dequantize_int8

_BY_TANH = {"gelu_new", "gelu_fast", "gelu_pytorch_tanh"}
"""Forms of one function; they differ in their rounding alone."""


def weight_of(matrix: Matrix, dtype: torch.dtype) -> Tensor:
    """``(out, in)``: quantised weights are unpacked whole."""
    if matrix.scale is None:
        return matrix.weight
    if matrix.bits == 8:
        return dequantize_int8(matrix.weight, matrix.scale, dtype)
    return dequantize_int4(matrix.weight, matrix.scale, matrix.columns, dtype)


def product(matrix: Matrix, inputs: Tensor) -> Tensor:
    """``(rows, in)`` to ``(rows, out)``, the bias added."""
    return functional.linear(inputs, weight_of(matrix, inputs.dtype), matrix.bias)


def activated(matrix: Matrix, inputs: Tensor, activation: str, out: Tensor) -> Tensor:
    """``out``: ``activation(product(matrix, inputs))``.

    In half precision on a GPU the activation is in the product's epilogue, where cuBLAS knows it:
    ReLU, and the GELU by tanh. What it computes in float32 is then rounded once. Its tanh need not
    be exact to float32, and on a CPU the same call is the GELU by the error function: neither is
    left to it.

    Args:
        activation: one of ``model.layers.ACTIVATION_FUNCTIONS``.
        out: ``(rows, out)``, contiguous.
    """
    is_known = activation in _BY_TANH or activation == "relu"
    is_half = inputs.dtype in {torch.float16, torch.bfloat16}
    if inputs.is_cuda and is_half and is_known and matrix.bias is not None:
        weight = weight_of(matrix, inputs.dtype)
        return torch._addmm_activation(
            matrix.bias, inputs, weight.T, use_gelu=activation in _BY_TANH, out=out
        )
    return out.copy_(ACTIVATION_FUNCTIONS[activation](product(matrix, inputs)))


def float_product(matrix: Matrix, inputs: Tensor, out: Tensor) -> None:
    """``out``: float32 ``(rows, some)`` by the first rows of a matrix without a bias.

    On a GPU nothing is rounded to the inputs' dtype on the way.
    """
    weight = weight_of(matrix, inputs.dtype)[: out.shape[1]]
    if inputs.dtype == torch.float32:
        torch.mm(inputs, weight.T, out=out)
    elif inputs.is_cuda:
        torch.mm(inputs, weight.T, out_dtype=torch.float32, out=out)
    else:
        torch.mm(inputs.float(), weight.float().T, out=out)
