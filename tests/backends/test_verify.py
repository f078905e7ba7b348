"""Several guessed tokens a pass against one token a step, of either backend."""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any, Protocol

import pytest
import torch

from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import Backend, BackendInfo, Prompt, Rows, Token
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import SamplingOptions
from tests.backends.wide import (
    GREEDY,
    NATIVE,
    SAMPLED,
    VOCAB,
    graph_backend,
    ids_of,
    prompt,
    wide_backend,
)
from tests.sessions import random_model

PENALISED = SamplingOptions(temperature=0.8, top_k=30, min_p=0.01, repetition_penalty=1.7)
PROMPTS = ([1, 2, 3], [7], list(range(3, 60)), [9, 9, 4, 80, 33, 2, 1])
CONFIGS: list[dict[str, Any]] = [
    {"multi_query": True, "n_head": 4, "n_layer": 3},
    {"multi_query": False, "n_head": 4, "n_layer": 2},
    {"multi_query": True, "n_head": 2, "n_layer": 1, "activation_function": "gelu"},
    {"multi_query": False, "n_head": 8, "n_layer": 4, "n_inner": 48},
    {"multi_query": True, "n_head": 8, "n_layer": 2, "scale_attn_weights": False},
    {"multi_query": True, "n_head": 1, "n_layer": 5, "tie_word_embeddings": True},
]


either = pytest.mark.parametrize(
    "opened",
    [pytest.param(wide_backend, id="torch"), pytest.param(graph_backend, id="graph"), NATIVE],
)


class Opener(Protocol):
    """How a backend before ``wide_model`` is made."""

    def __call__(self, *, multi_query: bool = True) -> Backend: ...


def guessed(wanted: Sequence[int], chance: random.Random) -> list[int]:
    """Some of what is wanted, right to some place."""
    guess = list(wanted[: chance.randrange(9)])
    if guess and chance.random() < 0.6:
        place = chance.randrange(len(guess))
        guess[place] = (guess[place] + 1 + chance.randrange(VOCAB - 1)) % VOCAB
    return guess


def verified(
    rows: Rows, expected: Sequence[Sequence[int]], *, seed: int = 3
) -> tuple[list[list[int]], list[list[Token]]]:
    """Rows to the end of what is expected of them, by guesses that hold now and then."""
    chance = random.Random(seed)
    got: list[list[int]] = [[] for _ in expected]
    tokens: list[list[Token]] = [[] for _ in expected]
    live = list(range(len(expected)))
    while live:
        guesses = [guessed(expected[row][len(got[row]) :], chance) for row in live]
        begun = bool(got[0])
        for row, guess, taken in zip(live, guesses, rows.verify(guesses), strict=True):
            agreed = 0
            wanted = expected[row][len(got[row]) :]
            while (
                begun
                and agreed < len(guess)
                and guess[agreed : agreed + 1] == wanted[agreed : agreed + 1]
            ):
                agreed += 1
            assert len(taken) == agreed + 1
            got[row] += [token.id for token in taken]
            tokens[row] += taken
        left = [place for place, row in enumerate(live) if len(got[row]) < len(expected[row])]
        if 0 < len(left) < len(live):
            rows.keep(left)
        live = [live[place] for place in left]
    return [row[: len(wanted)] for row, wanted in zip(got, expected, strict=True)], tokens


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_greedy_output_is_identical_for_256_tokens(number: int) -> None:
    config = GPTBigCodeConfig.from_dict(
        {
            "model_type": "gpt_bigcode",
            "vocab_size": VOCAB,
            "n_positions": 400,
            "n_embd": 32,
            "tie_word_embeddings": False,
            **CONFIGS[number],
        }
    )
    model = random_model(config, seed=number)
    with torch.no_grad():
        model.transformer.wpe.weight.mul_(4)
    info = BackendInfo(
        name="torch", device="cpu", dtype="float32", weights="float32", n_positions=400,
        batch_tokens=2048, prefill_tokens=512, max_rows=16, vocab_size=VOCAB, weight_bytes=0,
    )  # fmt: skip
    backend = TorchBackend(model, info)
    asked = [prompt(ids, 300) for ids in PROMPTS]
    expected = ids_of(backend, asked, 256)
    assert len(set(expected[0])) > 5
    alone, _ = verified(backend.prefill(asked[:1]), expected[:1], seed=number)
    together, _ = verified(backend.prefill(asked), expected, seed=number)
    assert [alone[0], *together] == [expected[0], *expected]


