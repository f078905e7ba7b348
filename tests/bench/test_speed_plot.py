"""What is drawn, and that it is drawn, where matplotlib is installed."""

import sys
import warnings
from itertools import product
from typing import Any

import pytest

from bigcode_cli.bench.speed_plot import (
    _GROUPS,
    _figure,
    _lines_of,
    _singles,
    draw,
    require_matplotlib,
)
from bigcode_cli.errors import UsageError


def row(n_prompt: int, n_gen: int, depth: int, batch: int, *, scored: bool = False) -> Any:
    return {
        "test": "a", "engine": "bigcode", "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": depth,
        "batch_size": batch, "end_to_end": False, "scored": scored, "median_ts": 10.0,
        "median_ts_interval": [9.0, 12.0],
    }  # fmt: skip


def panels(rows: list[Any]) -> dict[str, dict[str, int]]:
    """The lines of each panel, and of how many points."""
    found = {group.title: _lines_of(group, rows) for group in _GROUPS}
    return {
        title: {name: len(mine) for name, mine in series.items()}
        for title, series in found.items()
        if series
    }


def test_a_panel_is_for_what_varies_and_a_line_for_what_does_not() -> None:
    prompts = [row(64, 0, 0, 1), row(128, 0, 0, 1)]
    assert panels(prompts) == {"prompt": {"bigcode": 2}}
    assert panels([row(0, 16, 0, 1)]) == {}
    batches = [row(0, 16, 0, batch) for batch in (1, 8)]
    assert panels(batches) == {"decode, by sequences": {"bigcode": 2}}
    both = [row(0, 16, depth, batch) for depth, batch in product((0, 64), (1, 8))]
    assert panels(both) == {
        "decode, by depth": {"bigcode b1": 2, "bigcode b8": 2},
        "decode, by sequences": {"bigcode d0": 2, "bigcode d64": 2},
    }
    scores = [row(size, 0, 0, 1, scored=True) for size in (64, 128)]
    assert panels(scores) == {"scoring": {"bigcode": 2}}


def test_a_sweep_has_one_line_a_panel_and_what_is_on_none_is_a_bar() -> None:
    depths = [row(0, 16, depth, 1) for depth in (65, 0, 64, 63)]
    batches = [row(0, 16, 0, batch) for batch in (3, 2)]
    alone = row(512, 0, 0, 1)
    rows = [*depths, *batches, alone]
    assert panels(rows) == {
        "decode, by depth": {"bigcode": 4},
        "decode, by sequences": {"bigcode": 3},
    }
    lines = [_lines_of(group, rows) for group in _GROUPS]
    assert _singles(rows, lines) == [alone]
    by_depth = next(series for series in lines if series)["bigcode"]
    assert [one["n_depth"] for one in by_depth] == [0, 63, 64, 65]


def test_a_step_is_drawn_as_its_time_however_many_share_it() -> None:
    pytest.importorskip("matplotlib")
    rows = [row(0, 16, 0, 1), row(0, 16, 0, 4)]
    (axes,) = _figure(rows).axes
    assert axes.get_ylabel() == "ms a step"
    (line,) = axes.lines[:1]
    # At 10 tokens/s of all sequences.
    points: Any = line.get_xydata()
    assert points.tolist() == [[1, 100.0], [4, 400.0]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "4"]


def test_places_without_a_panel_are_empty() -> None:
    pytest.importorskip("matplotlib")
    rows = [row(size, 0, 0, 1) for size in (64, 128)] + [
        row(0, 16, depth, batch) for depth, batch in ((0, 1), (64, 1), (0, 2))
    ]
    assert [axes.axison for axes in _figure(rows).axes] == [True, True, True, False]


def test_many_lines_leave_room_for_what_they_show() -> None:
    pytest.importorskip("matplotlib")
    rows = [row(0, 16, depth, batch) for depth, batch in product(range(0, 30, 2), range(1, 18))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a layout that collapses
        assert draw(rows, "mini", ".png").startswith(b"\x89PNG")


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
