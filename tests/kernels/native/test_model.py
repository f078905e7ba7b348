"""The engine in float32 against PyTorch's model, on models of every shape."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.backends.graph_weights import weights_of
from bigcode_cli.kernels.native.library import ACTIVATIONS
from bigcode_cli.kernels.weights import Weights
from bigcode_cli.model.config import GPTBigCodeConfig
from tests.kernels.native.models import NativeModel, relative, sets_here
from tests.model.models import wide_model

CASES = 24
SHAPES = [(5, 18), (3, 7), (1, 16), (4, 8), (7, 64), (2, 33), (6, 5), (3, 1)]
"""Heads and their size."""


def drawn_config(case: int) -> GPTBigCodeConfig:
    draw = random.Random(f"native {case}")
    heads, dim = SHAPES[case % len(SHAPES)]
    values: dict[str, Any] = {
        "n_head": heads,
        "n_embd": heads * dim,
        "n_layer": draw.randint(1, 3),
        "n_inner": draw.choice([None, 1, 13, 130, 263]),
        "n_positions": 40,
        "vocab_size": draw.choice([61, 128, 151, 257]),
        "multi_query": bool(draw.randrange(2)),
        "tie_word_embeddings": bool(draw.randrange(2)),
        "scale_attn_weights": draw.random() < 0.7,
        "activation_function": list(ACTIVATIONS)[case % len(ACTIVATIONS)],
        "layer_norm_epsilon": draw.choice([1e-5, 1e-3]),
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPTBigCodeConfig(**values)


def drawn(case: int) -> tuple[Weights, list[int], Tensor]:
    """A model's weights, a text, and PyTorch's logits behind each of its tokens."""
    config = drawn_config(case)
    model = wide_model(config, "eager", case)
    draw = random.Random(case)
    ids = [draw.randrange(config.vocab_size) for _ in range(draw.randint(9, config.n_positions))]
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    return weights_of(model, config.vocab_size - draw.randrange(3)), ids, logits


def parts_of(ids: list[int], seed: int) -> list[list[int]]:
    draw = random.Random(seed)
    ends = sorted({*draw.sample(range(1, len(ids)), 4), len(ids)})
    return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("case", range(CASES))
def test_whole_in_parts_and_one_by_one_it_is_pytorchs_model(case: int) -> None:
    weights, ids, expected = drawn(case)
    expected = expected[:, : weights.geometry.vocab]
    for number, name in enumerate(sets_here()):
        model = NativeModel(weights, (1, 2, 5)[(case + number) % 3], instructions=name)
        ways = {
            "whole": [ids],
            "in parts": parts_of(ids, case),
            "one by one": [[id_] for id_ in ids],
        }
        for way, parts in ways.items():
            row = model.row()
            logits = torch.cat([row.feed(part) for part in parts])
            assert relative(logits, expected) < 2e-5, (name, way, weights.geometry)


@pytest.mark.parametrize("case", range(4))
def test_more_threads_change_nothing(case: int) -> None:
    weights, ids, _ = drawn(case)
    results = [NativeModel(weights, threads).row().feed(ids) for threads in (1, 2, 5)]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("case", range(8))
def test_rows_of_different_lengths_are_each_what_it_is_alone(case: int) -> None:
    weights, ids, _ = drawn(case)
    draw = random.Random(f"rows {case}")
    for name in sets_here():
        model = NativeModel(weights, 2, instructions=name)
        rows = [model.row() for _ in range(5)]
        alone = [model.row() for _ in rows]
        for row, twin in zip(rows, alone, strict=True):
            past = ids[: draw.randint(0, 5)]
            if past:
                row.feed(past)
                twin.feed(past)
        parts = [[draw.choice(ids) for _ in range(draw.choice([1, 1, 2, 7, 9]))] for _ in rows]
        count = sum(map(len, parts))
        done, _, together = model.feed(rows, parts, range(count))
        assert done == 0
        expected = torch.cat([row.feed(part) for row, part in zip(alone, parts, strict=True)])
        assert relative(together, expected) < 1e-5
        # And the caches hold what they are to hold.
        after, again = ([row.feed([3]) for row in some] for some in (rows, alone))
        assert relative(torch.cat(after), torch.cat(again)) < 1e-5


def test_the_places_wanted_are_the_ones_told() -> None:
    weights, ids, expected = drawn(0)
    model = NativeModel(weights)
    done, states, logits = model.feed([model.row()], [ids], [1, 4, 5])
    assert done == 0
    assert relative(logits, expected[[1, 4, 5], : model.vocab]) < 1e-5
    assert states.isfinite().all()


@pytest.mark.parametrize("name", sets_here())
def test_a_wide_model_crosses_every_border_between_columns(name: str) -> None:
    """More columns than a product takes at a time, more rows than a piece, more than a chunk."""
    config = GPTBigCodeConfig(
        n_head=9,
        n_embd=9 * 62,
        n_layer=1,
        n_inner=1090,
        n_positions=130,
        vocab_size=700,
        bos_token_id=0,
        eos_token_id=0,
    )
    reference = wide_model(config, "eager")
    ids = [random.Random(1).randrange(700) for _ in range(130)]
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0]
    row = NativeModel(weights_of(reference, 700), 2, instructions=name).row()
    logits = torch.cat([row.feed(ids[:127]), row.feed(ids[127:])])
    assert relative(logits, expected) < 1e-5
