"""The slow twin of the whole engine: a model's pass in float64, codes of activations as whole
numbers where the engine uses some."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm, Weights
from bigcode_cli.model.layers import ACTIVATION_FUNCTIONS
from bigcode_cli.model.quantize import dequantize_int4

CHUNK = 64


def exact_weight(matrix: Matrix) -> Tensor:
    """``(rows, columns)`` float64, as stored."""
    if matrix.scale is None:
        return matrix.weight.double()
    if matrix.bits == 8:
        return matrix.weight.double() * matrix.scale.double()[:, None]
    return dequantize_int4(matrix.weight, matrix.scale.double(), matrix.columns, torch.float64)


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """``(tokens, columns)`` to codes ``(tokens, chunks, 64)``, factors ``(tokens, chunks, 1)``.

    In float32 but for the product, which is rounded once: of two codes as near, the even one.
    """
    chunks = functional.pad(x.float(), (0, -x.shape[1] % CHUNK)).view(len(x), -1, CHUNK)
    factors = chunks.abs().amax(-1, keepdim=True) / 127
    inverse = torch.where(factors >= torch.finfo(torch.float32).tiny, 1 / factors, 0)
    return (chunks.double() * inverse).round(), factors.double()


def multiplied(matrix: Matrix, x: Tensor, *, quantises: bool) -> Tensor:
    """``(tokens, rows)`` float64: quantised activations where the engine takes such."""
    weight = exact_weight(matrix)
    if matrix.bits == 4 or (quantises and matrix.bits == 8):
        codes, factors = quantised(x)
        x = (codes * factors).flatten(1)[:, : matrix.columns]
    y = x.double() @ weight.T
    return y if matrix.bias is None else y + matrix.bias.double()


def normalised(norm: Norm, x: Tensor) -> Tensor:
    weight, bias = norm.weight.double(), norm.bias.double()
    return functional.layer_norm(x, (x.shape[1],), weight, bias, norm.epsilon)


def heads_of(shape: Geometry, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, ``(heads, tokens, head_dim)`` each."""
    heads, dim = shape.heads, shape.head_dim
    if shape.kv_heads == 1:
        query, key, value = torch.split(projected, [shape.width, dim, dim], dim=1)
        query = query.view(-1, heads, dim).transpose(0, 1)
        return query, key.expand(heads, -1, -1), value.expand(heads, -1, -1)
    by_head = projected.view(-1, heads, 3, dim)
    query, key, value = by_head.permute(2, 1, 0, 3)
    return query, key, value


def attended(shape: Geometry, layer: Layer, projected: Tensor) -> Tensor:
    query, key, value = heads_of(shape, projected)
    scores = query @ key.transpose(1, 2) * layer.attention_factor
    # What a token does not see counts as nothing, even where it is no number.
    mixed = []
    for place in range(len(projected)):
        weights = scores[:, place : place + 1, : place + 1].softmax(-1)
        mixed.append(weights @ value[:, : place + 1])
    return torch.cat(mixed, dim=1).transpose(0, 1).flatten(1)


def logits_of(weights: Weights, ids: list[int], *, quantises: bool = False) -> Tensor:
    """``(ids, vocab)`` float64."""

    def product(matrix: Matrix, x: Tensor) -> Tensor:
        return multiplied(matrix, x, quantises=quantises)

    shape = weights.geometry
    activate: Callable[[Tensor], Tensor] = ACTIVATION_FUNCTIONS[shape.activation]
    x = exact_weight(weights.tokens)[ids] + weights.positions[: len(ids)].double()
    for layer in weights.layers:
        projected = product(layer.projection, normalised(layer.before_attention, x))
        x = x + product(layer.output, attended(shape, layer, projected))
        x = x + product(layer.down, activate(product(layer.up, normalised(layer.before_mlp, x))))
    return product(head_of(weights), normalised(weights.last, x))


def head_of(weights: Weights) -> Matrix:
    """The rows of the head that count."""
    head, rows = weights.head, slice(weights.geometry.vocab)
    scale = None if head.scale is None else head.scale[rows]
    return replace(head, weight=head.weight[rows], scale=scale)
