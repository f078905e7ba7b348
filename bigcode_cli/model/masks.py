"""Who sees whom: the masks of a forward pass, made once for all its layers.

Self-attention is causal: the query at a slot sees that slot and those before it, less what the
caller hides. A query whose own token is hidden, padding that is, still sees itself: a softmax over
nothing is not a number, and one such number would spread through the keys of the next layer.
"""

import torch
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.attention import Visible


class CausalMask:
    """The lower triangle of a square: made once for the whole model, kept, grown when needed."""

    def __init__(self) -> None:
        self._square = torch.empty(0, 0, dtype=torch.bool)

    def rows(self, past: int, time: int, device: torch.device) -> Tensor:
        """What ``time`` queries behind ``past`` slots see: bool ``(1, 1, time, past + time)``."""
        slots = past + time
        if self._square.shape[0] < slots or self._square.device != device:
            size = max(slots, 2 * self._square.shape[0])
            # One made in inference mode could not be saved for a backward pass.
            with torch.inference_mode(False):
                self._square = torch.ones(size, size, dtype=torch.bool, device=device).tril()
        return self._square[None, None, past:slots, :slots]


def self_visible(
    kept: CausalMask,
    lengths: list[int],
    slots: Tensor,
    *,
    attention_mask: Tensor | None,
    is_default: bool,
    is_fused: bool,
    dtype: torch.dtype,
) -> Visible:
    """What the next tokens see of themselves and of the cache.

    Args:
        kept: the model's own.
        lengths: tokens that each row holds already.
        slots: int64 ``(batch or 1, time)``, where each new token lies.
        attention_mask: see ``GPTBigCodeModel.forward``; its shape is right.
        is_default: the slots are those that follow the tokens that a row holds.
        is_fused: the kernel can do without a mask where there is nothing but new tokens.
        dtype: of the activations.
    """
    time, longest = slots.shape[1], max(lengths)
    if attention_mask is not None and attention_mask.dim() == 4:
        return Visible(mask=additive(attention_mask, dtype), is_plain=False)
    is_even = len(set(lengths)) == 1
    if is_default and is_even:
        if attention_mask is None and time == 1:
            return Visible()
        if attention_mask is None and longest == 0 and is_fused:
            return Visible(causal=True)
        mask = kept.rows(longest, time, slots.device)
    else:
        columns = torch.arange(longest + time, device=slots.device)
        mask = columns <= slots[:, None, :, None]
    if attention_mask is None:
        ends = None if is_even else (slots[:, -1] + 1).to(torch.int32)
        return Visible(mask=mask, ends=ends, is_plain=is_default)
    kept_slots = (attention_mask != 0)[:, None, None, :]
    if not is_default:
        # A position need not be the slot where a token lies, so no slot is known for a query's own:
        # one that sees nothing takes some average.
        return Visible(mask=additive(mask & kept_slots, dtype), is_plain=False)
    own = torch.arange(longest + time, device=slots.device) == slots[:, None, :, None]
    return Visible(mask=mask & (kept_slots | own), is_plain=False)


def encoder_visible(attention_mask: Tensor | None, dtype: torch.dtype) -> Visible:
    """What each query sees of the encoder's states; all of them without a mask.

    Args:
        attention_mask: ``(batch, encoder_time)`` or ``(batch, time, encoder_time)``, nonzero keeps.
        dtype: of the activations.
    """
    if attention_mask is None:
        return Visible(is_plain=False)
    kept = attention_mask != 0
    kept = kept[:, None, None] if kept.dim() == 2 else kept[:, None]
    return Visible(mask=additive(kept, dtype), is_plain=False)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to the scores: nothing where a boolean one keeps, else the lowest number.

    Infinities become finite, so that a query from which all is hidden gets some average instead of
    what is not a number.
    """
    lowest = torch.finfo(dtype).min
    if mask.dtype == torch.bool:
        hidden = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return hidden.masked_fill(~mask, lowest)
    return mask.to(dtype).clamp(min=lowest)


def check_mask(mask: Tensor, batch: int, heads: int, time: int, slots: int) -> None:
    """Raise unless an ``attention_mask`` has a shape and a type that mean something.

    Raises:
        UsageError: it has not.
    """
    if mask.dim() == 2:
        if mask.shape != (batch, slots):
            raise UsageError(
                f"a 2-D attention_mask covers the cache and the new tokens: ({batch}, {slots}), "
                f"not {tuple(mask.shape)}"
            )
        return
    if mask.dim() != 4:
        raise UsageError(f"attention_mask has 2 or 4 dimensions, not {mask.dim()}")
    rows, columns = mask.shape[:2]
    if rows not in {1, batch} or columns not in {1, heads} or mask.shape[2:] != (time, slots):
        raise UsageError(
            f"a 4-D attention_mask is (1 or {batch}, 1 or {heads}, {time}, {slots}), "
            f"not {tuple(mask.shape)}"
        )
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise UsageError(f"a 4-D attention_mask is boolean or float, not {mask.dtype}")


def check_shape(name: str, tensor: Tensor, wanted: tuple[int | None, ...]) -> None:
    """Raise unless a tensor has this shape, with at least one of what ``None`` stands for.

    Raises:
        UsageError: it has another.
    """
    fits = tensor.dim() == len(wanted) and all(
        size > 0 if want is None else size == want
        for size, want in zip(tensor.shape, wanted, strict=True)
    )
    if not fits:
        told = ", ".join("any" if want is None else str(want) for want in wanted)
        raise UsageError(f"{name} is of shape ({told}), not {tuple(tensor.shape)}")


def check_rows(name: str, ids: Tensor, batch: int, time: int) -> None:
    """Raise unless ids are of shape ``(batch or 1, time)``.

    Raises:
        UsageError: they are of another.
    """
    check_shape(name, ids, (1 if ids.shape[:1] == (1,) else batch, time))


def positions_of(attention_mask: Tensor) -> Tensor:
    """Positions by a padding mask: int64 of its shape ``(batch, slots)``.

    The first real token of a row is at 0, whatever padding stands before it; padding takes the
    position of the last real token before it, or 0.
    """
    return ((attention_mask != 0).cumsum(dim=-1) - 1).clamp(min=0)
