"""The fused pass against the model itself, alone and behind a backend."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bigcode_cli.backends import wide_backend
from bigcode_cli.backends.graph_weights import weights_of
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.backends.wide_backend import ManyTokens, WideBackend, fused_pass
from bigcode_cli.engine.protocol import Passage, PassageScores
from bigcode_cli.errors import ModelTooLargeError
from bigcode_cli.kernels.weights import Weights
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.names import is_quantized
from bigcode_cli.model.quantize import install, quantize_int4, quantize_int8
from bigcode_cli.records import Silence
from tests.backends.wide import VOCAB, ids_of, prompt, wide_model

ACTIVATIONS = ["relu", "silu", "gelu", "tanh", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"]
HALVES = [torch.float16, torch.bfloat16]
BIG = torch.cuda.is_available()
"""The interpreter takes milliseconds for each row of each norm."""

TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def model_of(
    device: torch.device, dtype: torch.dtype = torch.float32, **changes: Any
) -> GPTBigCodeForCausalLM:
    """A random model whose every weight says something."""
    config = wide_model()[0].config.with_changes(**{"n_layer": 2} | changes)
    torch.manual_seed(3)
    model = GPTBigCodeForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.to(device, dtype).eval()


def pass_of(model: GPTBigCodeForCausalLM) -> ManyTokens:
    norm = model.transformer.ln_f.weight
    return fused_pass(weights_of(model, model.config.vocab_size), norm.dtype, norm.device, "sdpa")


def cache_of(model: GPTBigCodeForCausalLM, rows: int, capacity: int) -> KVCache:
    norm = model.transformer.ln_f.weight
    return KVCache.allocate(model.config, rows, capacity, dtype=norm.dtype, device=norm.device)


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.isfinite().all()
    error = (got.double() - expected.double()).norm() / expected.double().norm()
    assert error < TOLERANCE[got.dtype], error


def drawn(rows: int, time: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(rows + time)
    return torch.randint(0, VOCAB, (rows, time), generator=generator).to(device)


def assert_states_are_the_models(model: GPTBigCodeForCausalLM, rows: int, time: int) -> None:
    ids = drawn(rows, time, model.device)
    every = torch.arange(rows * time, device=model.device)
    with torch.inference_mode():
        expected = model.transformer(ids, use_cache=False).last_hidden_state.flatten(0, 1)
        many = pass_of(model)
        assert_close(many.states(ids, every), expected)
        some = every.flip(0)[::3]
        assert_close(many.states(ids, some), expected[some])
        assert many.states(ids, every[:0]).shape == (0, model.config.n_embd)


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize(("rows", "time"), [(1, 1), (1, 13), (3, 5), (5, 64) if BIG else (2, 3)])
def test_states_are_those_of_the_model(
    device: torch.device, multi_query: bool, rows: int, time: int
) -> None:
    assert_states_are_the_models(model_of(device, multi_query=multi_query), rows, time)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(device: torch.device, activation: str) -> None:
    assert_states_are_the_models(model_of(device, activation_function=activation, n_layer=1), 2, 5)


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_close(
    device: torch.device, dtype: torch.dtype, multi_query: bool
) -> None:
    assert_states_are_the_models(
        model_of(device, dtype, multi_query=multi_query), 2, 40 if BIG else 7
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"n_embd": 60, "n_head": 3},
        {"n_embd": 60, "n_head": 3, "multi_query": False},
        {"n_inner": 50},
        {"n_layer": 1},
        {"n_head": 1},
        {"scale_attn_weights": False},
    ],
    ids=str,
)
def test_odd_shapes(device: torch.device, changes: dict[str, Any]) -> None:
    assert_states_are_the_models(model_of(device, **changes), 2, 21 if BIG else 5)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_weights_are_unpacked(device: torch.device, bits: int) -> None:
    model = model_of(device)
    names = [name for name in model.state_dict() if is_quantized(name)]
    for name in names:
        weight = model.get_parameter(name).detach()
        is_table = not name.startswith("transformer.h.")
        codes, scale = (quantize_int8 if bits == 8 or is_table else quantize_int4)(weight)
        install(model, name, codes, scale, torch.float32)
    assert_states_are_the_models(model, 2, 21 if BIG else 5)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("seed", range(4 if BIG else 1))
def test_chunks_are_one_pass(
    device: torch.device, seed: int, multi_query: bool, dtype: torch.dtype
) -> None:
    """Chunks of any size, down to one token, behind whatever the cache holds."""
    model = model_of(device, dtype, multi_query=multi_query)
    draws = random.Random(seed)
    rows, time = draws.choice([(1, 70), (3, 41)] if BIG else [(1, 22), (2, 11)])
    ids = drawn(rows, time, device)
    with torch.inference_mode():
        many, whole, cache = pass_of(model), cache_of(model, rows, 90), cache_of(model, rows, 90)
        every = torch.arange(rows * time, device=device)
        expected = many.states(ids, every, whole).view(rows, time, -1)
        assert whole.lengths == [time] * rows
        at = 0
        while at < time:
            size = min(draws.choice([1, 2, 16, 17, 30] if BIG else [1, 2, 5]), time - at)
            wanted = torch.arange(rows * size, device=device)
            got = many.states(ids[:, at : at + size], wanted, cache)
            assert_close(got.view(rows, size, -1), expected[:, at : at + size])
            at += size
        for own, theirs in zip(cache.layers, whole.layers, strict=True):
            assert_close(own, theirs)
        reference = cache_of(model, rows, 90)
        model.transformer(ids, past_key_values=reference, use_cache=True)
        for own, theirs in zip(whole.layers, reference.layers, strict=True):
            assert_close(own, theirs)


class Told(Silence):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def backends(device: torch.device, **changes: Any) -> tuple[WideBackend, TorchBackend, list[str]]:
    """The two of one model, and where the first one's notes go."""
    model, told = model_of(device, **changes), Told()
    info = replace(wide_model()[1], device=str(device), batch_tokens=256)
    backend = WideBackend(model, info, make_pass=fused_pass)
    backend._report = told
    return backend, TorchBackend(model, info), told.notes