@either
@pytest.mark.parametrize("seed", range(6))
def test_sampled_and_penalised_rows_are_those_of_steps(seed: int, opened: Opener) -> None:
    backend = opened(multi_query=seed % 2 == 0)
    asked = [
        prompt(PROMPTS[0], 90, GREEDY, SAMPLED, PENALISED, seeds=[seed]),
        dataclasses.replace(prompt(PROMPTS[2], 90, PENALISED, seeds=[1, 2]), first_ids=(5, 6)),
        prompt(PROMPTS[3], 90, SamplingOptions(repetition_penalty=3.0)),
    ]
    expected = ids_of(wide_backend(multi_query=seed % 2 == 0), asked, 55)
    got, _ = verified(backend.prefill(asked), expected, seed=seed)
    assert got == expected


@either
def test_logprobs_are_those_of_steps(opened: Opener) -> None:
    backend = opened()
    told = dataclasses.replace(prompt(PROMPTS[0], 90, SAMPLED, PENALISED), logprobs=3)
    asked = [told, prompt(PROMPTS[3], 90)]
    rows = wide_backend().prefill(asked)
    expected = [list(row) for row in zip(*[rows.step() for _ in range(50)], strict=True)]
    _, tokens = verified(backend.prefill(asked), [[t.id for t in row] for row in expected])
    for got, wanted in zip(tokens, expected, strict=True):
        for token, other in zip(got, wanted, strict=False):
            assert token.id == other.id
            assert token.logprob == pytest.approx(other.logprob, abs=1e-4)
            assert [id_ for id_, _ in token.top] == [id_ for id_, _ in other.top]
            assert [v for _, v in token.top] == pytest.approx([v for _, v in other.top], abs=1e-4)


@either
def test_no_guess_reaches_beyond_the_context(opened: Opener) -> None:
    backend = opened()
    long, short = [4] * 180, [5, 6]
    asked = [prompt(long, 20), prompt(short, 190)]
    expected = [ids_of(wide_backend(), [one], 20)[0] for one in asked]
    rows = backend.prefill(asked)
    got: list[list[int]] = [[], []]
    while len(got[0]) < 20:
        guesses = [row[len(own) :] for row, own in zip(expected, got, strict=True)]
        guesses[1] += [0] * (25 - len(guesses[1]))
        for own, taken in zip(got, rows.verify(guesses), strict=True):
            own += [token.id for token in taken]
    assert got[0][:20] == expected[0]
    assert got[1][:20] == expected[1]


@either
def test_the_cache_holds_no_token_that_was_not_taken(opened: Opener) -> None:
    backend = opened()
    asked = prompt(PROMPTS[2], 40)
    (expected,) = ids_of(backend, [asked], 20)
    backend.forget()
    rows = backend.prefill([asked])
    rows.step()
    assert len(rows.verify([[*expected[1:4], VOCAB - 1, 3, 3]])[0]) == 4
    # What was taken is reused, but for the last one, which was not fed yet; what was guessed wrong
    # is not, even where a prompt holds just that.
    held = len(asked.ids) + 4
    lie = prompt([*asked.ids, *expected[:4], VOCAB - 1, 3, 3, 3], 40)
    assert backend.prefill([lie]).reused == held
    backend.forget()
    fresh = ids_of(backend, [lie], 20)
    backend.forget()
    rows = backend.prefill([asked])
    rows.step()
    rows.verify([[*expected[1:4], VOCAB - 1, 3, 3]])
    assert ids_of(backend, [lie], 20) == fresh


def continued(rows: Rows, count: int) -> list[list[int]]:
    return [
        list(row) for row in zip(*[[t.id for t in rows.step()] for _ in range(count)], strict=True)
    ]


@either
@pytest.mark.parametrize("steps", [0, 1, 6])
def test_rows_go_on_behind_other_tokens_as_if_they_had_sampled_them(
    steps: int, opened: Opener
) -> None:
    backend = opened()
    asked: list[Prompt] = [
        prompt(PROMPTS[3], 60, PENALISED, SAMPLED, seeds=[4]),
        dataclasses.replace(prompt(PROMPTS[0], 60, PENALISED), first_ids=(11,)),
    ]
    expected = ids_of(wide_backend(), asked, 30)
    rows = backend.prefill(asked)
    # Other tokens were sampled before: what they counted for penalties must not stay.
    own = continued(rows, steps) if steps else [[], [], []]
    kept = [min(place, steps) for place in (0, 3, 5)]
    ends = [9, 4, 7]
    strange = [[90, 91, 90][: max(0, steps - k)] for k in kept]
    rows.replace([steps - k for k in kept], [s or own[0][:1] or [1] for s in strange])
    behind = [len(s or own[0][:1] or [1]) for s in strange]
    rows.replace(behind, [row[k:end] for row, k, end in zip(expected, kept, ends, strict=True)])
    if steps:
        assert own == [row[:steps] for row in expected]
    got = continued(rows, 20)
    assert got == [row[end : end + 20] for row, end in zip(expected, ends, strict=True)]
