"""What the tensors of a checkpoint are called, and what else may lie among them."""

from collections.abc import Mapping
from typing import TypeVar

from bigcode_cli.model.tensor_index import SCALE_SUFFIX

PREFIX = "transformer."
WTE = "transformer.wte.weight"
LM_HEAD = "lm_head.weight"
HEADS = (LM_HEAD, "score.weight", "classifier.weight", "classifier.bias")
"""What a model holds beside the decoder, each class its own."""

Stored = TypeVar("Stored")


def with_model_names(found: Mapping[str, Stored]) -> dict[str, Stored]:
    """The tensors of a checkpoint by the names of the models with a head, in their order.

    Checkpoints of the bare transformer lack its prefix; it is added. Buffers of old versions, the
    causal mask among them, are left out.
    """
    bare = WTE.removeprefix(PREFIX) in found
    return {
        PREFIX + name if bare and name.removesuffix(SCALE_SUFFIX) not in HEADS else name: stored
        for name, stored in found.items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))
        and name not in {"bias", "transformer.bias"}
    }


def is_quantized(name: str) -> bool:
    """Whether a checkpoint's tensor is one of the matrices that quantisation takes."""
    matrix = name.startswith("transformer.h.") and name.endswith(".weight")
    return (matrix and ".ln_" not in name) or name in {WTE, LM_HEAD}
