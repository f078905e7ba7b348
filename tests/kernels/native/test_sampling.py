"""One token drawn, against ``backends/sampling.py`` in float64; log-probabilities and scores."""

import ctypes
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.backends.likelihood import measure
from bigcode_cli.backends.sampling import SamplingTensors, draw, filtered_probabilities, penalised
from bigcode_cli.kernels.native.library import Sampling, library
from bigcode_cli.records import SamplingOptions
from tests.kernels.native.models import NativeModel, desk, floats, ints, marks, sets_here
from tests.kernels.shapes import Numbers, geometry

CPU = torch.device("cpu")
VOCABULARIES = (1, 2, 3, 16, 151, 1025)
BORDER = 3e-6
"""Of a cumulative sum: nearer to it, the engine's float32 weights may say the neighbour."""
LAST = 1 - 2**-53
"""The largest uniform number below 1."""


@dataclass
class Sampler:
    model: NativeModel
    desk: ctypes.c_void_p

    def __call__(
        self,
        logits: Tensor,
        options: SamplingOptions,
        uniform: float = 0.5,
        *,
        seen: Tensor | None = None,
        allowed: list[int] | None = None,
    ) -> int:
        """``seen`` (vocab,) bool."""
        chosen = Sampling(
            options.temperature,
            options.top_k or 0,
            options.top_p,
            options.min_p,
            options.repetition_penalty,
        )
        drawn = library().bigcode_sample(
            *(self.model.handle, floats(logits), chosen),
            None if seen is None else marks(seen),
            None if allowed is None else ints(allowed),
            0 if allowed is None else len(allowed),
            *(uniform, self.desk),
        )
        return int(drawn)


def models(name: str) -> dict[int, NativeModel]:
    numbers = Numbers(torch.float32, 16, CPU)
    shapes = [geometry(vocab=vocab, layers=1, width=6, head_dim=1) for vocab in VOCABULARIES]
    return {s.vocab: NativeModel(numbers.weights(s), 1, instructions=name) for s in shapes}


@pytest.fixture(scope="module", params=sets_here())
def samplers(request: pytest.FixtureRequest) -> Iterator[dict[int, Sampler]]:
    with desk() as handle:
        yield {vocab: Sampler(m, handle) for vocab, m in models(request.param).items()}


def distribution(
    logits: Tensor, options: SamplingOptions, seen: Tensor | None, allowed: list[int] | None
) -> Tensor:
    """The twin's probabilities in float64."""
    tensors = SamplingTensors.of([options], len(logits), CPU)
    exact = logits.double()[None]
    if seen is not None:
        exact = penalised(exact, seen[None].bool(), tensors.penalty.double())
    if allowed is not None:
        mask = torch.zeros_like(exact, dtype=torch.bool)
        mask[:, allowed] = True
        exact = exact.masked_fill(~mask, -torch.inf)
    return filtered_probabilities(exact, tensors)[0]


def drawn_options(draw: random.Random) -> SamplingOptions:
    """Each filter alone, and all that can be together."""
    kind = draw.randrange(8)
    values: dict[str, Any] = {"temperature": draw.choice([0.2, 0.7, 1.0, 1.9])}
    if kind in {1, 4, 5, 7}:
        values["top_k"] = draw.choice([1, 2, 5, 40, 2000])
    if kind in {2, 4, 6, 7}:
        values["top_p"] = draw.choice([0.01, 0.3, 0.9, 0.999])
    if kind in {3, 5, 6, 7}:
        values["min_p"] = draw.choice([0.01, 0.2, 0.9, 1.0])
    if draw.randrange(2):
        values["repetition_penalty"] = draw.choice([0.8, 1.3])
    return SamplingOptions(**values)


