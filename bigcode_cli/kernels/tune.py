"""Fill the table of layouts on this GPU: ``python -m bigcode_cli.kernels.tune``.

For each matrix of the family's shapes every layout is timed as a step launches it, with its norm
and its end, overlapping with its like, over copies that no cache can hold. Beside the best stand
cuBLAS, or for quantised weights what it takes to read them, and the share of the bandwidth.
Kernels are compiled by several processes meanwhile.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import astuple
from itertools import groupby, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.kernels import tune_attention
from bigcode_cli.kernels.shapes import SHAPES, matrices
from bigcode_cli.kernels.tables import (
    TABLE,
    AttentionConfig,
    Config,
    attention_key,
    default_config,
    key_of,
)
from bigcode_cli.kernels.timing import read_bandwidth, timed

_ROTATED_BYTES = 2**28
"""Of copies of one matrix: several times the L2 cache of any GPU."""
_MOST_COPIES = 256
_MULTIPROCESSORS = 132
_GROUP = 64

Layout = TypeVar("Layout")


class Case(NamedTuple):
    """One matrix in its role, and one layout of the kernel for it."""

    role: str
    rows: int
    columns: int
    bits: int
    config: Config


def layouts(rows: int, columns: int, bits: int) -> Iterator[Config]:
    """Layouts worth timing: tiles of 32 numbers a thread or more, as long as the row allows.

    Codes take fewer registers than numbers, and the vector is prepared for all of a tile's rows;
    for all tiles of a program only where a row is one block.
    """
    found = {default_config("matvec", rows, columns, bits)}
    longest = min(2048, 1 << (columns - 1).bit_length())
    sizes = (32, 64) if bits == 16 else (32, 64, 128)
    for block_k, each, warps, tiles in product((longest, longest // 2), sizes, (4, 8), (1, 2, 4)):
        if bits < 16 and tiles > 1 and block_k < columns:
            continue
        block_n = each * 32 * warps // block_k
        programs = rows // (block_n * tiles) if block_n else 0
        if 1 <= block_n <= 32 and programs >= _MULTIPROCESSORS:
            found.add(Config(block_n, block_k, warps, tiles=tiles))
    yield from sorted(found, key=astuple)


def cases(names: list[str], bits: list[int]) -> list[Case]:
    """All that is timed, a matrix that several shapes share once."""
    found: dict[tuple[str, int, int, int], None] = {}
    for name, width in product(names, bits):
        for role, (rows, columns) in matrices(SHAPES[name]).items():
            # The embedding, and so the head, is never stored in four bits.
            own = 8 if role == "head" and width == 4 else width
            found[role, rows, columns, own] = None
    return [Case(*key, config) for key in found for config in layouts(*key[1:])]


def arguments(case: Case, pointers: dict[str, Any]) -> dict[str, Any]:
    """What ``matvec`` is launched with; see ``triton.ops``."""
    from bigcode_cli.kernels.triton import matrix

    epilogue = {"up": matrix.STORE, "projection": matrix.APPEND, "head": matrix.RANK}
    heads = case.columns // 64
    return {
        **pointers,
        "epsilon": 1e-5,
        "capacity": 2048,
        "N": case.rows,
        "K": case.columns,
        "PADDED": 1 << (case.columns - 1).bit_length(),
        "BITS": case.bits,
        "NORM": case.role in {"projection", "up", "head"},
        "HAS_BIAS": case.role != "head",
        "EPILOGUE": epilogue.get(case.role, matrix.ADD).value,
        "ACTIVATION": "gelu_tanh" if case.role == "up" else "none",
        "HEADS": heads,
        "HEAD_DIM": 64,
        "KV_HEADS": 1,
        "BLOCK_N": case.config.block_n,
        "BLOCK_K": case.config.block_k,
        "TILES": case.config.tiles,
        "PDL": True,
        "PTX": True,
        "num_warps": case.config.warps,
        "launch_pdl": True,
    }


def dtypes(case: Case) -> dict[str, torch.dtype]:
    """Of the tensors that the kernel is handed."""
    half = torch.bfloat16
    weight = half if case.bits == 16 else torch.int32
    normed = case.role in {"projection", "up", "head"}
    summed = case.role in {"output", "down", "head"}
    return {
        "x": torch.float32 if normed else half,
        "weight": weight,
        "scale": torch.float32 if case.bits < 16 else weight,
        "bias": half if case.role != "head" else weight,
        "norm_weight": half if normed else weight,
        "norm_bias": half if normed else weight,
        "out": torch.float32 if summed else half,
        "cache": half,
        "lengths": torch.int32,
        "best": torch.float32,
        "best_id": torch.int32,
    }


def compiled(case: Case) -> None:
    """Put the kernel into Triton's cache on disk, without running it."""
    from bigcode_cli.kernels.triton import matrix

    # Only what comes by position may be a dtype in the place of a tensor.
    matrix.matvec.warmup(*dtypes(case).values(), grid=(1,), **arguments(case, {}))