def passages(*sizes: tuple[int, int]) -> list[Passage]:
    draws = random.Random(len(sizes))
    return [Passage(tuple(draws.choices(range(VOCAB), k=size)), at) for size, at in sizes]


def assert_scores(got: Sequence[PassageScores], expected: Sequence[PassageScores]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-4)
        assert one.entropies == pytest.approx(other.entropies, abs=2e-4)
        assert one.ranks == other.ranks


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("detail", [True, False])
def test_scores_are_those_of_the_reference(
    device: torch.device, detail: bool, multi_query: bool
) -> None:
    backend, reference, notes = backends(device, multi_query=multi_query)
    some = passages((5, 1), (12, 6), (2, 1), (9, 8), (12, 11))
    assert_scores(backend.score(some, detail=detail), reference.score(some, detail=detail))
    assert notes == []


def test_passages_that_are_under_way_do_not_disturb_each_other(device: torch.device) -> None:
    backend, reference, _ = backends(device)
    some = [passages((4, 1), (9, size)) for size in (1, 5, 8)]
    pending = [backend.begin_score(one, detail=True) for one in some]
    for one, flight in reversed(list(zip(some, pending, strict=True))):
        assert_scores(flight.wait(), reference.score(one, detail=True))
        assert flight.is_done()


@pytest.mark.parametrize("count", [1, 4])
def test_tails_are_scored_as_by_the_reference(device: torch.device, count: int) -> None:
    backend, reference, notes = backends(device)
    tails = [[1, 2, 3, 4], list(range(50, 57)), [9] * 5]
    expected = reference.score_tails(list(range(9)), tails, count)
    for got, wanted in zip(
        backend.score_tails(list(range(9)), tails, count), expected, strict=True
    ):
        assert got == pytest.approx(wanted, abs=2e-4)
    assert notes == []


