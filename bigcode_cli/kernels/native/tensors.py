"""Numbers in memory as the engine takes them: where they lie, and who keeps them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers in memory that somebody else keeps, row-major.

    Attributes:
        dtype: as safetensors name it: ``F32``, ``F16``, ``BF16``, ``I8``, ``U8``.
        address: of the first number.
        owner: what keeps the memory as long as it is referred to.
    """

    dtype: str
    shape: tuple[int, ...]
    address: int
    owner: object
