"""The modules of one GPTBigCode layer: attention, feed-forward, and the block that joins them.

Module and parameter names are those of the checkpoints; linear layers are plain ``nn.Linear``,
``(out, in)``, not GPT-2's transposed ``Conv1D``.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigcode_cli.errors import UsageError
from bigcode_cli.model.attention import Attend, Scaling, Visible, attention_weights
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.config import GPTBigCodeConfig


def gelu_new(hidden: Tensor) -> Tensor:
    """GELU by tanh (Hendrycks and Gimpel 2016), written out as in GPT-2."""
    inner = math.sqrt(2.0 / math.pi) * (hidden + 0.044715 * hidden.pow(3.0))
    return 0.5 * hidden * (1.0 + torch.tanh(inner))


def gelu_pytorch_tanh(hidden: Tensor) -> Tensor:
    """GELU by tanh, PyTorch's kernel: one pass over memory instead of the seven of ``gelu_new``."""
    return functional.gelu(hidden, approximate="tanh")


def gelu_fast(hidden: Tensor) -> Tensor:
    """GELU by tanh, factored, with sqrt(2 / pi) rounded as in the checkpoints that name it."""
    inner = hidden * 0.7978845608 * (1.0 + 0.044715 * hidden * hidden)
    return 0.5 * hidden * (1.0 + torch.tanh(inner))


ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "silu": functional.silu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "gelu_new": gelu_new,
    "gelu_fast": gelu_fast,
    "gelu_pytorch_tanh": gelu_pytorch_tanh,
}


class Linear(nn.Linear):
    """A linear layer whose weights the model draws, or a checkpoint brings."""

    def reset_parameters(self) -> None:
        """Draw nothing: on the meta device alone it would cost two seconds of imports."""


class Embedding(nn.Embedding):
    """An embedding whose weights the model draws, or a checkpoint brings."""

    def reset_parameters(self) -> None:
        """Draw nothing, as ``Linear``."""


class Pass(NamedTuple):
    """What all layers share in one forward pass.

    Attributes:
        attend: the kernel of all attention.
        visible: what self-attention sees.
        cache: where keys and values go; ``None`` keeps none.
        head_mask: ``(n_layer, heads)``, factors of each head's weights.
        encoder: the encoder's states ``(batch, encoder_time, n_embd)``, for cross-attention.
        encoder_visible: what cross-attention sees of them.
        with_cross_attention: there are such states, here or in the cache.
        with_weights: attention weights are asked for.
    """

    attend: Attend
    visible: Visible
    cache: KVCache | None = None
    head_mask: Tensor | None = None
    encoder: Tensor | None = None
    encoder_visible: Visible = Visible()
    with_cross_attention: bool = False
    with_weights: bool = False


