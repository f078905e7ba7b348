"""Random weights of a small model's shape, and buffers in the middle of their work."""

from dataclasses import dataclass

import torch

from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm, Weights
from bigcode_cli.model.quantize import quantize_int4, quantize_int8


def geometry(**changes: int | str) -> Geometry:
    """Nothing in it is a power of two that need not be."""
    values: dict[str, int | str] = {
        "width": 96,
        "layers": 2,
        "heads": 6,
        "kv_heads": 1,
        "head_dim": 16,
        "inner": 200,
        "vocab": 151,
        "positions": 128,
        "activation": "gelu_pytorch_tanh",
    }
    return Geometry(**values | changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Numbers:
    """How weights are stored and in what activations are kept."""

    dtype: torch.dtype
    bits: int
    device: torch.device

    def matrix(self, rows: int, columns: int, *, bias: bool = True, bits: int = 0) -> Matrix:
        weight = torch.randn(rows, columns) / columns**0.5
        bits = bits or self.bits
        added = torch.randn(rows).to(self.device, self.dtype) if bias else None
        if bits == 16:
            stored = weight.to(self.device, self.dtype)
            return Matrix(stored, 16, columns, bias=added)
        quantize = quantize_int8 if bits == 8 else quantize_int4
        codes, scale = quantize(weight)
        return Matrix(codes.to(self.device), bits, columns, scale.to(self.device), added)

    def norm(self, width: int) -> Norm:
        weight, bias = 1 + 0.3 * torch.randn(width), 0.3 * torch.randn(width)
        return Norm(
            weight.to(self.device, self.dtype), bias.to(self.device, self.dtype), epsilon=1e-5
        )

    def layer(self, shape: Geometry) -> Layer:
        width = shape.width
        return Layer(
            before_attention=self.norm(width),
            projection=self.matrix(width + 2 * shape.kv_heads * shape.head_dim, width),
            output=self.matrix(width, width),
            before_mlp=self.norm(width),
            up=self.matrix(shape.inner, width),
            down=self.matrix(width, shape.inner),
            attention_factor=shape.head_dim**-0.5,
        )

    def weights(self, shape: Geometry) -> Weights:
        head_bits = 8 if self.bits == 4 else self.bits
        # More rows than ids: those beyond are never sampled.
        head = self.matrix(shape.vocab + 9, shape.width, bias=False, bits=head_bits)
        return Weights(
            geometry=shape,
            tokens=head,
            positions=torch.randn(shape.positions, shape.width).to(self.device, self.dtype),
            layers=tuple(self.layer(shape) for _ in range(shape.layers)),
            last=self.norm(shape.width),
            head=head,
        )

    def buffers(self, shape: Geometry, rows: int, capacity: int) -> Buffers:
        """Rows of different lengths, with garbage wherever a step is to write."""
        buffers = Buffers.allocate(shape, rows, capacity, dtype=self.dtype, device=self.device)
        for layer in buffers.cache:
            layer.copy_(torch.randn(layer.shape))
        buffers.ids.copy_(torch.randint(0, shape.vocab, (rows,)))
        lengths = torch.linspace(0, capacity - 2, rows + 1)[1:] if rows > 1 else [capacity - 2]
        buffers.lengths.copy_(torch.as_tensor(lengths).int())
        buffers.active.fill_(1)
        buffers.hidden.copy_(torch.randn(buffers.hidden.shape))
        for name in ("normed", "query", "attended", "inner", "logits", "told"):
            getattr(buffers, name).fill_(torch.nan)
        return buffers


def copied(buffers: Buffers) -> Buffers:
    """The same in tensors of their own."""
    parts = {
        name: getattr(buffers, name).clone()
        for name in Buffers.__dataclass_fields__
        if name != "cache"
    }
    return Buffers(cache=tuple(layer.clone() for layer in buffers.cache), **parts)
