"""The layouts: those of the table, and those by reasoning."""

import json
from dataclasses import astuple
from pathlib import Path

import pytest

from bigcode_cli.kernels import tables
from bigcode_cli.kernels.shapes import SHAPES, matrices
from bigcode_cli.kernels.tables import (
    TABLE,
    AttentionConfig,
    Config,
    attention_config,
    config_of,
    default_attention,
    default_config,
)
from bigcode_cli.kernels.tune import cases


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
@pytest.mark.parametrize("name", SHAPES)
def test_default_layouts_can_be_compiled(name: str, bits: int) -> None:
    for rows, columns in matrices(SHAPES[name]).values():
        for kernel in ("matvec", "matmul"):
            config = default_config(kernel, rows, columns, bits)
            for size in (config.block_n, config.block_k, config.warps):
                assert size > 0
                assert size & (size - 1) == 0
            # A thread's share of the weights, and as much again of sums, lies in registers.
            assert config.block_n * config.block_k <= 64 * 32 * config.warps
            assert config.block_k % 64 == 0


def test_the_default_is_among_what_tuning_tries() -> None:
    for case in cases(["santacoder"], [16, 8]):
        kernel, shape = "matvec", (case.rows, case.columns, case.bits)
        tried = {other.config for other in cases(["santacoder"], [16, 8]) if other[:4] == case[:4]}
        assert default_config(kernel, *shape) in tried


def test_a_table_serves_its_device_and_lends_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {
        "A": {"matvec 8x64, 16": [2, 64, 4, 1]},
        "B": {"matvec 8x64, 16": [4, 64, 8, 1], "matvec 9x64, 16": [1, 64, 4, 1]},
    }
    (tmp_path / "tuned.json").write_text(json.dumps(held))
    monkeypatch.setattr(tables, "TABLE", tmp_path / "tuned.json")
    tables._tables.cache_clear()
    try:
        assert config_of("matvec", 8, 64, 16, "B") == Config(4, 64, 8)
        assert config_of("matvec", 9, 64, 16, "A") == Config(1, 64, 4)
        assert config_of("matvec", 8, 64, 8, "A") == default_config("matvec", 8, 64, 8)
    finally:
        tables._tables.cache_clear()


def test_every_entry_of_the_table_is_a_layout() -> None:
    for table in json.loads(TABLE.read_text(encoding="utf-8")).values():
        for key, values in table.items():
            assert key.startswith(("matvec ", "attend "))
            kind = Config if key.startswith("matvec") else AttentionConfig
            assert list(astuple(kind(*values)))[: len(values)] == values


def test_attention_is_split_among_no_more_programs_than_fill_the_device() -> None:
    splits = [default_attention(groups, 128, 2).splits for groups in (1, 3, 16, 64, 1000)]
    assert splits == [8, 8, 8, 4, 4]


@pytest.mark.parametrize("head_dim", [8, 16, 64, 80, 128, 208, 256])
@pytest.mark.parametrize("number_bytes", [2, 4])
@pytest.mark.parametrize("groups", [1, 18, 1000])
def test_what_attention_has_on_its_way_fits_into_shared_memory(
    groups: int, number_bytes: int, head_dim: int
) -> None:
    """Keys and values, of heads filled up to a power of two; a GPU has 99 KB or more."""
    layout = default_attention(groups, head_dim, number_bytes)
    padded = max(16, 1 << (head_dim - 1).bit_length())
    assert layout.slots % (16 * layout.warps) == 0
    assert padded % layout.columns == 0
    assert layout.columns >= 16
    assert layout.slots * padded * number_bytes * 2 * layout.stages <= 96 * 1024


def test_a_tuned_attention_serves_rows_that_are_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tuned.json").write_text(json.dumps({"A": {"attend 48/1x128": [64, 32, 16, 8, 4]}}))
    monkeypatch.setattr(tables, "TABLE", tmp_path / "tuned.json")
    tables._tables.cache_clear()
    try:
        assert attention_config(48, 1, 128, 3, "B", number_bytes=2) == AttentionConfig(
            64, 32, 16, 8, 4
        )
        assert attention_config(48, 1, 128, 6, "B", number_bytes=2) == default_attention(6, 128, 2)
        assert attention_config(48, 1, 128, 3, "B", number_bytes=4) == default_attention(3, 128, 4)
    finally:
        tables._tables.cache_clear()
