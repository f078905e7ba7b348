"""The native engine as a backend, against PyTorch."""

import copy
import ctypes
import dataclasses
import math
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.backends.loading import Loaded, load
from bigcode_cli.backends.native import NativeBackend
from bigcode_cli.backends.native_random import tensors_of
from bigcode_cli.backends.sampling import SamplingTensors, filtered_probabilities
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import Backend, Passage
from bigcode_cli.errors import (
    ModelCorruptError,
    ModelIncompleteError,
    ModelUnsupportedError,
    UsageError,
)
from bigcode_cli.kernels.native.library import Sampling
from bigcode_cli.kernels.native.model import Engine, Feed
from bigcode_cli.kernels.native.tensors import Tensor
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.random_weights import draw_model
from bigcode_cli.records import LoadOptions, ModelFolder, Quantize, SamplingOptions
from bigcode_cli.text.tokenizer import Tokenizer
from tests.backends.wide import (
    GREEDY,
    PENALISED,
    SAMPLED,
    VOCAB,
    ids_of,
    native_backend,
    native_of,
    needs_engine,
    prompt,
    wide_backend,
    wide_model,
)

pytestmark = needs_engine

MINI = Path(__file__).parents[2] / "bigcode_cli" / "builtin" / "mini"


class Silence:
    """A reporter."""

    def note(self, message: str) -> None:
        """Nothing."""

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def mini() -> Loaded[GPTBigCodeForCausalLM]:
    folder = ModelFolder(name="mini", path=MINI)
    return load(GPTBigCodeForCausalLM, folder, LoadOptions(device="cpu"), Silence())


@pytest.fixture(scope="module")
def source() -> tuple[int, ...]:
    """Ids of some code that the model was not trained on: this file's."""
    text = Path(__file__).read_text(encoding="utf-8")
    return tuple(Tokenizer.load(MINI).encode(text)[:300])


def drawn_ids(count: int, vocab: int) -> tuple[int, ...]:
    chance = random.Random(3)
    return tuple(chance.randrange(vocab) for _ in range(count))


@torch.inference_mode()
def test_mini_gives_the_same_256_tokens(
    mini: Loaded[GPTBigCodeForCausalLM], source: tuple[int, ...]
) -> None:
    """One pass of PyTorch's tells the best token at each of 256 places."""
    ids = source[:60]
    vocab = mini.model.config.vocab_size
    (got,) = ids_of(NativeBackend.of(mini, vocab, report=Silence()), [prompt(ids, 256)], 256)
    logits = mini.model(torch.tensor([[*ids, *got]])).logits[0, len(ids) - 1 : -1]
    assert got == logits.argmax(-1).tolist()
    assert len(set(got)) > 20


@torch.inference_mode()
def test_mini_scores_as_near_to_float64_as_pytorch_does(
    mini: Loaded[GPTBigCodeForCausalLM], source: tuple[int, ...]
) -> None:
    vocab = mini.model.config.vocab_size
    passage = Passage(source, 30)
    exact = copy.deepcopy(mini.model).double()
    log_p = exact(torch.tensor([source])).logits[0, 29:-1].log_softmax(-1)
    expected = log_p[range(len(source) - 30), source[30:]], -(log_p.exp() * log_p).sum(-1)

    def error(backend: Backend) -> float:
        (scores,) = backend.score([passage], detail=True)
        pairs = zip((scores.logprobs, scores.entropies), expected, strict=True)
        return max(float((torch.tensor(got) - wanted).abs().max()) for got, wanted in pairs)

    ours = error(NativeBackend.of(mini, vocab, report=Silence()))
    assert ours < 1e-3
    assert ours < 2 * error(TorchBackend.of(mini, vocab, report=Silence()))


def options_strategy() -> st.SearchStrategy[SamplingOptions]:
    return st.builds(
        SamplingOptions,
        temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
        top_k=st.sampled_from([0, 1, 2, 7, 40, 2**40]),
        top_p=st.sampled_from([0.1, 0.55, 0.93, 1.0]),
        min_p=st.sampled_from([0.0, 0.04, 0.3, 1.0]),
        repetition_penalty=st.sampled_from([1.0, 0.7, 1.3, 5.0]),
    )


