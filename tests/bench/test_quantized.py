import json
import math
from pathlib import Path

import pytest
import torch

from bigcode_cli.bench.quantized import change, q4_0, q8_0, table


def test_q4_0_makes_the_largest_number_eight_steps_and_keeps_its_sign() -> None:
    weight = torch.zeros(2, 64)
    weight[0, :5] = torch.tensor([-8.0, 7.0, 8.0, 0.49, -0.51])
    weight[1, 40:43] = torch.tensor([4.0, -4.0, 0.25])
    assert q4_0(weight)[0, :5].tolist() == [-8.0, 7.0, 7.0, 0.0, -1.0]
    # The first of two as large is the one that counts; halves go away from -8 in steps of -0.5.
    assert q4_0(weight)[1, 40:43].tolist() == [4.0, -3.5, 0.0]
    assert q4_0(torch.zeros(1, 32)).tolist() == torch.zeros(1, 32).tolist()


def test_q8_0_keeps_the_largest_magnitude_and_rounds_halves_away_from_zero() -> None:
    weight = torch.zeros(1, 32)
    weight[0, :5] = torch.tensor([-127.0, 2.5, -2.5, 1.49, 126.6])
    assert q8_0(weight)[0, :5].tolist() == [-127.0, 3.0, -3.0, 1.0, 127.0]


@pytest.mark.parametrize("rounded", [q4_0, q8_0])
def test_their_steps_are_kept_in_float16(rounded: object) -> None:
    assert callable(rounded)
    weight = torch.full((1, 32), 1 / 3)
    divisor = 8 if rounded is q4_0 else 127
    step = float(torch.tensor(1 / 3 / divisor).half())
    assert rounded(weight)[0, 0].item() == pytest.approx(step * divisor, rel=1e-6)


def test_change_is_of_the_perplexity_a_token_and_pairs_files() -> None:
    base = [[10.0 * k, 30.0 * k, 10.0 * k] for k in range(1, 30)]
    worse = [[nats * 1.01, n_bytes, tokens] for nats, n_bytes, tokens in base]
    middle, low, high = change(base, worse)
    assert middle == pytest.approx(math.expm1(0.01))
    assert low == pytest.approx(middle)
    assert high == pytest.approx(middle)


def test_the_table_has_a_column_for_each_way_of_storing() -> None:
    rows = [[math.log(2), 1.0, 1.0]]
    scores = {
        name: {"weight_bytes": 1, "files": {"Flask": [[nats * k for nats in row] for row in rows]}}
        for name, k in (("none", 1), ("int8", 1))
    }
    lines = table({"scores": scores}).splitlines()
    assert lines[0] == "| package | float32 | int8 |"
    assert lines[2] == "| Flask | 1.000 | 1.000 |"
    assert lines[3] == "| **macro-mean** | **1.000** | **1.000** |"
    assert lines[4] == "| perplexity |  | +0.00% |"


def test_the_models_card_holds_the_table_of_the_committed_figures() -> None:
    root = Path(__file__).parents[2]
    figures = json.loads((root / "tests/benchmarks/mini-quantized.json").read_text())
    card = (root / "bigcode_cli/builtin/mini/MODEL_CARD.md").read_text(encoding="utf-8")
    assert table(figures) in card
