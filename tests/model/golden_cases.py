"""Small random models that both this package and transformers can build, number for number.

Configurations, weights and inputs come from Python's Mersenne Twister, which gives the same bytes
everywhere, so that the golden file holds logits alone. Weights, biases and norms are drawn wide:
with the family's own initialisation biases are zero and the GELUs agree within 1e-5, and a wrong
model would pass. This module needs torch only.
"""

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GOLDEN_FILE = Path(__file__).with_name("golden") / "logits.safetensors"

ACTIVATIONS = (
    "gelu",
    "gelu_new",
    "gelu_pytorch_tanh",
    "gelu_fast",
    "relu",
    "silu",
    "tanh",
    "swish",
)
COUNT = 32
BATCH = 2


def draw_config(case: int) -> dict[str, Any]:
    """Keys of a ``config.json``: each activation with multi-query and multi-head attention."""
    draw = random.Random(f"config {case}")
    heads = draw.choice((1, 2, 3, 4, 6, 8))
    width = heads * draw.choice((4, 6, 8, 10))
    return {
        "model_type": "gpt_bigcode",
        "vocab_size": draw.choice((53, 67, 84, 97, 101)),
        "n_positions": draw.choice((24, 31, 48)),
        "n_embd": width,
        "n_layer": draw.choice((1, 2, 3, 4)),
        "n_head": heads,
        "n_inner": draw.choice((None, 2 * width + 3, 5 * width)),
        "activation_function": ACTIVATIONS[case % len(ACTIVATIONS)],
        "layer_norm_epsilon": draw.choice((1e-5, 1e-3, 0.1)),
        "scale_attn_weights": draw.random() < 0.6,
        "attention_softmax_in_fp32": draw.random() < 0.7,
        "scale_attention_softmax_in_fp32": draw.random() < 0.7,
        "multi_query": (case // len(ACTIVATIONS)) % 2 == 0,
        "tie_word_embeddings": draw.random() < 0.7,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def draw_weights(case: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Float32 tensors for every name, uniform; the names' order does not matter."""
    return {name: _draw(f"{case} {name}", name, shape) for name, shape in shapes.items()}


def _draw(seed: str, name: str, shape: tuple[int, ...]) -> Tensor:
    count = math.prod(shape)
    raw = bytearray(random.Random(seed).randbytes(2 * count))
    numbers = torch.frombuffer(raw, dtype=torch.int16).float().div(2**15).view(shape)
    if "ln_" in name:
        return numbers * 0.7 + (1.0 if name.endswith("weight") else 0.0)
    if name.endswith("bias"):
        return numbers * 0.7
    if "wte" in name or "wpe" in name or "lm_head" in name:
        return numbers * 1.2
    return numbers * (2.5 / math.sqrt(shape[1]))


def draw_inputs(case: int, config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Ids and positions, ``(batch, time)`` each; in odd cases positions do not begin at 0."""
    draw = random.Random(f"inputs {case}")
    time = draw.randrange(12, 20)
    ids = [[draw.randrange(config["vocab_size"]) for _ in range(time)] for _ in range(BATCH)]
    starts = [draw.randrange(5) if case % 2 else 0 for _ in range(BATCH)]
    positions = torch.tensor(starts)[:, None] + torch.arange(time)
    return torch.tensor(ids), positions
