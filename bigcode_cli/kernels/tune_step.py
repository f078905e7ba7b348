"""The layouts of the persistent kernel that ``tune`` tries, and how it times them: whole steps."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch

from bigcode_cli.kernels.buffers import Buffers
from bigcode_cli.kernels.shapes import SHAPES
from bigcode_cli.kernels.step import Step
from bigcode_cli.kernels.tables import StepConfig, default_step
from bigcode_cli.kernels.timing import timed
from bigcode_cli.kernels.weights import Geometry, Layer, Matrix, Norm, Weights

DEPTHS = (500, 1900)
"""Slots that the row fills while it is timed."""

_SLOTS = 2048


def layouts(name: str, bits: int) -> list[StepConfig]:
    """Layouts worth timing: half to twice the pieces of the default, more programs, more splits."""
    shape = SHAPES[name]
    usual = default_step(shape.width, shape.inner, bits)
    found = {usual}
    for times, warps, (splits, slots) in product((1, 2), (8, 16), ((8, 64), (16, 64))):
        block_n, long_n = usual.block_n * times // 2, usual.long_n * times // 2
        # Three pieces lie in a thread's registers, and a row's sums.
        numbers = block_n << (shape.width - 1).bit_length()
        if block_n and long_n and numbers <= 128 * 32 * warps // (2 if bits == 16 else 1):
            found.add(StepConfig(block_n, long_n, warps, splits, slots))
    return sorted(found, key=str)


def compiled(name: str, bits: int, config: StepConfig) -> None:
    """As ``tune.compiled``."""
    from bigcode_cli.kernels.triton import persistent
    from bigcode_cli.kernels.triton.persistent_step import fixed

    half, single, count, long = torch.bfloat16, torch.float32, torch.int32, torch.int64
    weight = torch.int8 if bits == 8 else half
    kinds = {
        "table": long, "ids": long, "lengths": count, "tokens": weight,
        "token_scale": single if bits == 8 else weight, "positions": half,
        "hidden": long, "projected": long, "attended": long, "inner": long,
        "parts": long, "maxima": long, "sums": long,
        "logits": single, "best": single, "best_id": count, "clock": count,
    }  # fmt: skip
    shape = SHAPES[name]
    persistent.step.warmup(
        *kinds.values(), shape.layers, 1e-5, 0.1, _SLOTS,
        grid=(1,), launch_cooperative_grid=True, **fixed(shape, config, weight, half),
    )  # fmt: skip


def drawn(shape: Geometry, bits: int) -> Weights:
    """Random weights on the GPU, in bfloat16 or int8."""

    def numbers(*sizes: int) -> torch.Tensor:
        return (0.02 * torch.randn(sizes, device="cuda", dtype=torch.bfloat16)).contiguous()

    def matrix(rows: int, columns: int, *, bias: bool = True) -> Matrix:
        added = numbers(rows) if bias else None
        if bits == 16:
            return Matrix(numbers(rows, columns), 16, columns, bias=added)
        codes = torch.randint(-127, 128, (rows, columns), dtype=torch.int8, device="cuda")
        return Matrix(codes, 8, columns, torch.full((rows,), 3e-4, device="cuda"), added)

    def norm() -> Norm:
        return Norm(1 + numbers(shape.width), numbers(shape.width), 1e-5)

    def layer() -> Layer:
        return Layer(
            before_attention=norm(),
            projection=matrix(shape.width + 2 * shape.kv_heads * shape.head_dim, shape.width),
            output=matrix(shape.width, shape.width),
            before_mlp=norm(),
            up=matrix(shape.inner, shape.width),
            down=matrix(shape.width, shape.inner),
            attention_factor=shape.head_dim**-0.5,
        )

    head = matrix(shape.vocab, shape.width, bias=False)
    return Weights(
        geometry=shape,
        tokens=head,
        positions=numbers(shape.positions, shape.width),
        layers=tuple(layer() for _ in range(shape.layers)),
        last=norm(),
        head=head,
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """A model of this shape, and a row in the middle of its text."""

    weights: Weights
    buffers: Buffers

    @classmethod
    def of(cls, name: str, bits: int) -> "Bench":
        """With random weights."""
        shape = SHAPES[name]
        buffers = Buffers.allocate(
            shape, 1, _SLOTS, dtype=torch.bfloat16, device=torch.device("cuda")
        )
        for layer in buffers.cache:
            layer.normal_()
        return cls(drawn(shape, bits), buffers)

    @property
    def stored_bytes(self) -> int:
        """Of all matrices, which a step reads."""
        matrices = [m for one in self.weights.layers
                    for m in (one.projection, one.output, one.up, one.down)]  # fmt: skip
        return sum(one.stored_bytes for one in (*matrices, self.weights.head))

    def times(self, step: Step) -> list[float]:
        """Seconds a token at each of ``DEPTHS``, the choice of the best included."""

        def launch(_: int) -> None:
            step.run(self.weights, self.buffers)
            step.pick(self.buffers)

        return [self._at(depth, launch) for depth in DEPTHS]

    def _at(self, depth: int, launch: Callable[[int], None]) -> float:
        self.buffers.active.zero_()
        self.buffers.lengths.fill_(depth)
        return timed(launch, 4)


def measured(bench: Bench, layouts: list[StepConfig]) -> dict[StepConfig, list[float]]:
    """How long each takes."""
    from bigcode_cli.kernels.triton.persistent_step import PersistentStep

    device = torch.device("cuda")
    return {
        config: bench.times(PersistentStep(bench.weights, device=device, config=config))
        for config in layouts
    }
