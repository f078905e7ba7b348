"""Python's Mersenne Twister, with tensors."""

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor


class Draw(random.Random):
    """The same numbers everywhere for the same seed."""

    def reals(self, shape: Sequence[int], largest: float) -> Tensor:
        """Float32, uniform to either side of 0."""
        raw = bytearray(self.randbytes(2 * math.prod(shape)))
        numbers = torch.frombuffer(raw, dtype=torch.int16).float()
        return numbers.mul(largest / 2**15).view(tuple(shape))

    def integers(self, shape: Sequence[int], stop: int) -> Tensor:
        """Int64, uniform from 0 to below ``stop``."""
        numbers = [self.randrange(stop) for _ in range(math.prod(shape))]
        return torch.tensor(numbers).view(tuple(shape))

    def chances(self, shape: Sequence[int], probability: float) -> Tensor:
        """Bool, true with a probability."""
        numbers = [self.random() < probability for _ in range(math.prod(shape))]
        return torch.tensor(numbers).view(tuple(shape))

    def signs(self, shape: Sequence[int]) -> Tensor:
        """Float64, 1 or -1."""
        count = math.prod(shape)
        bits = torch.frombuffer(bytearray(self.randbytes(count + 1)), dtype=torch.uint8)[:count]
        return ((bits & 1).double() * 2 - 1).view(tuple(shape))