@pytest.mark.parametrize("case", range(20))
def test_every_id_is_drawn_between_the_twins_cumulative_sums(
    samplers: dict[int, Sampler], case: int
) -> None:
    """Exact: the borders of the whole distribution, from both sides, and the middle of each id."""
    draw = random.Random(case)
    torch.manual_seed(case)
    for vocab, sampler in samplers.items():
        options = drawn_options(draw)
        logits = torch.randn(vocab) * draw.choice([0.3, 2.0, 6.0])
        seen = torch.rand(vocab) < 0.3 if draw.randrange(2) else None
        allowed = sorted(draw.sample(range(vocab), (vocab + 1) // 2)) if case % 3 == 0 else None
        p = distribution(logits, options, seen, allowed)
        sums = [0.0, *p.cumsum(0).tolist()]
        for id_, (before, after) in enumerate(pairwise(sums)):
            if after - before < 3 * BORDER:
                continue
            for uniform in (before + BORDER, (before + after) / 2, after - BORDER):
                drawn = sampler(logits, options, uniform, seen=seen, allowed=allowed)
                assert drawn == id_, (vocab, options, uniform)
        # Nobody draws from outside, not even at the ends.
        possible = p.nonzero()[:, 0].tolist()
        first, last = (
            sampler(logits, options, uniform, seen=seen, allowed=allowed) for uniform in (0, LAST)
        )
        assert first == possible[0]
        assert last in possible
        assert p[last:].sum() < 1e-6 + p[last]


def test_equal_weights_are_cut_by_id(samplers: dict[int, Sampler]) -> None:
    """Powers of two, so that every sum is exact."""
    sampler, logits = samplers[16], torch.zeros(16)
    for options, kept in (
        (SamplingOptions(temperature=1.0, top_k=5), 5),
        (SamplingOptions(temperature=1.0, top_p=0.5), 8),
        (SamplingOptions(temperature=1.0, top_p=0.5625), 9),
        (SamplingOptions(temperature=1.0, top_k=8, top_p=0.5), 4),
        (SamplingOptions(temperature=1.0, min_p=1.0), 16),
        (SamplingOptions(temperature=0.7), 16),
    ):
        p = distribution(logits, options, None, None)
        assert int((p > 0).sum()) == kept
        uniforms = [*(i / 64 for i in range(64)), LAST]
        expected = draw(p.repeat(65, 1), torch.tensor(uniforms, dtype=torch.float64)).tolist()
        assert [sampler(logits, options, uniform) for uniform in uniforms] == expected
        assert sampler(logits, options, LAST) == kept - 1


def test_of_equals_the_lowest_id_is_best(samplers: dict[int, Sampler]) -> None:
    greedy = SamplingOptions(temperature=0.0)
    for vocab, sampler in samplers.items():
        draw = random.Random(vocab)
        for _ in range(20):
            logits = torch.tensor([float(draw.randrange(3)) for _ in range(vocab)])
            assert sampler(logits, greedy) == int(logits.argmax())
            allowed = sorted(draw.sample(range(vocab), (vocab + 1) // 2))
            expected = allowed[int(logits[allowed].argmax())]
            assert sampler(logits, greedy, allowed=allowed) == expected
            seen = torch.rand(vocab) < 0.5
            strict = SamplingOptions(temperature=0.0, repetition_penalty=2.0)
            best = penalised(logits, seen, torch.tensor(2.0)).argmax()
            assert sampler(logits, strict, seen=seen) == int(best)


def test_the_penalty_goes_by_the_sign(samplers: dict[int, Sampler]) -> None:
    greedy = SamplingOptions(temperature=0.0, repetition_penalty=2.0)
    seen = torch.tensor([True, False, True])
    assert samplers[3](torch.tensor([3.0, 2.0, -1.0]), greedy, seen=seen) == 1
    assert samplers[3](torch.tensor([-1.0, -1.5, -1.0]), greedy, seen=seen) == 1
    assert samplers[3](torch.tensor([5.0, 2.0, -1.0]), greedy, seen=seen) == 0


OPTIONS = [
    SamplingOptions(temperature=0.0),
    SamplingOptions(temperature=1.0),
    SamplingOptions(temperature=1.0, top_k=3),
    SamplingOptions(temperature=1.0, top_p=0.9),
    SamplingOptions(temperature=1.0, min_p=0.1),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_nothing_is_drawn_where_a_logit_is_no_number(
    samplers: dict[int, Sampler], options: SamplingOptions
) -> None:
    for vocab, sampler in samplers.items():
        for place in {0, vocab // 2, vocab - 1}:
            logits = torch.randn(vocab)
            logits[place] = torch.nan
            assert sampler(logits, options) == -1
            assert sampler(logits, options, allowed=[0]) == -1


@pytest.mark.parametrize("options", OPTIONS)
def test_impossible_tokens_are_not_drawn(
    samplers: dict[int, Sampler], options: SamplingOptions
) -> None:
    for vocab, sampler in samplers.items():
        logits = torch.full((vocab,), -torch.inf)
        logits[vocab // 2] = -3.0
        for uniform in (0.0, 0.5, LAST):
            assert sampler(logits, options, uniform) == vocab // 2
        if vocab == 1:
            continue
        # Where every allowed one is impossible, and where none is allowed.
        assert sampler(logits, options, allowed=[vocab // 2 - 1]) == -1
        assert sampler(logits, options, allowed=[]) == -1
        # Ids beyond the logits are as good as none.
        assert sampler(logits, options, allowed=[-1, vocab // 2, vocab, 2**31 - 1]) == vocab // 2


@pytest.mark.parametrize("options", OPTIONS[1:])
def test_an_infinite_logit_is_no_distribution(
    samplers: dict[int, Sampler], options: SamplingOptions
) -> None:
    logits = torch.randn(151)
    logits[5] = torch.inf
    assert samplers[151](logits, options) == -1
    assert samplers[151](logits, SamplingOptions(temperature=0.0)) == 5


def told(sampler: Sampler, logits: Tensor, id_: int, most: int) -> tuple[float, list[int], Tensor]:
    ids, log_p = ints([-7] * max(most, 1)), torch.full((max(most, 1),), torch.nan)
    own = library().bigcode_log_probabilities(
        sampler.model.handle, floats(logits), id_, most, ids, floats(log_p), sampler.desk
    )
    return own, list(ids), log_p


def test_the_best_are_told_in_order_and_of_equals_the_lowest(samplers: dict[int, Sampler]) -> None:
    for vocab, sampler in samplers.items():
        for scale in (0.0, 1.0, 5.0):
            logits = (torch.randn(vocab) * scale).round()
            expected = logits.double().log_softmax(-1)
            order = logits.sort(descending=True, stable=True)[1]
            most, id_ = min(10, vocab), vocab // 3
            own, ids, log_p = told(sampler, logits, id_, most)
            assert own == pytest.approx(float(expected[id_]), abs=3e-6)
            assert ids == order[:most].tolist()
            assert torch.allclose(log_p.double(), expected[order[:most]], atol=3e-6)


def test_no_more_are_told_than_there_are(samplers: dict[int, Sampler]) -> None:
    logits = torch.randn(3)
    _, ids, log_p = told(samplers[3], logits, 0, 9)
    assert ids[3:] == [-7] * 6
    assert log_p[3:].isnan().all()
    assert told(samplers[3], logits, 0, 0)[1] == [-7]
    assert told(samplers[3], logits, 3, 1)[0] == -torch.inf
    assert told(samplers[3], logits, -1, 1)[0] == -torch.inf


def test_scores_are_those_of_the_logits(samplers: dict[int, Sampler]) -> None:
    """More than are in memory at once; ranks of equal logits, and entropies."""
    sampler = samplers[1025]
    model = sampler.model
    ids = torch.randint(0, 1025, (120,)).tolist()
    done, states, logits = model.feed([model.row()], [ids], range(120))
    assert done == 0
    for targets in (torch.randint(0, 1025, (120,)), logits.argmax(-1)):
        scores = torch.full((120, 3), torch.nan)
        done = library().bigcode_score(
            model.handle, floats(states), 120, ints(targets.tolist()), floats(scores)
        )
        assert done == 0
        expected = measure(logits, targets, detail=True).T
        assert torch.equal(scores[:, 1], expected[:, 1])
        assert torch.allclose(scores, expected, atol=1e-5, rtol=1e-5)
