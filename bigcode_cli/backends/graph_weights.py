"""A model's tensors as the decoding step takes them."""

import torch
from torch import Tensor, nn

from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm, Weights
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.layers import GPTBigCodeBlock
from bigcode_cli.model.quantize import QuantizedEmbedding, QuantizedLinear

_FLOAT = 16


def weights_of(model: GPTBigCodeForCausalLM, vocab: int) -> Weights:
    """The model's own tensors, none of them copied.

    Args:
        vocab: ids that may be sampled.
    """
    config, trunk = model.config, model.transformer
    geometry = Geometry(
        width=config.n_embd,
        layers=config.n_layer,
        heads=config.n_head,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        inner=config.inner_dim,
        vocab=vocab,
        positions=config.n_positions,
        activation=config.activation_function,
    )
    return Weights(
        geometry=geometry,
        tokens=_matrix(trunk.wte),
        positions=_tensor(trunk.wpe.weight),
        layers=tuple(_layer(block) for block in trunk.h if isinstance(block, GPTBigCodeBlock)),
        last=_norm(trunk.ln_f),
        head=_matrix(model.lm_head),
    )


def pass_bytes(geometry: Geometry, dtype: torch.dtype) -> int:
    """What a token takes of the memory during a pass, its place in a cache not counted in."""
    projected = geometry.width + 2 * geometry.kv_heads * geometry.head_dim
    return (geometry.inner + projected + 5 * geometry.width) * dtype.itemsize


def _layer(block: GPTBigCodeBlock) -> Layer:
    return Layer(
        before_attention=_norm(block.ln_1),
        projection=_matrix(block.attn.c_attn),
        output=_matrix(block.attn.c_proj),
        before_mlp=_norm(block.ln_2),
        up=_matrix(block.mlp.c_fc),
        down=_matrix(block.mlp.c_proj),
        attention_factor=block.attn.scaling.scale,
    )


def _matrix(module: nn.Module) -> Matrix:
    if isinstance(module, QuantizedLinear):
        bits = 4 if module.weight_scale.dim() == 2 else 8
        return Matrix(module.weight, bits, module.columns, module.weight_scale, module.bias)
    if isinstance(module, QuantizedEmbedding):
        return Matrix(module.weight, 8, module.weight.shape[1], module.weight_scale)
    assert isinstance(module, nn.Linear | nn.Embedding)
    bias = module.bias if isinstance(module, nn.Linear) else None
    weight = _tensor(module.weight)
    return Matrix(weight, _FLOAT, weight.shape[1], bias=None if bias is None else _tensor(bias))


def _norm(norm: nn.LayerNorm) -> Norm:
    return Norm(_tensor(norm.weight), _tensor(norm.bias), norm.eps)


def _tensor(parameter: Tensor) -> Tensor:
    """Without its gradient: a step is no part of any."""
    return parameter.detach()
