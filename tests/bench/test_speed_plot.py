"""What is drawn, and that it is drawn, where matplotlib is installed."""

import sys
from itertools import product
from typing import Any

import pytest

from bigcode_cli.bench.speed_plot import _GROUPS, _varied, draw, require_matplotlib
from bigcode_cli.errors import UsageError


def row(n_prompt: int, n_gen: int, depth: int, batch: int, *, scored: bool = False) -> Any:
    return {
        "test": "a", "engine": "bigcode", "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": depth,
        "batch_size": batch, "end_to_end": False, "scored": scored, "median_ts": 10.0,
        "median_ts_interval": [9.0, 12.0],
    }  # fmt: skip


def panels(rows: list[Any]) -> list[str]:
    return [group[0] for group in _GROUPS if _varied(group, rows)]


def test_a_panel_is_for_what_varies() -> None:
    prompts = [row(64, 0, 0, 1), row(128, 0, 0, 1)]
    assert panels(prompts) == ["prompt"]
    assert panels([row(0, 16, 0, 1)]) == ["decode, by depth"]
    assert panels([row(0, 16, 0, batch) for batch in (1, 8)]) == ["decode, by sequences at once"]
    both = [row(0, 16, depth, batch) for depth, batch in product((0, 64), (1, 8))]
    assert panels(both) == ["decode, by depth", "decode, by sequences at once"]
    assert panels([row(64, 0, 0, 1, scored=True)]) == ["scoring"]


def test_a_missing_library_is_told_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="--plot needs matplotlib") as told:
        require_matplotlib()
    assert told.value.hint == "pip install 'bigcode-cli[plot]'"


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_a_picture_is_drawn(suffix: str) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        row(64, 0, 0, 1), row(128, 0, 0, 1), row(0, 16, 0, 1), row(0, 16, 0, 8),
        row(64, 0, 0, 1, scored=True),
    ]  # fmt: skip
    data = draw(rows, "mini; on <this>", suffix)
    if suffix == ".png":
        assert data.startswith(b"\x89PNG")
    else:
        page = data.decode()
        assert page.count("<svg") == 1
        assert "mini; on &lt;this&gt;" in page
        assert "<script" not in page
