"""Scaled dot-product attention (Vaswani et al. 2017), multi-head and multi-query (Shazeer 2019).

Three implementations of one function: ``eager``, slow and obvious, which the others are tested
against; ``sdpa``, PyTorch's kernels, which fuse cast, mask, softmax and scale into one; ``flash``,
the flash-attn package (Dao 2023).

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
    """Which slots each query may see.

    Attributes:
        mask: ``(batch or 1, heads or 1, time, slots)``: bool, true where a query sees a slot, one
            slot at least; or a float that is added to the scores, all of it finite. ``None`` where
            none is needed.
        causal: query i sits at slot i: the slots hold nothing but the new tokens. With neither
            mask nor this, each query sees all slots.
        ends: int32 ``(batch,)``, slots that each row fills; ``None`` where all rows fill all.
        is_plain: the queries are the last slots of their row, and each sees its own slot and all
            before it, no matter what ``mask`` holds: what ``flash`` can do.
    """

    mask: Tensor | None = None
    causal: bool = False
    ends: Tensor | None = None
    is_plain: bool = True


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

_FLASH_WIDEST_HEAD = 256


def attention_weights(
    query: Tensor,
    keys: Tensor,
    visible: Visible,
    scaling: Scaling,
    dropout: float = 0.0,
    head_mask: Tensor | None = None,
) -> Tensor:
    """How much each query takes of each slot, ``(batch, heads, time, slots)``.

    The flags act as in transformers 4.37.2 (``modeling_gpt_bigcode.py``, ``_attn``), to the letter;
    later versions ignore them.

    Args:
        dropout: the share of weights that is dropped.
        head_mask: ``(heads,)``, what each head's weights are multiplied by, behind the dropout.
    """
    upcast = scaling.softmax_in_fp32 and query.dtype != torch.float32
    factor = scaling.layer_factor if upcast else 1.0
    scores = _scores(query, keys, scaling.scale / factor)
    if upcast:
        scores = scores.float() * factor
    mask = visible.mask
    if visible.causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -torch.inf)
        else:
            # The lowest float16, added to a score, may be minus infinity: of that alone, the
            # softmax would make no number.
            scores = (scores + mask).clamp(min=torch.finfo(scores.dtype).min)
    weights = functional.dropout(scores.softmax(dim=-1).to(query.dtype), dropout)
    return weights if head_mask is None else weights * head_mask[:, None, None]


def _scores(query: Tensor, keys: Tensor, factor: float) -> Tensor:
    """``factor * query @ keys.mT``: scaled before it is rounded, one key head never repeated."""
    batch, heads, time, width = query.shape
    kv_heads, slots = keys.shape[1:3]
    product = torch.baddbmm(
        query.new_zeros(()),
        query.reshape(batch * kv_heads, heads // kv_heads * time, width),
        keys.reshape(batch * kv_heads, slots, width).mT,
        beta=0,
        alpha=factor,
    )
    return product.view(batch, heads, time, slots)


def eager(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Visible,
    scaling: Scaling,
    dropout: float = 0.0,
) -> Tensor:
    """Attention as it is written in the paper: the reference."""
    return attention_weights(query, keys, visible, scaling, dropout) @ values


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
    mask = visible.mask
    folded = time == 1 and keys.shape[1] == 1
    if folded:
        query = query.transpose(1, 2)
        mask = None if mask is None else mask.transpose(1, 2)
    elif keys.shape[1] != heads:
        keys, values = (shared.expand(-1, heads, -1, -1) for shared in (keys, values))
        if keys.requires_grad:
            # torch.compile mispredicts the layout of the gradient of a head shared by stride 0.
            keys, values = keys.contiguous(), values.contiguous()
    output = functional.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=mask,
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

    Args:
        visible: with ``is_plain``.
    """
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


def missing_for_flash(device: torch.device, dtype: torch.dtype, head_dim: int) -> list[str]:
    """What ``flash`` lacks here, one phrase each; nothing if it can work."""
    missing = []
    if device.type != "cuda":
        missing.append(f"a CUDA device, not {device.type}")
    elif torch.cuda.get_device_capability(device) < (8, 0):
        missing.append("a GPU of compute capability 8.0 or more")
    if dtype not in {torch.float16, torch.bfloat16}:
        missing.append(f"float16 or bfloat16, not {str(dtype).removeprefix('torch.')}")
    if head_dim > _FLASH_WIDEST_HEAD:
        missing.append(f"heads of at most {_FLASH_WIDEST_HEAD}, not {head_dim}")
    if importlib.util.find_spec("flash_attn") is None:
        missing.append("the flash-attn package")
    return missing


def require_flash(device: torch.device, dtype: torch.dtype, head_dim: int) -> None:
    """Raise unless ``flash`` can work here.

    Raises:
        UsageError: all that is missing.
    """
    missing = missing_for_flash(device, dtype, head_dim)
    if missing:
        raise UsageError(
            f"flash attention needs {' and '.join(missing)}",
            "use sdpa, or pip install 'bigcode-cli[flash]' beside a CUDA GPU",
        )


ATTENTION: dict[str, Attend] = {"eager": eager, "sdpa": sdpa, "flash_attention_2": flash}

IMPLEMENTATIONS = ("auto", *ATTENTION)
"""What a model may be told to use; ``auto`` takes the fastest that can do what is asked."""


def check_implementation(name: str) -> None:
    """Raise unless ``name`` is one of ``IMPLEMENTATIONS``.

    Raises:
        UsageError: it is none.
    """
    if name not in IMPLEMENTATIONS:
        raise UsageError(f"unknown attention {name!r}", f"use {', '.join(IMPLEMENTATIONS)}")


class Kernel(NamedTuple):
    """The attention of one forward pass.

    Attributes:
        attend: one of ``ATTENTION``.
        warning: why it is not what the model was told to use, or ``None``.
    """

    attend: Attend
    warning: str | None = None


def choose_kernel(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    is_plain: bool,
    needs_weights: bool,
) -> Kernel:
    """The attention that a pass takes: what was asked for, or what can do it instead.

    Args:
        name: one of ``IMPLEMENTATIONS``.
        is_plain: see ``Visible``.
        needs_weights: the weights are to be given out or to be masked, which ``eager`` alone does.

    Raises:
        UsageError: ``flash_attention_2`` cannot work here at all.
    """
    if name == "auto":
        if needs_weights:
            return Kernel(eager)
        fits = is_plain and not missing_for_flash(device, dtype, head_dim)
        return Kernel(flash if fits else sdpa)
    if name == "flash_attention_2":
        require_flash(device, dtype, head_dim)
    if needs_weights and name != "eager":
        return Kernel(eager, f"{name} knows no head_mask and no attentions: eager does this pass")
    if name == "flash_attention_2" and not is_plain:
        return Kernel(
            sdpa, f"{name} knows no padding, masks or cross-attention: sdpa does this pass"
        )
    return Kernel(ATTENTION[name])
