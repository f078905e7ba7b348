"""GPTBigCode written as plain loops over rows, heads and positions, from raw weights in float64.

Nothing here knows of caches, kernels or masks made for all layers at once: who sees whom is given
as numbers to add to the scores, minus infinity for what is hidden. transformers cannot serve as the
oracle of cross-attention, on which it raises.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bigcode_cli.model.config import GPTBigCodeConfig

HIDDEN = -math.inf
"""Added to the score of a slot that a query does not see."""

Weights = Mapping[str, Tensor]


@dataclass
class Loops:
    """What the loops give, in float64.

    Attributes:
        hidden: ``(batch, time, n_embd)``, behind the final norm.
        states: the embeddings, what each layer but the last gives, and ``hidden``.
        attentions, cross_attentions: ``(batch, heads, time, slots)`` for each layer.
    """

    hidden: Tensor
    states: list[Tensor] = field(default_factory=list)
    attentions: list[Tensor] = field(default_factory=list)
    cross_attentions: list[Tensor] = field(default_factory=list)


def loop_weights(model: nn.Module, *, requires_grad: bool = False) -> dict[str, Tensor]:
    """A model's parameters in float64, under their names without ``transformer.``."""
    return {
        name.removeprefix("transformer."): value.detach().double().requires_grad_(requires_grad)
        for name, value in model.named_parameters()
    }


def run_loops(
    weights: Weights,
    config: GPTBigCodeConfig,
    tokens: Tensor,
    sees: Tensor,
    *,
    positions: Tensor | None = None,
    types: Tensor | None = None,
    encoder: Tensor | None = None,
    encoder_sees: Tensor | None = None,
    head_mask: Tensor | None = None,
) -> Loops:
    """All layers and the final norm.

    Args:
        tokens: ids ``(batch, time)``, or embeddings ``(batch, time, n_embd)``.
        sees: added to the scores, ``(batch, heads, time, time)`` or what expands to it.
        positions, types: ``(batch, time)``; by default 0, 1, 2 …, and none.
        encoder: ``(batch, encoder_time, n_embd)``.
        encoder_sees: added to the scores, ``(batch, time, encoder_time)`` or what expands to it.
        head_mask: ``(n_layer, heads)``.
    """
    hidden = tokens.double() if tokens.dim() == 3 else weights["wte.weight"][tokens]
    batch, time, _ = hidden.shape
    if positions is None:
        positions = torch.arange(time).expand(batch, time)
    hidden = hidden + weights["wpe.weight"][positions]
    if types is not None:
        hidden = hidden + weights["wte.weight"][types]
    sees = sees.double().expand(batch, config.n_head, time, time)
    factors = torch.ones(config.n_layer, config.n_head) if head_mask is None else head_mask
    result = Loops(hidden)
    for layer in range(config.n_layer):
        result.states.append(hidden)
        part = _Layer(weights, f"h.{layer}.", config, factors[layer].double())
        normed = part.norm("ln_1", hidden)
        mixed, shares = part.attend("attn", normed, normed, sees)
        hidden = hidden + mixed
        result.attentions.append(shares)
        if encoder is not None:
            slots = encoder.shape[1]
            bias = torch.zeros(()) if encoder_sees is None else encoder_sees
            seen = bias.double().expand(batch, time, slots)[:, None]
            seen = seen.expand(batch, config.n_head, time, slots)
            normed = part.norm("ln_cross_attn", hidden)
            mixed, shares = part.attend("crossattention", normed, encoder.double(), seen)
            hidden = hidden + mixed
            result.cross_attentions.append(shares)
        inner = part.linear("mlp.c_fc", part.norm("ln_2", hidden))
        hidden = hidden + part.linear("mlp.c_proj", _gelu_by_tanh(inner))
    result.hidden = _norm(hidden, weights["ln_f.weight"], weights["ln_f.bias"], config)
    result.states.append(result.hidden)
    return result


