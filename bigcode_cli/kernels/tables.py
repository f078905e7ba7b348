"""How each kernel is laid out for each shape: tuned on hardware once, reasoned out elsewhere.

``tuned.json`` comes with the package, so no user waits for tuning: by device name, then by
``kernel out x in, bits``. ``python -m bigcode_cli.kernels.tune`` fills it in.

Without an entry: a program holds 4,096 numbers of the matrix at a time (8,192 bytes in bf16, 64 a
thread in four loads of 16 bytes: with four programs or more a multiprocessor, the 32 KB in flight
that its share of 3.2 TB/s at 0.8 microseconds of latency takes), and there are programs enough to
fill the device at least twice where the matrix is large enough for that. Of eight or four bits it
holds 8,192: what is done to the vector takes more instructions than the products do.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("tuned.json")

_PROGRAMS = 264
"""Two for each of an H100's 132 multiprocessors."""

HEAD_BLOCK = 16
"""Query heads of one program of ``attend``: the matrix units' least."""

_SPLITS = 8
_LEAST_SPLITS = 4

_BLOCK_BYTES = 2**14
"""Of a block of keys, and of one of values, on its way to the matrix units."""

_TILE = 4096
_WIDEST = 2048
_NARROWEST = 256


@dataclass(frozen=True, slots=True)
class Config:
    """The layout of one kernel.

    Attributes:
        block_n: outputs a program.
        block_k: columns at a time.
        warps: of a program.
        stages: blocks on their way at a time, where the compiler is to see to that.
        tiles: of ``block_n`` outputs that a program of ``matvec`` goes through.
    """

    block_n: int
    block_k: int
    warps: int = 4
    stages: int = 1
    tiles: int = 1


@cache
def _tables() -> dict[str, dict[str, list[int]]]:
    tables: dict[str, dict[str, list[int]]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return tables


def key_of(kernel: str, rows: int, columns: int, bits: int) -> str:
    """The name of a matrix in the table."""
    return f"{kernel} {rows}x{columns}, {bits}"


def config_of(kernel: str, rows: int, columns: int, bits: int, device: str) -> Config:
    """The layout of ``matvec`` or ``matmul`` for a matrix ``(rows, columns)``.

    Args:
        bits: 32, 16, 8 or 4 a weight.
        device: as PyTorch names it; another's table serves where it has none of its own.
    """
    tables = _tables()
    key = key_of(kernel, rows, columns, bits)
    own = tables.get(device, {})
    for table in (own, *tables.values()):
        if key in table:
            return Config(*table[key])
    return default_config(kernel, rows, columns, bits)


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """The layout of ``attend``.

    Attributes:
        slots: of the cache at a time, a multiple of 16 for each warp.
        columns: of the values that a program has for its own; not more than a head has.
        splits: programs that share a row's slots at most.
        joined: parts that are summed up at a time.
        whole: slots up to which they are not shared.
        least: slots of a split that is not the last.
        stages: blocks of slots on their way at a time.
    """

    slots: int
    columns: int
    splits: int
    joined: int
    warps: int
    whole: int = 0
    least: int = 1
    stages: int = 2


def attention_key(heads: int, kv_heads: int, head_dim: int) -> str:
    """The name of one row's attention in the table."""
    return f"attend {heads}/{kv_heads}x{head_dim}"


def attention_config(
    heads: int, kv_heads: int, head_dim: int, groups: int, device: str, *, number_bytes: int
) -> AttentionConfig:
    """The layout of ``attend``: tuned for a row that is alone with one key head, else reasoned out.

    Args:
        groups: of heads that share a program, of all rows.
        number_bytes: of a number in the cache; layouts are tuned for 2.
    """
    tables = _tables()
    key = attention_key(heads, kv_heads, head_dim)
    alone = kv_heads == 1 and groups == -(-heads // HEAD_BLOCK)
    if alone and number_bytes == 2:
        for table in (tables.get(device, {}), *tables.values()):
            if key in table:
                return AttentionConfig(*table[key])
    return default_attention(groups, head_dim, number_bytes)


def default_attention(groups: int, head_dim: int, number_bytes: int) -> AttentionConfig:
    """Programs enough to fill the device, each with a block at least; parts few enough to join.

    Args:
        number_bytes: see ``attention_config``. What is on its way lies in shared memory: 96 KB at
            most.
    """
    columns = max(16, _power_of_two(head_dim))
    most = _BLOCK_BYTES // _power_of_two(head_dim * number_bytes)
    if _SPLITS * groups > _PROGRAMS:
        # One program each fills the device.
        slots = max(16, min(64, most))
        return AttentionConfig(
            slots, columns, _LEAST_SPLITS, 4, min(4, slots // 16), whole=512, least=512, stages=3
        )
    # Few: what counts is how little there is to wait for.
    slots = max(16, min(64, most // 2))
    columns = min(columns, 32)
    return AttentionConfig(slots, columns, _SPLITS, 4, min(4, slots // 16), whole=1024, stages=3)


def default_config(kernel: str, rows: int, columns: int, bits: int) -> Config:
    """The layout by reasoning: see the module's beginning."""
    if kernel == "matmul":
        block_n = 32 if rows >= 32 * _PROGRAMS else 16
        return Config(block_n, 64 if bits == 4 else 128, warps=4, stages=4)
    block_k = max(_NARROWEST, min(_WIDEST, _power_of_two(columns)))
    if rows >= 64 * _PROGRAMS:
        # The vocabulary: fewer blocks, as the best of each is looked through once more.
        return Config(8, block_k if bits < 16 else min(_TILE // 4, block_k), warps=8)
    tile = {32: _TILE // 2, 16: _TILE}.get(bits, 2 * _TILE)
    block_n = max(1, tile // block_k)
    while block_n > 1 and rows < block_n * _PROGRAMS:
        block_n //= 2
    return Config(block_n, block_k)


def _power_of_two(count: int) -> int:
    """The least that is not below."""
    return 1 << (count - 1).bit_length()
