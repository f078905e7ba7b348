"""GPTBigCode in PyTorch: the reference that every faster path is tested against.

GPT-2's decoder (Radford et al. 2019) with multi-query attention (Shazeer 2019), as in SantaCoder
(Ben Allal et al. 2023) and StarCoder (Li et al. 2023). The arguments and outputs are those that
transformers 4.37.2 to 4.56.2 document (``models/gpt_bigcode/modeling_gpt_bigcode.py``).

The optimisations that the family's documentation lists live here:

- multi-query attention, whose one key head is never repeated while decoding: ``attention.sdpa``;
- GELU by tanh as one kernel: ``layers.gelu_pytorch_tanh``; plain linear layers: ``layers.Linear``;
- cast, mask, softmax and scale in one kernel: ``attention.sdpa``, ``attention.flash``;
- one attention path for all: ``layers.GPTBigCodeAttention``; for each head in turn, its query, key
  and value in multi-head attention: ``GPTBigCodeAttention.split``;
- keys and values merged, in one preallocated cache: ``cache.KVCache``;
- the causal mask made once for the whole model, and kept: ``masks.CausalMask``;
- no needless synchronisation: nothing in a forward pass reads a number back from the device.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bigcode_cli.errors import UsageError
from bigcode_cli.model.attention import choose_kernel, eager
from bigcode_cli.model.cache import KVCache, LegacyCache
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.layers import Embedding, GPTBigCodeBlock, Pass
from bigcode_cli.model.masks import (
    CausalMask,
    check_mask,
    check_rows,
    check_shape,
    encoder_visible,
    self_visible,
)
from bigcode_cli.model.outputs import BaseModelOutputWithPastAndCrossAttentions
from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel


class GPTBigCodeModel(GPTBigCodePreTrainedModel):
    """Token ids to hidden states, final norm included."""

    def __init__(self, config: GPTBigCodeConfig, attn_implementation: str = "auto") -> None:
        super().__init__(config, attn_implementation)
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(GPTBigCodeBlock(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self._causal_mask = CausalMask()
        self.draw(self)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: KVCache | LegacyCache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
    ) -> BaseModelOutputWithPastAndCrossAttentions | tuple[Any, ...]:
        """Run tokens through all layers.

        Nothing in it waits for a GPU, so numbers are looked at on the host alone: ids and
        positions that are given must lie within their tables.

        Args:
            input_ids: int64 ``(batch, time)``, rows of ``wte``: the tokens that the cache does not
                hold yet.
            past_key_values: what came before, with ``slots`` tokens a row: a ``KVCache``, or
                transformers' legacy tuple (``KVCache.from_legacy_cache``).
            attention_mask: ``(batch, slots + time)``, nonzero for real tokens and 0 for padding, on
                either side; causal attention is added to it. Or ``(batch or 1, heads or 1, time,
                slots + time)``, taken as it is, causal or not: boolean, true keeps; float, added
                to the scores.
            token_type_ids: int64 ``(batch or 1, time)``, rows of ``wte`` that are added to the
                embeddings.
            position_ids: int64 ``(batch or 1, time)``, rows of ``wpe``; by default counted from
                the tokens in the cache, padding included (``positions_of`` counts real tokens).
                They choose the embedding alone, not what a query sees.
            head_mask: ``(heads,)`` or ``(n_layer, heads)``, factors of the attention weights: 1
                keeps a head, 0 silences it.
            inputs_embeds: ``(batch, time, n_embd)``, in the place of ``input_ids``.
            encoder_hidden_states: ``(batch, encoder_time, n_embd)``, for a model with
                ``add_cross_attention``. Their keys and values are kept in the cache; as long as
                it is handed on, the states are not read again and may be left out.
            encoder_attention_mask: ``(batch, encoder_time)`` or ``(batch, time, encoder_time)``,
                nonzero keeps; to be given at each step.
            use_cache: write the new keys and values into the cache and give it out; without a
                cache a new one is begun. If false, a cache that is given is read and stays as it
                is. By default ``config.use_cache``, and false under gradient checkpointing.
            output_attentions, output_hidden_states: give them out; by default as the
                configuration says.
            return_dict: give a record; if false, a tuple of its fields that are not ``None``. By
                default ``config.return_dict``.
            cache_position: int64 ``(time,)``, the slots of the new tokens as the causal mask and
                the default positions take them; counted from the cache by default. The cache
                appends, whatever they are, as transformers' ``DynamicCache`` does.

        Returns:
            ``last_hidden_state`` ``(batch, time, n_embd)`` and what else was asked for.

        Raises:
            UsageError: arguments that contradict each other, have another shape than said, or
                ask for more positions than the model has; flash attention where it cannot work.
        """
        hidden = self._embeddings(input_ids, inputs_embeds)
        uses_cache = self._uses_cache(use_cache)
        cache = self._cache(past_key_values, hidden, uses_cache=uses_cache)
        slots = self._slots(cache, hidden, cache_position)
        if position_ids is not None:
            check_rows("position_ids", position_ids, *hidden.shape[:2])
        elif cache_position is None:
            self._check_positions(cache, hidden)
        hidden = hidden + self.wpe(slots if position_ids is None else position_ids)
        if token_type_ids is not None:
            check_rows("token_type_ids", token_type_ids, *hidden.shape[:2])
            hidden = hidden + self.wte(token_type_ids)
        hidden = self.drop(hidden)
        run = self._pass(
            hidden,
            cache,
            slots,
            attention_mask,
            head_mask,
            encoder_hidden_states,
            encoder_attention_mask,
            with_weights=_or(output_attentions, self.config.output_attentions),
            is_default=cache_position is None,
        )
        output = self._layers(
            hidden, run, with_states=_or(output_hidden_states, self.config.output_hidden_states)
        )
        if cache is not None and uses_cache:
            cache.advance(hidden.shape[1])
            output.past_key_values = cache
        return output if _or(return_dict, self.config.return_dict) else output.to_tuple()

    def _embeddings(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """``(batch, time, n_embd)``, out of one of the two.

        Raises:
            UsageError: both are given or neither is, or it has another shape.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise UsageError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is not None:
            width = self.config.n_embd
            check_shape("inputs_embeds", inputs_embeds, (None, None, width))
            return inputs_embeds
        assert input_ids is not None
        check_shape("input_ids", input_ids, (None, None))
        return self.wte(input_ids)  # type: ignore[no-any-return]

    @property
    def _recomputes(self) -> bool:
        """Whether a backward pass is to compute layers anew; none follows without gradients."""
        return self.gradient_checkpointing and self.training and torch.is_grad_enabled()

    def _uses_cache(self, asked: bool | None) -> bool:
        """Whether the pass is to leave a cache behind."""
        if not self._recomputes:
            return _or(asked, self.config.use_cache)
        if asked:
            self.warn_once("gradient checkpointing computes layers anew and keeps no cache")
        return False

    def _cache(
        self, past: KVCache | LegacyCache | None, hidden: Tensor, *, uses_cache: bool
    ) -> KVCache | None:
        """The cache of the pass; a borrowed one where the caller's is to stay as it is.

        Raises:
            UsageError: it is not a cache of this model and this batch.
        """
        batch, time, _ = hidden.shape
        config = self.config
        if past is None:
            if not uses_cache:
                return None
            return KVCache.allocate(config, batch, time, dtype=hidden.dtype, device=hidden.device)
        cache = past if isinstance(past, KVCache) else KVCache.from_legacy_cache(past)
        cache.check(config, batch)
        return cache if uses_cache else cache.borrow()

    def _slots(self, cache: KVCache | None, hidden: Tensor, given: Tensor | None) -> Tensor:
        """Where the new tokens lie: int64 ``(batch or 1, time)``.

        Raises:
            UsageError: ``cache_position`` has another shape.
        """
        time = hidden.shape[1]
        if given is not None:
            check_shape("cache_position", given, (time,))
            return given[None]
        if cache is not None:
            return cache.slots(time)
        return torch.arange(time, device=hidden.device)[None]

    def _check_positions(self, cache: KVCache | None, hidden: Tensor) -> None:
        """Raise before a device looks up a position that there is not.

        Raises:
            UsageError: more tokens than positions.
        """
        tokens = hidden.shape[1] + (0 if cache is None else cache.longest)
        if tokens > self.config.n_positions:
            raise UsageError(
                f"{tokens} tokens exceed the model's {self.config.n_positions} positions"
            )

    def _pass(
        self,
        hidden: Tensor,
        cache: KVCache | None,
        slots: Tensor,
        attention_mask: Tensor | None,
        head_mask: Tensor | None,
        encoder: Tensor | None,
        encoder_mask: Tensor | None,
        *,
        with_weights: bool,
        is_default: bool,
    ) -> Pass:
        """Choose the kernel and make the masks, once for all layers.

        Raises:
            UsageError: as ``forward``.
        """
        batch, time, _ = hidden.shape
        config = self.config
        lengths = [0] * batch if cache is None else cache.lengths
        if attention_mask is not None:
            check_mask(attention_mask, batch, config.n_head, time, max(lengths) + time)
        if head_mask is not None:
            wanted = (config.n_head,) if head_mask.dim() == 1 else (config.n_layer, config.n_head)
            check_shape("head_mask", head_mask, wanted)
            head_mask = head_mask.to(hidden.dtype).expand(config.n_layer, config.n_head)
        crosses = self._has_encoder(hidden, cache, encoder, encoder_mask)
        kernel = choose_kernel(
            self.attn_implementation,
            device=hidden.device,
            dtype=hidden.dtype,
            head_dim=config.head_dim,
            is_plain=attention_mask is None and is_default and not crosses,
            needs_weights=with_weights or head_mask is not None,
        )
        if kernel.warning is not None:
            self.warn_once(kernel.warning)
        visible = self_visible(
            self._causal_mask,
            lengths,
            slots,
            attention_mask=attention_mask,
            is_default=is_default,
            is_fused=kernel.attend is not eager,
            dtype=hidden.dtype,
        )
        return Pass(
            attend=kernel.attend,
            visible=visible,
            cache=cache,
            head_mask=head_mask,
            encoder=encoder,
            encoder_visible=encoder_visible(encoder_mask, hidden.dtype),
            with_cross_attention=crosses,
            with_weights=with_weights,
        )

    def _has_encoder(
        self, hidden: Tensor, cache: KVCache | None, encoder: Tensor | None, mask: Tensor | None
    ) -> bool:
        """Whether there are states of an encoder to attend to, here or in the cache.

        Raises:
            UsageError: the model has no cross-attention, or shapes do not fit each other.
        """
        batch, time, width = hidden.shape
        kept = None if cache is None else cache.encoder[0]
        if encoder is None and kept is None:
            if mask is not None:
                raise UsageError("encoder_attention_mask needs encoder_hidden_states")
            return False
        if not self.config.add_cross_attention:
            raise UsageError("encoder_hidden_states needs a model with add_cross_attention")
        states = None if kept is None else kept.shape[2]
        if encoder is not None:
            check_shape("encoder_hidden_states", encoder, (batch, states, width))
            states = encoder.shape[1]
        if mask is not None:
            wanted = (batch, states) if mask.dim() == 2 else (batch, time, states)
            check_shape("encoder_attention_mask", mask, wanted)
        return True

    def _layers(
        self, hidden: Tensor, run: Pass, *, with_states: bool
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """All layers and the final norm."""
        states: list[Tensor] = []
        weights: list[Tensor] = []
        cross_weights: list[Tensor] = []
        for block in self.h:
            if with_states:
                states.append(hidden)
            if self._recomputes:
                hidden, own, cross = checkpoint(block, hidden, run, use_reentrant=False)
            else:
                hidden, own, cross = block(hidden, run)
            if own is not None:
                weights.append(own)
            if cross is not None:
                cross_weights.append(cross)
        hidden = self.ln_f(hidden)
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden,
            hidden_states=(*states, hidden) if with_states else None,
            attentions=tuple(weights) if weights else None,
            cross_attentions=tuple(cross_weights) if cross_weights else None,
        )


def _or(asked: bool | None, default: bool) -> bool:
    return default if asked is None else asked