@settings(max_examples=40, derandomize=True)  # by chance a draw falls on an edge
@given(st.lists(options_strategy(), min_size=1, max_size=4), st.integers(0, 2**31))
def test_a_seed_draws_what_it_draws_with_pytorch(options: list[SamplingOptions], seed: int) -> None:
    asked = [prompt(drawn_ids(9, VOCAB), 12, *options, seeds=[seed])]
    assert ids_of(native_backend(), asked, 12) == ids_of(wide_backend(), asked, 12)


def sampling(options: SamplingOptions) -> Sampling:
    return Sampling(
        options.temperature,
        min(options.top_k, VOCAB),
        options.top_p,
        options.min_p,
        options.repetition_penalty,
    )


@settings(max_examples=60)
@given(options_strategy(), st.integers(0, 2**31))
def test_draws_have_the_distribution_of_the_filters(options: SamplingOptions, seed: int) -> None:
    """A little before and behind each edge of the cumulative distribution."""
    if options.greedy:
        return
    engine = native_backend()._engine
    chance = random.Random(seed)
    logits = [chance.gauss(0, 3) for _ in range(VOCAB)]
    numbers = (ctypes.c_float * VOCAB)(*logits)
    tensors = SamplingTensors.of([options], VOCAB, torch.device("cpu"))
    p = filtered_probabilities(torch.tensor([logits]), tensors)[0].double()
    reached = 0.0
    for id_, share in enumerate((p / p.sum()).tolist()):
        if share > 1e-4:
            for uniform in (reached + 1e-5, reached + share - 1e-5):
                assert engine.sample(numbers, sampling(options), uniform) == id_
        reached += share


def test_of_equal_logits_the_lowest_id_is_the_best() -> None:
    engine = native_backend()._engine
    logits = (ctypes.c_float * VOCAB)()
    assert engine.sample(logits, sampling(GREEDY), 0.9) == 0
    two = SamplingOptions(temperature=1.0, top_k=2)
    assert [engine.sample(logits, sampling(two), u) for u in (0.0, 0.49, 0.51, 0.999)] == [
        0,
        0,
        1,
        1,
    ]
    _, best = engine.log_probabilities(logits, 5, 3)
    assert [id_ for id_, _ in best] == [0, 1, 2]
    assert [log_p for _, log_p in best] == pytest.approx([-math.log(VOCAB)] * 3)


def test_log_probabilities_are_over_the_ids_that_may_be_sampled() -> None:
    told = dataclasses.replace(prompt([1, 2, 3], 4), logprobs=200)
    ours, theirs = (
        [rows.step()[0] for _ in range(4)]
        for rows in (
            opened(sampled_vocab=20).prefill([told]) for opened in (native_backend, wide_backend)
        )
    )
    for token, other in zip(ours, theirs, strict=True):
        assert len(token.top) == 20
        assert dict(token.top) == pytest.approx(dict(other.top), abs=1e-5)


def test_logits_that_are_no_numbers_are_an_error() -> None:
    model, _ = wide_model()
    with torch.no_grad():
        model.lm_head.weight[3] = math.nan
    for options in (GREEDY, SAMPLED, PENALISED):
        rows = native_of(model, VOCAB).prefill([prompt([1, 2], 5, options)])
        with pytest.raises(ModelCorruptError, match="not numbers"):
            rows.step()


@pytest.mark.parametrize("options", [GREEDY, SAMPLED])
def test_so_is_a_best_one_that_is_infinite(options: SamplingOptions) -> None:
    engine = native_backend()._engine
    for logits in ([0.0] * 9 + [math.inf] + [0.0] * (VOCAB - 10), [-math.inf] * VOCAB):
        with pytest.raises(ModelCorruptError, match="not numbers"):
            engine.sample((ctypes.c_float * VOCAB)(*logits), sampling(options), 0.5)


