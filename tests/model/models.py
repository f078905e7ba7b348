"""Small models with wide weights, for the tests of this room."""

from typing import Any, TypeVar

import torch
from torch import Tensor

from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.layers import GPTBigCodeBlock
from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel
from tests.model.golden_cases import draw_weights

M = TypeVar("M", bound=GPTBigCodePreTrainedModel)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
"""Where the laws of this room are tested: everything that this machine has."""


def small_config(**changes: object) -> GPTBigCodeConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 61,
        "n_positions": 48,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    sizes.update(changes)
    return GPTBigCodeConfig(**sizes)


def wide_model(
    config: GPTBigCodeConfig, attention: str = "sdpa", case: int = 0, device: str = "cpu"
) -> GPTBigCodeForCausalLM:
    """A language model whose every parameter matters, in evaluation mode."""
    return wide_of(GPTBigCodeForCausalLM, config, attention, case, device)


def wide_of(
    model_class: type[M],
    config: GPTBigCodeConfig,
    attention: str = "sdpa",
    case: int = 0,
    device: str = "cpu",
) -> M:
    """A model of any class whose every parameter matters, in evaluation mode."""
    model = model_class(config, attention)
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    model.load_state_dict(draw_weights(case, shapes), strict=False)
    return model.eval().to(device)


def blocks_of(model: GPTBigCodeForCausalLM) -> list[GPTBigCodeBlock]:
    return [block for block in model.transformer.h if isinstance(block, GPTBigCodeBlock)]


def random_ids(config: GPTBigCodeConfig, batch: int, time: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, time), generator=generator)


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest magnitude; infinite where a number is none."""
    actual = actual.cpu()
    difference = ((actual - expected).abs().max() / expected.abs().max()).item()
    return difference if difference == difference else float("inf")


def random_states(config: GPTBigCodeConfig, batch: int, time: int, seed: int = 0) -> Tensor:
    """What an encoder might give, or embeddings: ``(batch, time, n_embd)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, time, config.n_embd, generator=generator)