class GPTBigCodeAttention(nn.Module):
    """Attention of layer ``layer`` (from 0): to the tokens so far, or to an encoder's states.

    One path serves both, with one key head or many, with a cache and without.
    """

    def __init__(
        self, config: GPTBigCodeConfig, layer: int, *, is_cross_attention: bool = False
    ) -> None:
        super().__init__()
        self.layer = layer
        self.heads = config.n_head
        self.head_dim = config.head_dim
        self.multi_query = config.multi_query
        self.is_cross_attention = is_cross_attention
        self.scaling = Scaling(
            scale=config.head_dim**-0.5 if config.scale_attn_weights else 1.0,
            softmax_in_fp32=config.attention_softmax_in_fp32,
            layer_factor=layer + 1.0 if config.scale_attention_softmax_in_fp32 else 1.0,
        )
        self.dropout = config.attn_pdrop
        width = config.n_embd
        if is_cross_attention:
            self.c_attn = Linear(width, 2 * width)
            self.q_attn = Linear(width, width)
        else:
            self.c_attn = Linear(width, width + 2 * config.kv_dim)
        self.c_proj = Linear(width, width)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Tensor, run: Pass) -> tuple[Tensor, Tensor | None]:
        """Mix ``hidden`` with what it sees; new keys and values go into the cache.

        Args:
            hidden: ``(batch, time, n_embd)``.

        Returns:
            the same shape, and the weights ``(batch, heads, time, slots)`` if they are asked for.
        """
        if self.is_cross_attention:
            query = self._heads(self.q_attn(hidden))
            keys, values = self._of_encoder(run)
            visible = run.encoder_visible
        else:
            query, key_value = self.split(self.c_attn(hidden))
            if run.cache is None:
                keys, values = key_value.chunk(2, dim=-1)
            else:
                keys, values = run.cache.append(self.layer, key_value)
            visible = run.visible
        dropout = self.dropout if self.training else 0.0
        weights = None
        if run.with_weights or run.head_mask is not None:
            mask = None if run.head_mask is None else run.head_mask[self.layer]
            weights = attention_weights(query, keys, visible, self.scaling, dropout, mask)
            output = weights @ values
        else:
            output = run.attend(query, keys, values, visible, self.scaling, dropout)
        projected = self.c_proj(output.transpose(1, 2).flatten(2))
        return self.resid_dropout(projected), weights if run.with_weights else None

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and merged keys and values out of what ``c_attn`` gives.

        Its last axis is ``[all queries | key | value]`` with multi-query attention, else, for each
        head in turn, ``[query | key | value]``.

        Args:
            projected: ``(batch, time, n_embd + 2 * kv_dim)``.

        Returns:
            queries ``(batch, heads, time, head_dim)``, keys before values ``(batch, kv_heads,
            time, 2 * head_dim)``.
        """
        if self.multi_query:
            width = self.heads * self.head_dim
            return self._heads(projected[..., :width]), projected[:, None, :, width:]
        heads = self._heads(projected)
        return heads[..., : self.head_dim], heads[..., self.head_dim :]

    def _of_encoder(self, run: Pass) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's states: made once, then out of the cache.

        ``c_attn`` gives ``[key | value]`` for each head in turn, as it does in self-attention.

        Raises:
            UsageError: the cache holds none and there are no states to make them of.
        """
        key_value = None if run.cache is None else run.cache.encoder[self.layer]
        if key_value is None:
            if run.encoder is None:
                raise UsageError("cross-attention has no encoder_hidden_states")
            key_value = self._heads(self.c_attn(run.encoder))
            if run.cache is not None:
                run.cache.keep_encoder(self.layer, key_value)
        keys, values = key_value.chunk(2, dim=-1)
        return keys, values

    def _heads(self, projected: Tensor) -> Tensor:
        """``(batch, time, heads * width)`` to ``(batch, heads, time, width)``."""
        batch, time, width = projected.shape
        return projected.view(batch, time, self.heads, width // self.heads).transpose(1, 2)


class GPTBigCodeMLP(nn.Module):
    """The feed-forward layer: ``c_proj(activation(c_fc(hidden)))``."""

    def __init__(self, config: GPTBigCodeConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, config.inner_dim)
        self.c_proj = Linear(config.inner_dim, config.n_embd)
        self.activation = ACTIVATION_FUNCTIONS[config.activation_function]
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Tensor) -> Tensor:
        """``(batch, time, n_embd)`` to the same shape."""
        return self.dropout(self.c_proj(self.activation(self.c_fc(hidden))))  # type: ignore[no-any-return]


class GPTBigCodeBlock(nn.Module):
    """One layer: attention and feed-forward, each behind its norm and added to its input."""

    def __init__(self, config: GPTBigCodeConfig, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPTBigCodeAttention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        if config.add_cross_attention:
            self.crossattention = GPTBigCodeAttention(config, layer, is_cross_attention=True)
            self.ln_cross_attn = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPTBigCodeMLP(config)

    def forward(self, hidden: Tensor, run: Pass) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """``(batch, time, n_embd)`` to the same shape, and the weights of both attentions."""
        attended, weights = self.attn(self.ln_1(hidden), run)
        hidden = hidden + attended
        cross_weights = None
        if run.with_cross_attention:
            attended, cross_weights = self.crossattention(self.ln_cross_attn(hidden), run)
            hidden = hidden + attended
        return hidden + self.mlp(self.ln_2(hidden)), weights, cross_weights