def test_a_row_goes_on_behind_a_step_that_failed() -> None:
    """What the failed pass was fed is neither kept nor fed twice."""
    model, _ = wide_model()
    expected = ids_of(native_of(model, VOCAB), [prompt(range(20), 9)], 9)[0]
    backend = native_of(model, VOCAB)
    rows = backend.prefill([prompt(range(20), 9)])
    got = [rows.step()[0].id for _ in range(3)]
    with torch.no_grad():
        kept, model.lm_head.weight[3] = model.lm_head.weight[3].clone(), torch.nan
        with pytest.raises(ModelCorruptError):
            rows.step()
        model.lm_head.weight[3] = kept
    got += [rows.step()[0].id for _ in range(6)]
    assert got == expected
    assert backend.prefill([prompt([*range(20), *expected[:5], 1, 1], 9)]).reused == 25


def test_steps_end_with_the_context() -> None:
    rows = native_backend().prefill([prompt([1] * 198, 50)])
    for _ in range(3):
        rows.step()
    with pytest.raises(UsageError, match="201 tokens exceed"):
        rows.step()


def test_an_id_that_the_model_does_not_know_is_refused() -> None:
    backend = native_backend()
    for ids in ([3, VOCAB], [-1, 3]):
        with pytest.raises(ModelCorruptError, match="none of the model"):
            backend.prefill([prompt(ids, 4)])
        with pytest.raises(ModelCorruptError):
            backend.score([Passage((1, *ids), 1)])


def test_places_and_counts_that_are_not_there_are_refused() -> None:
    engine = native_backend()._engine
    cache = engine.cache(9)
    for feed in (
        Feed(cache, [], range(0)),
        Feed(cache, [1, 2], range(1, 3)),
        Feed(cache, [1, 2], range(-1, 1)),
        Feed(cache, [1, 2], range(0, 2, 2)),
    ):
        with pytest.raises(ValueError, match="wanted"):
            engine.feed([feed])
    with pytest.raises(ValueError, match="targets"):
        engine.measure([Feed(cache, [1, 2], range(2))], [1])
    with pytest.raises(ValueError, match="9 tokens of 0"):
        engine.cache(9).take(cache, 9)


def test_a_cache_grows_and_keeps_what_it_holds() -> None:
    engine = native_backend()._engine
    ids = drawn_ids(60, VOCAB)
    small, large = engine.cache(1), engine.cache(200)
    for at, id_ in enumerate(ids):
        logits = [engine.feed([Feed(cache, [id_], range(1))]).at(0)[:] for cache in (small, large)]
        assert logits[0] == logits[1], at


def logits_of(engine: Engine, ids: Sequence[int]) -> torch.Tensor:
    logits = engine.feed([Feed(engine.cache(len(ids)), ids, range(len(ids)))])
    return torch.tensor([logits.at(place)[:] for place in range(len(ids))])


