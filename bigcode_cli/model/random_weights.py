"""A model of any shape with weights drawn at random: as fast as the trained one, and no better.

What a model's arithmetic costs depends on its shape and not on its numbers, as long as they are no
zeros: those can run faster than real ones.
"""

import math
from functools import partial

import torch
from torch import Tensor

from bigcode_cli.errors import ModelTooLargeError
from bigcode_cli.model.attention import require_flash
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.reader import Reader
from bigcode_cli.model.stored import Stored
from bigcode_cli.records import Quantize


def draw_model(
    config: GPTBigCodeConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    quantize: Quantize = "none",
    attn_implementation: str = "auto",
) -> GPTBigCodeForCausalLM:
    """The same numbers each time on one kind of device, one tensor after the other.

    Raises:
        ModelTooLargeError: the device has no memory for the weights.
        UsageError: the attention asked for cannot work there.
    """
    if attn_implementation == "flash_attention_2":
        require_flash(device, dtype, config.head_dim)
    with torch.device("meta"):
        model = GPTBigCodeForCausalLM(config, attn_implementation)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    stored = {
        name: Stored(
            shape=shape,
            size=math.prod(shape) * dtype.itemsize,
            quantized=False,
            read=partial(_draw, name, shape, seed, device, dtype, config.initializer_range),
        )
        for seed, (name, shape) in enumerate(shapes.items())
    }
    reader = Reader(model, stored, config.tie_word_embeddings, device, dtype, quantize)
    try:
        for name in stored:
            reader.load(name)
    except torch.OutOfMemoryError as error:
        raise ModelTooLargeError(
            f"{device} has no memory left for the weights", "try --quantize int8"
        ) from error
    return model.eval()


def _draw(
    name: str,
    shape: tuple[int, ...],
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    deviation: float,
) -> Tensor:
    """Normal around 0; the weights of norms around 1."""
    stream = torch.Generator(device).manual_seed(seed)
    drawn = torch.randn(shape, generator=stream, device=device, dtype=dtype) * deviation
    is_norm = name.rpartition(".")[0].rpartition(".")[2].startswith("ln_")
    return drawn + 1 if is_norm and name.endswith("weight") else drawn
