"""A small random model behind each backend, and prompts for it."""

from collections.abc import Sequence

import pytest
import torch

from bigcode_cli.backends.graph import GraphBackend, StepMaker, plain
from bigcode_cli.backends.native import NativeBackend, info_of
from bigcode_cli.backends.native_random import tensors_of
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import Backend, BackendInfo, Prompt, Sampler
from bigcode_cli.kernels.native.library import is_built
from bigcode_cli.kernels.native.model import Engine
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import SamplingOptions

VOCAB = 97
GREEDY = SamplingOptions()
SAMPLED = SamplingOptions(temperature=0.9, top_k=40, top_p=0.95)
PENALISED = SamplingOptions(temperature=0.7, repetition_penalty=1.3, min_p=0.02)
GREEDY_PENALISED = SamplingOptions(repetition_penalty=2.0)


def wide_backend(*, multi_query: bool = True, sampled_vocab: int = VOCAB) -> TorchBackend:
    """``wide_model`` behind the PyTorch backend."""
    model, info = wide_model(multi_query=multi_query, sampled_vocab=sampled_vocab)
    return TorchBackend(model, info)


def native_backend(*, multi_query: bool = True, sampled_vocab: int = VOCAB) -> NativeBackend:
    """``wide_model`` behind the native backend."""
    model, _ = wide_model(multi_query=multi_query, sampled_vocab=sampled_vocab)
    return native_of(model, sampled_vocab)


def native_of(model: GPTBigCodeForCausalLM, vocab: int) -> NativeBackend:
    """A model of float32 weights behind the native backend."""
    tensors = tensors_of(model)
    engine = Engine(model.config, tensors, vocab=vocab, threads=2, quantises=False)
    return NativeBackend(engine, info_of(engine, "float32", 0))


needs_engine = pytest.mark.skipif(not is_built(), reason="the native engine is not built")
NATIVE = pytest.param(native_backend, id="native", marks=needs_engine)


def graph_backend(
    *,
    multi_query: bool = True,
    sampled_vocab: int = VOCAB,
    makers: tuple[tuple[str, StepMaker], ...] = (("plain steps", plain),),
) -> GraphBackend:
    """``wide_model`` behind the graph backend, of whose steps nothing is captured on a CPU."""
    model, info = wide_model(multi_query=multi_query, sampled_vocab=sampled_vocab)
    return GraphBackend(model, info, makers=makers)


def wide_model(
    *, multi_query: bool = True, sampled_vocab: int = VOCAB
) -> tuple[GPTBigCodeForCausalLM, BackendInfo]:
    """A random model whose logits differ enough that every choice is clear."""
    config = GPTBigCodeConfig.from_dict(
        {
            "model_type": "gpt_bigcode",
            "vocab_size": VOCAB,
            "n_positions": 200,
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "multi_query": multi_query,
            "tie_word_embeddings": False,
        }
    )
    torch.manual_seed(11)
    model = GPTBigCodeForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
        # Strong positions keep greedy outputs from going round in a circle.
        model.transformer.wpe.weight.mul_(4)
    info = BackendInfo(
        name="torch",
        device="cpu",
        dtype="float32",
        weights="float32",
        n_positions=config.n_positions,
        batch_tokens=2048,
        prefill_tokens=512,
        max_rows=16,
        vocab_size=sampled_vocab,
        weight_bytes=0,
    )
    return model, info


def prompt(
    ids: Sequence[int], tokens: int, *options: SamplingOptions, seeds: Sequence[int] = (5,)
) -> Prompt:
    samplers = tuple(Sampler(options=o, seed=seed) for o in options or (GREEDY,) for seed in seeds)
    return Prompt(ids=tuple(ids), samplers=samplers, max_new_tokens=tokens)


def ids_of(backend: Backend, prompts: Sequence[Prompt], steps: int) -> list[list[int]]:
    rows = backend.prefill(prompts)
    return [
        list(row) for row in zip(*[[t.id for t in rows.step()] for _ in range(steps)], strict=True)
    ]
