"""The filters and the draw, against a brute-force twin in plain Python."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.backends.sampling import (
    SamplingTensors,
    draw,
    filtered_probabilities,
    penalised,
    sample,
    seen_behind,
)
from bigcode_cli.records import SamplingOptions

CPU = torch.device("cpu")


def brute_force(logits: list[float], options: SamplingOptions) -> list[float]:
    """The filters one after another, as their definitions read; exact arithmetic is float64."""
    order = sorted(range(len(logits)), key=lambda id_: (-logits[id_], id_))
    if options.greedy:
        return [float(id_ == order[0]) for id_ in range(len(logits))]
    kept = order[: options.top_k] if options.top_k else order
    weights = {
        id_: math.exp((logits[id_] - logits[order[0]]) / options.temperature) for id_ in kept
    }
    total = sum(weights.values())
    p = {id_: weight / total for id_, weight in weights.items()}
    nucleus, reached = [], 0.0
    for id_ in kept:
        if reached >= options.top_p and options.top_p < 1:
            break
        nucleus.append(id_)
        reached += p[id_]
    nucleus = [id_ for id_ in nucleus if p[id_] >= options.min_p * p[order[0]]]
    total = sum(p[id_] for id_ in nucleus)
    return [p[id_] / total if id_ in nucleus else 0.0 for id_ in range(len(logits))]


def options_strategy() -> st.SearchStrategy[SamplingOptions]:
    return st.builds(
        SamplingOptions,
        temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
        top_k=st.integers(0, 12),
        top_p=st.sampled_from([0.1, 0.55, 0.93, 1.0]),
        min_p=st.sampled_from([0.0, 0.04, 0.3, 1.0]),
    )


@settings(max_examples=300)
@given(st.lists(options_strategy(), min_size=1, max_size=4), st.integers(0, 2**31))
def test_filtered_probabilities_equal_brute_force(
    options: list[SamplingOptions], seed: int
) -> None:
    generator = random.Random(seed)
    rows = [[generator.gauss(0, 3) for _ in range(11)] for _ in options]
    got = filtered_probabilities(torch.tensor(rows), SamplingTensors.of(options, 11, CPU))
    want = torch.tensor([brute_force(row, o) for row, o in zip(rows, options, strict=True)])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_equal_logits_rank_by_id() -> None:
    options = [SamplingOptions(temperature=1.0, top_k=2), SamplingOptions()]
    tensors = SamplingTensors.of(options, 5, CPU)
    probabilities = filtered_probabilities(torch.zeros(2, 5), tensors)
    assert probabilities.tolist() == [[0.5, 0.5, 0, 0, 0], [1, 0, 0, 0, 0]]


@pytest.mark.parametrize("mutant", ["top_p_before_top_k", "no_renormalisation"])
def test_the_brute_force_twin_tells_mutants(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = filtered_probabilities

    def wrong(logits: torch.Tensor, options: SamplingTensors) -> torch.Tensor:
        if mutant == "no_renormalisation":
            return original(logits, options) * 0.9
        everything = torch.full_like(options.top_k, logits.shape[-1])
        tensors = {name: getattr(options, name) for name in options.__slots__}
        nucleus = original(logits, SamplingTensors(**{**tensors, "top_k": everything}))
        ranked = nucleus.argsort(dim=-1, descending=True, stable=True)
        rank = torch.empty_like(ranked).scatter_(
            -1, ranked, torch.arange(logits.shape[-1]).expand_as(ranked)
        )
        p = nucleus * (rank < options.top_k)
        return p / p.sum(-1, keepdim=True)

    monkeypatch.setitem(globals(), "filtered_probabilities", wrong)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - an ExceptionGroup or an assertion
        test_filtered_probabilities_equal_brute_force()


def test_penalty_is_applied_to_seen_tokens_before_the_temperature() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    seen = torch.tensor([[True, True, False]])
    assert penalised(logits, seen, torch.tensor([[2.0]])).tolist() == [[1.0, -4.0, 1.0]]


@settings(max_examples=200)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9), st.floats(0, 1, exclude_max=True))
def test_draw_inverts_the_cumulative_distribution(weights: list[int], uniform: float) -> None:
    if not any(weights):
        weights[0] = 1
    total = sum(weights)
    reached, want = 0.0, len(weights) - 1
    for id_, weight in enumerate(weights):
        reached += weight / total
        if reached > uniform + 1e-6:
            want = id_
            break
    else:
        want = max(id_ for id_, weight in enumerate(weights) if weight)
    edges = [sum(weights[: i + 1]) / total for i in range(len(weights))]
    if any(abs(edge - uniform) < 1e-6 for edge in edges):
        return  # on an edge rounding may go either way
    p = torch.tensor([weights], dtype=torch.float32) / total
    assert draw(p, torch.tensor([uniform], dtype=torch.float64)).tolist() == [want]


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53, 1.0])
def test_an_impossible_token_is_never_drawn(uniform: float) -> None:
    p = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]])
    (id_,) = draw(p, torch.tensor([uniform], dtype=torch.float64)).tolist()
    assert p[0, id_] > 0


def test_draws_follow_the_distribution() -> None:
    """Chi-squared over 20,000 draws, 5 degrees of freedom: above 20.5 once in a thousand seeds."""
    p = torch.tensor([[0.05, 0.1, 0.15, 0.2, 0.22, 0.28]])
    stream = random.Random(7)
    uniforms = torch.tensor([stream.random() for _ in range(20_000)], dtype=torch.float64)
    ids = draw(p.expand(20_000, -1), uniforms)
    counts = torch.bincount(ids, minlength=6).double()
    expected = p[0].double() * 20_000
    assert ((counts - expected) ** 2 / expected).sum() < 20.5


def test_a_greedy_row_takes_the_best_beside_a_drawn_one() -> None:
    options = [SamplingOptions(), SamplingOptions(temperature=1.0)]
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 0.0, 0.0]])
    uniforms = torch.tensor([0.99, 0.99], dtype=torch.float64)
    ids = sample(logits, SamplingTensors.of(options, 3, CPU), uniforms)
    assert ids.tolist() == [1, 2]


def test_behind_each_guess_those_before_it_were_seen() -> None:
    seen = torch.zeros(1, 9, dtype=torch.bool)
    seen[0, [2, 7]] = True
    for ids in ([], [2], [4, 4, 0], [8, 1], [3, 9, 5]):
        every = seen_behind(seen, ids)
        known = [{2, 7, *ids[:place]} - {9} for place in range(len(ids) + 1)]
        assert [set(row.nonzero().flatten().tolist()) for row in every] == known
    assert seen.sum() == 2


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_options_of_one_row_serve_any_number_of_rows(temperature: float) -> None:
    torch.manual_seed(4)
    logits, uniforms = torch.randn(6, 40), torch.rand(6, dtype=torch.float64)
    one = SamplingOptions(temperature=temperature, top_k=20, top_p=0.9, min_p=0.01)
    shared = SamplingTensors.of([one], 40, logits.device)
    own = SamplingTensors.of([one] * 6, 40, logits.device)
    assert torch.equal(sample(logits, shared, uniforms), sample(logits, own, uniforms))