def drawn(case: Case) -> dict[str, Tensor]:
    """Random tensors of the kinds that ``dtypes`` names."""
    kinds = dtypes(case)
    groups = -(-case.columns // _GROUP)
    widths = {16: case.columns, 8: case.columns // 4, 4: groups * 8}
    shape = (case.rows, widths[case.bits])
    if case.bits == 16:
        weight = torch.randn(shape, device="cuda").to(torch.bfloat16)
    else:
        weight = torch.randint(-(2**31), 2**31, shape, dtype=torch.int32, device="cuda")
    sizes = {
        "x": case.columns,
        "scale": case.rows * (groups if case.bits == 4 else 1),
        "bias": case.rows,
        "norm_weight": case.columns,
        "norm_bias": case.columns,
        "out": case.rows,
        "cache": 2048 * 128,
        "best": case.rows,
    }
    parts = {
        name: torch.randn(size, device="cuda").to(kinds[name]) if kinds[name] != kinds["weight"]
        or case.bits == 16 else weight
        for name, size in sizes.items()
    }  # fmt: skip
    counters = torch.zeros(case.rows, dtype=torch.int32, device="cuda")
    return {**parts, "weight": weight, "lengths": counters, "best_id": counters.clone()}


def measured(group: list[Case]) -> tuple[Case, float, float]:
    """The best layout of one matrix, its time and that of cuBLAS (bf16) in seconds."""
    from bigcode_cli.kernels.triton import matrix

    first = drawn(group[0])
    size = first["weight"].numel() * first["weight"].element_size()
    copies = max(2, min(_MOST_COPIES, _ROTATED_BYTES // size))
    weights = [first["weight"], *(first["weight"].clone() for _ in range(copies - 1))]

    def launch(case: Case) -> Callable[[int], object]:
        fixed = arguments(case, dict(first))
        grid = (-(-case.rows // (case.config.block_n * case.config.tiles)),)
        return lambda copy: matrix.matvec[grid](**{**fixed, "weight": weights[copy]})

    times = {case: timed(launch(case), copies) for case in group}
    best = min(times, key=times.__getitem__)
    inputs = torch.randn(1, group[0].columns, device="cuda").to(torch.bfloat16)
    peer = torch.nan
    if group[0].bits == 16:
        peer = timed(lambda copy: functional.linear(inputs, weights[copy]), copies)
    return best, times[best], peer


class Found:
    """The table, written anew with each entry: whatever ends the tuning leaves what it found."""

    def __init__(self, device: str, out: Path) -> None:
        self._tables = json.loads(TABLE.read_text(encoding="utf-8"))
        self._own: dict[str, list[int]] = self._tables.setdefault(device, {})
        self._out = out

    def add(self, key: str, layout: Config | AttentionConfig) -> None:
        """Enter one."""
        self._own[key] = list(astuple(layout))
        text = json.dumps(self._tables, indent=1, sort_keys=True) + "\n"
        part = self._out.with_name(self._out.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self._out)


def tune_matrix(group: list[Case], found: Found, bandwidth: float) -> None:
    """Enter one matrix's best layout, and say what it comes to."""
    best, seconds, peer = measured(group)
    stored = best.rows * best.columns * best.bits / 8
    print(
        f"{best.role:10} {best.rows:6}x{best.columns:<6} {best.bits:2} bits "
        f"{seconds * 1e6:7.1f} us  cuBLAS {peer * 1e6:7.1f}  floor "
        f"{stored / bandwidth * 1e6:7.1f}  {stored / seconds / 1e12:5.2f} TB/s  "
        f"{astuple(best.config)}",
        flush=True,
    )
    found.add(key_of("matvec", best.rows, best.columns, best.bits), best.config)


def tune_heads(name: str, layouts: list[AttentionConfig], found: Found) -> None:
    """Enter one shape's best layout of attention, and say what it comes to."""
    layout, times = tune_attention.measured(name, layouts)
    shape = SHAPES[name]
    at = ", ".join(
        f"{seconds * 1e6:.1f} us at {depth}"
        for seconds, depth in zip(times, tune_attention.DEPTHS, strict=True)
    )
    print(f"a layer of {name}: {at}, {astuple(layout)}", flush=True)
    found.add(attention_key(shape.heads, shape.kv_heads, shape.head_dim), layout)


def main() -> None:
    """See the module's beginning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--bits", nargs="+", type=int, choices=(16, 8, 4), default=[16, 8, 4])
    parser.add_argument("--out", type=Path, default=TABLE)
    chosen = parser.parse_args()
    device = torch.cuda.get_device_name()
    found = Found(device, chosen.out)
    listed = cases(chosen.shapes, chosen.bits)
    groups = [list(group) for _, group in groupby(listed, key=lambda case: case[:4])]
    workers = max(1, (os.cpu_count() or 2) - 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # What is compiled first is timed while the rest is compiled.
        heads = {
            name: [
                (layout, pool.submit(tune_attention.compiled, name, layout))
                for layout in tune_attention.layouts(name)
            ]
            for name in chosen.shapes
        }
        every = [[(case, pool.submit(compiled, case)) for case in group] for group in groups]
        bandwidth = read_bandwidth()
        print(f"{device}: {bandwidth / 1e12:.2f} TB/s read", flush=True)
        for name, layouts_ in heads.items():
            tune_heads(name, _usable(layouts_), found)
        for group in every:
            tune_matrix(_usable(group), found, bandwidth)


def _usable(compiling: list[tuple[Layout, Future[None]]]) -> list[Layout]:
    """Those that could be compiled, once all of them were tried."""
    usable = []
    for layout, future in compiling:
        error = future.exception()
        if error is None:
            usable.append(layout)
        else:
            print(f"{layout} cannot be compiled: {error}", flush=True)
    return usable


if __name__ == "__main__":
    main()
