"""Scaled dot-product attention (Vaswani et al. 2017), multi-head and multi-query (Shazeer 2019).

Three implementations of one function: ``eager``, slow and obvious, which the others are tested
against; ``sdpa``, PyTorch's fused kernels; ``flash``, the flash-attn package (Dao 2023).

All take queries ``(batch, heads, time, head_dim)``, keys and values ``(batch, kv_heads, slots,
head_dim)`` with ``kv_heads`` 1 or ``heads``, and give ``(batch, heads, time, head_dim)``.
"""

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bigcode_cli.errors import UsageError


class Visible(NamedTuple):
    """Which slots each query may see: its own and all before it.

    Attributes:
        mask: bool ``(batch or 1, 1, time, slots)``, true where a query sees a slot; ``None`` where
            none is needed.
        causal: query i sits at slot i: the slots hold nothing but the new tokens. With neither
            mask nor this, each query sees all slots.
        ends: int32 ``(batch,)``, slots that each row fills; ``None`` where all rows fill all.
    """

    mask: Tensor | None = None
    causal: bool = False
    ends: Tensor | None = None


class Scaling(NamedTuple):
    """How scores become weights.

    Attributes:
        scale: factor of the scores, ``1 / sqrt(head_dim)`` or 1.
        softmax_in_fp32: softmax in float32 whatever the activations are.
        layer_factor: with it, half-precision scores are divided by this before the softmax and
            multiplied back in float32, so that they cannot overflow.
    """

    scale: float
    softmax_in_fp32: bool = True
    layer_factor: float = 1.0


Attend = Callable[[Tensor, Tensor, Tensor, Visible, Scaling, float], Tensor]


def eager(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Visible,
    scaling: Scaling,
    dropout: float = 0.0,
) -> Tensor:
    """Attention as it is written in the paper: the reference, every flag honoured to the letter.

    The flags act as in transformers 4.37.2 (``modeling_gpt_bigcode.py``, ``_attn``); later
    versions ignore them.
    """
    upcast = scaling.softmax_in_fp32 and query.dtype != torch.float32
    factor = scaling.layer_factor if upcast else 1.0
    scores = (query * (scaling.scale / factor)) @ keys.mT
    if upcast:
        scores = scores.float() * factor
    mask = visible.mask
    if visible.causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = functional.dropout(scores.softmax(dim=-1).to(query.dtype), dropout)
    return weights @ values


def sdpa(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Visible,
    scaling: Scaling,
    dropout: float = 0.0,
) -> Tensor:
    """Attention by PyTorch's fused kernels, which keep scores and softmax in float32 throughout.

    One-token steps of multi-query attention read the one key head once: the query heads, which
    all see the same slots, take the place of time. ``is_causal`` is aligned to the top left, so
    it serves only where the slots hold nothing but the new tokens.
    """
    heads, time = query.shape[1:3]
    folded = time == 1 and keys.shape[1] == 1
    if folded:
        query = query.transpose(1, 2)
    elif keys.shape[1] != heads:
        keys, values = (shared.expand(-1, heads, -1, -1) for shared in (keys, values))
        if keys.requires_grad:
            # torch.compile mispredicts the layout of the gradient of a head shared by stride 0.
            keys, values = keys.contiguous(), values.contiguous()
    output = functional.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=visible.mask,
        dropout_p=dropout,
        is_causal=visible.causal and time > 1,
        scale=scaling.scale,
    )
    return output.transpose(1, 2) if folded else output


def flash(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Visible,
    scaling: Scaling,
    dropout: float = 0.0,
) -> Tensor:
    """Attention by the flash-attn package, whose causal mask is aligned to the bottom right.

    Raises:
        UsageError: see ``require_flash``.
    """
    require_flash(query.device, query.dtype)
    from flash_attn import flash_attn_func, flash_attn_with_kvcache

    query, keys, values = (part.transpose(1, 2) for part in (query, keys, values))
    if visible.ends is None:
        output: Tensor = flash_attn_func(
            query, keys, values, dropout_p=dropout, softmax_scale=scaling.scale, causal=True
        )
    else:
        output = flash_attn_with_kvcache(
            query,
            keys,
            values,
            cache_seqlens=visible.ends,
            softmax_scale=scaling.scale,
            causal=True,
        )
    return output.transpose(1, 2)


def require_flash(device: torch.device, dtype: torch.dtype) -> None:
    """Raise unless ``flash`` can work here.

    Raises:
        UsageError: what is missing: a CUDA device, a half-precision dtype, or the package.
    """
    missing = []
    if device.type != "cuda":
        missing.append(f"a CUDA device, not {device.type}")
    if dtype not in {torch.float16, torch.bfloat16}:
        missing.append(f"float16 or bfloat16, not {str(dtype).removeprefix('torch.')}")
    if importlib.util.find_spec("flash_attn") is None:
        missing.append("the flash-attn package")
    if missing:
        raise UsageError(
            f"--attention flash needs {' and '.join(missing)}",
            "use --attention sdpa, or pip install 'bigcode-cli[flash]' beside a CUDA GPU",
        )


ATTENTION: dict[str, Attend] = {"eager": eager, "sdpa": sdpa, "flash": flash}