@dataclass
class _Layer:
    weights: Weights
    prefix: str
    config: GPTBigCodeConfig
    factors: Tensor

    def linear(self, name: str, given: Tensor, rows: slice = slice(None)) -> Tensor:
        """Some of the rows of a linear layer."""
        weight = self.weights[f"{self.prefix}{name}.weight"][rows]
        return given @ weight.T + self.weights[f"{self.prefix}{name}.bias"][rows]

    def norm(self, name: str, given: Tensor) -> Tensor:
        place = self.prefix + name
        return _norm(
            given, self.weights[f"{place}.weight"], self.weights[f"{place}.bias"], self.config
        )

    def parts(self, name: str, head: int) -> tuple[str, slice, slice, slice]:
        """Where a head's query, key and value come from: the query's layer, and rows of each."""
        width, size = self.config.n_embd, self.config.head_dim
        if name == "crossattention":
            at = 2 * size * head
            query = slice(size * head, size * (head + 1))
            return "crossattention.q_attn", query, *_following(at, size)
        if self.config.multi_query:
            query = slice(size * head, size * (head + 1))
            return "attn.c_attn", query, *_following(width, size)
        at = 3 * size * head
        return "attn.c_attn", slice(at, at + size), *_following(at + size, size)

    def attend(self, name: str, given: Tensor, seen: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """``given`` asks, ``seen`` answers: the mixture behind ``c_proj``, and the weights."""
        size = self.config.head_dim
        scale = 1 / math.sqrt(size) if self.config.scale_attn_weights else 1.0
        rows, shares = [], []
        for row in range(given.shape[0]):
            outputs, row_shares = [], []
            for head in range(self.config.n_head):
                asks, query, key, value = self.parts(name, head)
                queries = self.linear(asks, given[row], query)
                keys = self.linear(f"{name}.c_attn", seen[row], key)
                values = self.linear(f"{name}.c_attn", seen[row], value)
                weights = []
                for at in range(given.shape[1]):
                    scores = scale * (keys @ queries[at]) + bias[row, head, at]
                    powers = torch.exp(scores - scores.max())
                    weights.append(self.factors[head] * powers / powers.sum())
                row_shares.append(torch.stack(weights))
                outputs.append(row_shares[-1] @ values)
            rows.append(torch.cat(outputs, dim=-1))
            shares.append(torch.stack(row_shares))
        return self.linear(f"{name}.c_proj", torch.stack(rows)), torch.stack(shares)


def _following(at: int, size: int) -> tuple[slice, slice]:
    return slice(at, at + size), slice(at + size, at + 2 * size)


def _norm(given: Tensor, weight: Tensor, bias: Tensor, config: GPTBigCodeConfig) -> Tensor:
    centred = given - given.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + config.layer_norm_epsilon) * weight + bias


def _gelu_by_tanh(given: Tensor) -> Tensor:
    inner = math.sqrt(2 / math.pi) * (given + 0.044715 * given**3)
    return 0.5 * given * (1 + torch.tanh(inner))


def causal(slots: int) -> Tensor:
    """Each position sees itself and those before it: ``(slots, slots)``, to add to the scores."""
    return hiding([[column <= row for column in range(slots)] for row in range(slots)])


def hiding(seen: Tensor | list[list[bool]]) -> Tensor:
    """What to add to the scores where ``seen`` says who sees whom."""
    kept = torch.as_tensor(seen) != 0
    return torch.zeros(kept.shape, dtype=torch.float64).masked_fill(~kept, HIDDEN)


def padded(mask: Tensor) -> Tensor:
    """Causal attention that skips padding, which sees itself: ``(batch, 1, slots, slots)``.

    Args:
        mask: ``(batch, slots)``, nonzero for real tokens.
    """
    slots = range(mask.shape[1])
    seen = [
        [
            [column <= at and (bool(kept) or column == at) for column, kept in enumerate(row)]
            for at in slots
        ]
        for row in mask.tolist()
    ]
    return hiding(torch.tensor(seen))[:, None]
