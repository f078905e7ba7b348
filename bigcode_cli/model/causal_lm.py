"""The decoder under a language modelling head: logits over the next token, and what follows.

The arguments and outputs are those that transformers 4.37.2 to 4.56.2 document
(``models/gpt_bigcode/modeling_gpt_bigcode.py``).
"""

from typing import Any

import torch
from torch import Tensor

from bigcode_cli.errors import UsageError
from bigcode_cli.model.cache import KVCache, LegacyCache
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
from bigcode_cli.model.layers import Linear
from bigcode_cli.model.losses import causal_lm_loss
from bigcode_cli.model.masks import check_shape, positions_of
from bigcode_cli.model.outputs import CausalLMOutputWithCrossAttentions
from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel


class GPTBigCodeForCausalLM(GPTBigCodePreTrainedModel):
    """Token ids to logits over the next token.

    Args:
        config: its ``tie_word_embeddings`` makes ``lm_head`` share the token embedding's weight.
        attn_implementation: ``auto``, ``eager``, ``sdpa`` or ``flash_attention_2``.

    Raises:
        UsageError: there is no such attention.
    """

    def __init__(self, config: GPTBigCodeConfig, attn_implementation: str = "auto") -> None:
        super().__init__(config, attn_implementation)
        self.transformer = GPTBigCodeModel(config, attn_implementation)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight
        else:
            self.draw(self.lm_head)

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
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
    ) -> CausalLMOutputWithCrossAttentions | tuple[Any, ...]:
        """Logits over the next token, and the loss if there are labels.

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
            labels: int64 ``(batch, time)``, ``input_ids`` as a rule: they are shifted here, so that
                the logits at a position are held against the label after it. -100 counts for
                nothing.
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
            ``logits`` ``(batch, time, vocab_size)``, ``loss`` in nats a label, and what else was
            asked for: ``CausalLMOutputWithCrossAttentions``.

        Raises:
            UsageError: as ``GPTBigCodeModel.forward``; labels of another shape.
        """
        output = self.transformer(
            input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            cache_position=cache_position,
        )
        logits = self.lm_head(output.last_hidden_state)
        loss = None
        if labels is not None:
            loss = causal_lm_loss(logits, labels)
        result = CausalLMOutputWithCrossAttentions(
            loss=loss,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            cross_attentions=output.cross_attentions,
        )
        wants_record = self.config.return_dict if return_dict is None else return_dict
        return result if wants_record else result.to_tuple()

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        max_new_tokens: int,
        eos_token_id: int | None = None,
    ) -> Tensor:
        """Greedy decoding, the plain way: the most likely token, one at a time.

        The reference of the engine's loop, which samples, stops, streams and batches:
        ``bigcode_cli.engine.session``.

        Args:
            input_ids: int64 ``(batch, time)``, padded on the left.
            attention_mask: ``(batch, time)``, 0 for padding; positions are counted from it.
            max_new_tokens: how many to add.
            eos_token_id: ends a row, which is filled up with it; by default the configuration's.

        Returns:
            int64 ``(batch, time + new)``: the prompts and what follows them.

        Raises:
            UsageError: a row ends in padding, or would grow beyond the model's positions; ids or
                mask of another shape.
        """
        eos = self.config.eos_token_id if eos_token_id is None else eos_token_id
        check_shape("input_ids", input_ids, (None, None))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        check_shape("attention_mask", mask, tuple(input_ids.shape))
        if not bool((mask[:, -1] != 0).all()):
            raise UsageError("prompts are padded on the left, and these end in padding")
        longest = int((mask != 0).sum(-1).max()) + max_new_tokens
        if longest > self.config.n_positions:
            raise UsageError(
                f"{longest} tokens exceed the model's {self.config.n_positions} positions"
            )
        ids, new, cache = input_ids, input_ids, None
        ended = torch.zeros_like(input_ids[:, 0], dtype=torch.bool)
        for _ in range(max_new_tokens):
            output = self(
                new,
                past_key_values=cache,
                attention_mask=None if attention_mask is None else mask,
                position_ids=positions_of(mask)[:, -new.shape[1] :],
                use_cache=True,
                return_dict=True,
            )
            cache = output.past_key_values
            new = output.logits[:, -1:].argmax(-1)
            if eos is not None:
                new = new.masked_fill(ended[:, None], eos)
                ended |= new[:, 0] == eos
            ids = torch.cat([ids, new], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            if eos is not None and bool(ended.all()):
                break
        return ids