def engine_of(model: GPTBigCodeForCausalLM, tensors: Mapping[str, Tensor], **other: Any) -> Engine:
    options = {"vocab": VOCAB, "threads": 2, "quantises": False, **other}
    return Engine(model.config, tensors, **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_what_they_are_in_float32(dtype: torch.dtype) -> None:
    """Norms and biases are converted, matrices read as they lie."""
    model, _ = wide_model()
    half = model.to(dtype)
    got = logits_of(engine_of(half, tensors_of(half)), range(50))
    exact = half.float()
    assert torch.equal(got, logits_of(engine_of(exact, tensors_of(exact)), range(50)))


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_quantised_model_is_nearly_the_one_that_pytorch_runs(quantize: Quantize) -> None:
    config = dataclasses.replace(wide_model()[0].config, n_embd=128, vocab_size=300)
    model = draw_model(
        config,
        device=torch.device("cpu"),
        dtype=torch.float32,
        quantize=quantize,
        attn_implementation="sdpa",
    )
    loaded = Loaded(model, torch.device("cpu"), "float32", quantize, 0)
    backend = NativeBackend.of(loaded, 300, report=Silence())
    ids = drawn_ids(60, 300)
    expected = model(torch.tensor([ids])).logits[0].detach()
    got = logits_of(backend._engine, ids)
    assert (got - expected).norm() < 0.03 * expected.norm()
    assert backend.info.weights == quantize


def test_tensors_may_lie_where_no_number_should() -> None:
    """A file's bytes are aligned to nothing; what is not is copied."""
    model, _ = wide_model()
    expected = logits_of(engine_of(model, tensors_of(model)), range(30))
    moved = {}
    for name, tensor in tensors_of(model).items():
        size = 4 * math.prod(tensor.shape)
        buffer = ctypes.create_string_buffer(b"x" + ctypes.string_at(tensor.address, size))
        lying = ctypes.addressof(buffer) + 1
        moved[name] = dataclasses.replace(tensor, address=lying, owner=buffer)
    engine = engine_of(model, moved)
    assert torch.equal(logits_of(engine, range(30)), expected)
    parts = engine._parts
    matrices = [parts.tokens, parts.positions, parts.head, *(one.up for one in parts.layers)]
    assert all(matrix.weights % 4 == 0 for matrix in matrices)


def test_a_tensor_that_is_missing_or_another_is_refused() -> None:
    model, _ = wide_model()
    tensors = tensors_of(model)
    for name, tensor in tensors.items():
        rest = {other: tensors[other] for other in tensors if other != name}
        with pytest.raises(ModelIncompleteError, match=name):
            engine_of(model, rest)
        longer = dataclasses.replace(tensor, shape=(tensor.shape[0] + 1, *tensor.shape[1:]))
        for wrong in (longer, dataclasses.replace(tensor, dtype="I64")):
            with pytest.raises(ModelCorruptError, match=name):
                engine_of(model, {**rest, name: wrong})
    table = "transformer.wpe.weight"
    with pytest.raises(ModelCorruptError, match=table):
        engine_of(model, {**tensors, table: dataclasses.replace(tensors[table], dtype="U8")})
    coded = dataclasses.replace(tensors["lm_head.weight"], dtype="I8")
    with pytest.raises(ModelIncompleteError, match=r"lm_head\.weight_scale"):
        engine_of(model, {**tensors, "lm_head.weight": coded})


def test_what_the_engine_cannot_run_is_refused() -> None:
    model, _ = wide_model()
    crossed = dataclasses.replace(model.config, add_cross_attention=True, multi_query=False)
    with pytest.raises(ModelUnsupportedError, match="cross-attention"):
        Engine(crossed, {}, vocab=9, threads=1, quantises=False)
    with pytest.raises(UsageError, match="no altivec"):
        engine_of(model, tensors_of(model), instructions="altivec")
    with pytest.raises(ValueError, match="0 threads"):
        engine_of(model, tensors_of(model), threads=0)


WITHOUT_TORCH = """
import ctypes, random, sys
from bigcode_cli.backends.native import NativeBackend, info_of
from bigcode_cli.engine.protocol import Passage, Prompt, Sampler
from bigcode_cli.kernels.native.model import Engine
from bigcode_cli.kernels.native.tensors import Tensor
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import SamplingOptions
config = GPTBigCodeConfig(vocab_size=50, n_positions=64, n_embd=16, n_layer=2, n_head=2)
chance, tensors = random.Random(1), {}
for name, shape in config.tensor_shapes().items():
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    numbers = (ctypes.c_float * count)(*[chance.gauss(0, 0.5) for _ in range(count)])
    tensors[name] = Tensor("F32", shape, ctypes.addressof(numbers), numbers)
engine = Engine(config, tensors, vocab=50, threads=2, quantises=False)
backend = NativeBackend(engine, info_of(engine, "float32", 0))
sampler = Sampler(options=SamplingOptions(temperature=0.8), seed=1)
rows = backend.prefill([Prompt(ids=(1, 2), samplers=(sampler,), max_new_tokens=9, logprobs=2)])
for _ in range(9):
    rows.step()
backend.score([Passage((1, 2, 3), 1)], detail=True)
print([name for name in ("torch", "numpy", "safetensors") if name in sys.modules])
"""


def test_nothing_on_the_way_imports_torch() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
