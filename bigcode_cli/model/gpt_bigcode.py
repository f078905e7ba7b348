"""GPTBigCode in PyTorch: the reference that every faster path is tested against.

GPT-2's decoder (Radford et al. 2019) with multi-query attention (Shazeer 2019), as in SantaCoder
(Ben Allal et al. 2023) and StarCoder (Li et al. 2023). Module and parameter names are those of the
checkpoints; linear layers are plain ``nn.Linear``, ``(out, in)``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from bigcode_cli.errors import UsageError
from bigcode_cli.model.attention import ATTENTION, Scaling, Visible
from bigcode_cli.model.cache import KVCache
from bigcode_cli.model.config import GPTBigCodeConfig


def gelu_new(hidden: Tensor) -> Tensor:
    """GELU by tanh (Hendrycks and Gimpel 2016), written out as in GPT-2."""
    inner = math.sqrt(2.0 / math.pi) * (hidden + 0.044715 * hidden.pow(3.0))
    return 0.5 * hidden * (1.0 + torch.tanh(inner))


def gelu_pytorch_tanh(hidden: Tensor) -> Tensor:
    """GELU by tanh, PyTorch's kernel."""
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


class GPTBigCodeAttention(nn.Module):
    """Causal self-attention of layer ``layer`` (from 0)."""

    def __init__(self, config: GPTBigCodeConfig, layer: int, attention: str) -> None:
        super().__init__()
        self.layer = layer
        self.heads = config.n_head
        self.head_dim = config.head_dim
        self.multi_query = config.multi_query
        self.attend = ATTENTION[attention]
        self.scaling = Scaling(
            scale=config.head_dim**-0.5 if config.scale_attn_weights else 1.0,
            softmax_in_fp32=config.attention_softmax_in_fp32,
            layer_factor=layer + 1.0 if config.scale_attention_softmax_in_fp32 else 1.0,
        )
        self.dropout = config.attn_pdrop
        self.c_attn = Linear(config.n_embd, config.n_embd + 2 * config.kv_dim)
        self.c_proj = Linear(config.n_embd, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

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
        batch, time, _ = projected.shape
        if self.multi_query:
            width = self.heads * self.head_dim
            query = projected[..., :width].view(batch, time, self.heads, self.head_dim)
            return query.transpose(1, 2), projected[:, None, :, width:]
        heads = projected.view(batch, time, self.heads, 3 * self.head_dim).transpose(1, 2)
        return heads[..., : self.head_dim], heads[..., self.head_dim :]

    def forward(self, hidden: Tensor, visible: Visible, cache: KVCache | None) -> Tensor:
        """``(batch, time, n_embd)`` to the same shape; new keys and values go into ``cache``."""
        query, key_value = self.split(self.c_attn(hidden))
        if cache is None:
            keys, values = key_value.chunk(2, dim=-1)
        else:
            keys, values = cache.append(self.layer, key_value)
        dropout = self.dropout if self.training else 0.0
        output = self.attend(query, keys, values, visible, self.scaling, dropout)
        projected: Tensor = self.c_proj(output.transpose(1, 2).flatten(2))
        return self.resid_dropout(projected)  # type: ignore[no-any-return]


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

    def __init__(self, config: GPTBigCodeConfig, layer: int, attention: str) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = GPTBigCodeAttention(config, layer, attention)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPTBigCodeMLP(config)

    def forward(self, hidden: Tensor, visible: Visible, cache: KVCache | None) -> Tensor:
        """``(batch, time, n_embd)`` to the same shape."""
        hidden = hidden + self.attn(self.ln_1(hidden), visible, cache)
        return hidden + self.mlp(self.ln_2(hidden))  # type: ignore[no-any-return]


class GPTBigCodeModel(nn.Module):
    """Token ids to hidden states, final norm included."""

    def __init__(self, config: GPTBigCodeConfig, attention: str = "sdpa") -> None:
        super().__init__()
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(
            GPTBigCodeBlock(config, layer, attention) for layer in range(config.n_layer)
        )
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
    ) -> Tensor:
        """Run tokens through all layers.

        Args:
            input_ids: ``(batch, time)``, ids below the rows of ``wte``; a padded tail may hold any.
            position_ids: ``(batch or 1, time)``, rows of ``wpe``; by default those that follow the
                tokens in the cache. They choose the embedding alone, not what a query sees.
            past_key_values: what came before; the new keys and values are written into it, and it
                is up to the caller to ``advance`` it.

        Returns:
            ``(batch, time, n_embd)``.

        Raises:
            UsageError: more tokens than the model has positions or the cache has room for.
        """
        batch, time = input_ids.shape
        cache = past_key_values
        if cache is None:
            if time > self.config.n_positions:
                raise UsageError(
                    f"{time} tokens exceed the model's {self.config.n_positions} positions"
                )
            visible = Visible(causal=time > 1)
            positions = torch.arange(time, device=input_ids.device)[None]
        else:
            cache.check(batch, time)
            visible = cache.visible(time)
            positions = cache.slots(time)
        if position_ids is not None:
            positions = position_ids
        hidden: Tensor = self.drop(self.wte(input_ids) + self.wpe(positions))
        for block in self.h:
            hidden = block(hidden, visible, cache)
        return self.ln_f(hidden)  # type: ignore[no-any-return]


class GPTBigCodeForCausalLM(nn.Module):
    """Token ids to logits over the next token.

    Args:
        config: its ``tie_word_embeddings`` makes ``lm_head`` share the token embedding's weight.
        attention: ``eager``, ``sdpa`` or ``flash``.

    Raises:
        UsageError: there is no such attention.
    """

    def __init__(self, config: GPTBigCodeConfig, attention: str = "sdpa") -> None:
        super().__init__()
        if attention not in ATTENTION:
            raise UsageError(f"unknown attention {attention!r}", f"use {', '.join(ATTENTION)}")
        self.config = config
        self.transformer = GPTBigCodeModel(config, attention)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight
        if not self.lm_head.weight.is_meta:
            self.initialise()

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations, and of all weights that are not quantised."""
        return self.transformer.ln_f.weight.dtype

    def initialise(self) -> None:
        """Draw the weights anew, as the family's training code does.

        Normal with standard deviation ``initializer_range``; projections back into the residual
        stream by ``1 / sqrt(2 * n_layer)`` narrower (Radford et al. 2019); zero biases; norms that
        change nothing.
        """
        deviation = self.config.initializer_range
        narrow = deviation / math.sqrt(2 * self.config.n_layer)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                is_residual = name.endswith(".c_proj")
                nn.init.normal_(module.weight, std=narrow if is_residual else deviation)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
    ) -> Tensor:
        """Logits ``(batch, time, vocab_size)``; arguments and errors as in ``GPTBigCodeModel``."""
        hidden = self.transformer(
            input_ids, position_ids=position_ids, past_key_values=past_key_values
        )
        return self.lm_head(hidden)  # type: ignore[no-any-return]
