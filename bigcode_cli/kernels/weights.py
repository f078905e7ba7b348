"""What a decoding step reads: a model's tensors and its shape, free of its modules."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A linear layer.

    Attributes:
        weight: ``(out, in)`` of any float dtype or int8, or packed uint8 ``(out, 32 * groups)``
            as ``model.quantize`` stores int4.
        bits: 16 for any float, 8 or 4.
        columns: ``in``.
        scale: float32, ``(out,)`` of int8, ``(out, groups)`` of int4, else ``None``.
        bias: ``(out,)`` or ``None``.
    """

    weight: Tensor
    bits: int
    columns: int
    scale: Tensor | None = None
    bias: Tensor | None = None

    @property
    def rows(self) -> int:
        """``out``."""
        return self.weight.shape[0]

    @property
    def stored_bytes(self) -> int:
        """What a step reads of it."""
        parts = [self.weight, self.scale, self.bias]
        return sum(part.numel() * part.element_size() for part in parts if part is not None)


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """LayerNorm: ``weight`` and ``bias`` ``(width,)``."""

    weight: Tensor
    bias: Tensor
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One block: ``projection`` gives queries, keys and values, ``output`` takes the heads."""

    before_attention: Norm
    projection: Matrix
    output: Matrix
    before_mlp: Norm
    up: Matrix
    down: Matrix
    attention_factor: float


@dataclass(frozen=True, slots=True)
class Geometry:
    """The shape of a model.

    Attributes:
        vocab: ids that may be sampled; rows of the head beyond them are not computed.
        activation: a name out of ``model.layers.ACTIVATION_FUNCTIONS``.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int
    positions: int
    activation: str


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A whole model.

    Attributes:
        tokens: ``(vocab or more, width)``, float or int8 with its factors: the embedding.
        positions: ``(positions, width)``.
    """

    geometry: Geometry
    tokens: Matrix
    positions: Tensor
    layers: tuple[Layer, ...]
    last: Norm
    head: Matrix