@pytest.mark.parametrize("tokens", [1, 16, 10_000])
def test_prompts_in_chunks_of_any_size(
    device: torch.device, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wide_backend, "PASS_TOKENS", tokens)
    monkeypatch.setattr(wide_backend, "LEAST_PASS_TOKENS", 1)
    backend, reference, notes = backends(device)
    lengths = [5, 1, 11, 4] if tokens > 1 else [4]
    asked = [prompt([(row + at) % VOCAB for at in range(size)], 4)
             for row, size in enumerate(lengths)]  # fmt: skip
    assert ids_of(backend, asked, 4) == ids_of(reference, asked, 4)
    assert notes == []


def test_a_prompt_that_begins_like_the_last_one(device: torch.device) -> None:
    backend, reference, notes = backends(device)
    first, then = list(range(3, 30)), [*range(3, 22), 7, 8, 9, 1, 2]
    for ids in (first, then, [*then, 5]):
        asked = [prompt(ids, 4)]
        assert ids_of(backend, asked, 4) == ids_of(reference, asked, 4)
    assert backend.prefill([prompt([*then, 6], 2)]).reused >= len(then)
    assert notes == []


def test_progress_is_told_behind_each_chunk(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wide_backend, "PASS_TOKENS", 8)
    monkeypatch.setattr(wide_backend, "LEAST_PASS_TOKENS", 1)
    backend, _, _ = backends(device)
    told = list(backend.prefilling([prompt(range(20), 1)]))
    assert told == [(8, 20), (16, 20), (20, 20)]


def test_little_memory_makes_small_chunks(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _, _ = backends(device)
    sizes = []
    for free in (None, 2**40, 2**22, 0):
        monkeypatch.setattr(wide_backend, "free_bytes", lambda _, free=free: free)
        sizes.append(backend._chunk(1))
    assert sizes[0] == sizes[1] == wide_backend.PASS_TOKENS
    assert sizes[1] > sizes[2] > sizes[3] == wide_backend.LEAST_PASS_TOKENS


class Broken:
    """A pass that fails when it is run."""

    @staticmethod
    def measure(logits: Tensor, targets: Tensor, *, detail: bool) -> Tensor:  # noqa: ARG004
        raise RuntimeError("Failed to find C compiler.")

    def states(self, ids: Tensor, wanted: Tensor, cache: KVCache | None = None) -> Tensor:  # noqa: ARG002
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")


class Unmeasured(Broken):
    """One that fails at the logits alone."""

    def __init__(self, states: Any) -> None:
        self.states = states  # type: ignore[method-assign]


def missing(*_: object) -> ManyTokens:
    raise ImportError("Failed to find C compiler.")


@pytest.mark.parametrize("where", ["made", "run", "measured"])
def test_what_fails_is_told_once_and_the_model_serves(device: torch.device, where: str) -> None:
    backend, reference, notes = backends(device)

    def broken(weights: Weights, *options: Any) -> ManyTokens:
        return Broken() if where == "run" else Unmeasured(fused_pass(weights, *options).states)

    backend._make_pass = missing if where == "made" else broken
    some, asked = passages((6, 1), (4, 3)), [prompt(range(9), 6), prompt([5], 6)]
    for _ in range(2):
        assert_scores(backend.score(some, detail=True), reference.score(some, detail=True))
        assert ids_of(backend, asked, 6) == ids_of(reference, asked, 6)
    told = "prompts and scoring go on without Triton kernels: Failed to find C compiler."
    assert notes == [told]


def test_no_memory_is_no_reason_to_go_on_without(device: torch.device) -> None:
    backend, reference, notes = backends(device)
    some = passages((6, 1), (5, 3), (4, 2))
    real = fused_pass(backend._weights, torch.float32, device, "sdpa")

    class Cramped(Broken):
        measure = staticmethod(real.measure)

        def states(self, ids: Tensor, wanted: Tensor, cache: KVCache | None = None) -> Tensor:
            if len(ids) > room:
                raise torch.OutOfMemoryError
            return real.states(ids, wanted, cache)

    backend._make_pass, room = lambda *_: Cramped(), 1
    assert_scores(backend.score(some, detail=True), reference.score(some, detail=True))
    room = 0
    with pytest.raises(ModelTooLargeError, match="no memory"):
        backend.score(some)
    assert notes == []
