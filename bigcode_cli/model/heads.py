"""Heads that classify: whole sequences by their last real token, or each token by itself.

The arguments and outputs are those that transformers 4.37.2 to 4.56.2 document
(``models/gpt_bigcode/modeling_gpt_bigcode.py``); what differs is said where it does.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bigcode_cli.errors import UsageError
from bigcode_cli.model.cache import KVCache, LegacyCache
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
from bigcode_cli.model.layers import Linear
from bigcode_cli.model.losses import sequence_loss, token_loss
from bigcode_cli.model.outputs import SequenceClassifierOutputWithPast, TokenClassifierOutput
from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel


class GPTBigCodeForSequenceClassification(GPTBigCodePreTrainedModel):
    """Token ids to one row of logits a sequence, read off its last real token.

    Args:
        config: its ``num_labels`` (by default 2) is the width of the head, its ``problem_type``
            chooses the loss, its ``pad_token_id`` tells padding where there is no mask.
        attn_implementation: ``auto``, ``eager``, ``sdpa`` or ``flash_attention_2``.

    Attributes:
        score: ``n_embd`` to ``num_labels``, without bias.

    Raises:
        UsageError: there is no such attention.
    """

    def __init__(self, config: GPTBigCodeConfig, attn_implementation: str = "auto") -> None:
        super().__init__(config, attn_implementation)
        self.num_labels = config.num_labels
        self.transformer = GPTBigCodeModel(config, attn_implementation)
        self.score = Linear(config.n_embd, config.num_labels, bias=False)
        self.draw(self.score)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: KVCache | LegacyCache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> SequenceClassifierOutputWithPast | tuple[Any, ...]:
        """Logits over the labels of each sequence, and the loss if there are labels.

        They come from the hidden state of the last real token of each row: by a 2-D
        ``attention_mask`` if there is one, else the last that is not ``config.pad_token_id``,
        else, for a batch of one, the last of all. So a real end of text is no padding where a mask
        says so, though the two ids are often the same; transformers goes by the id alone. A row
        without a real token among the new ones is read off its first.

        Args:
            input_ids: int64 ``(batch, time)``, rows of ``wte``: the tokens that the cache does not
                hold yet.
            past_key_values: what came before, with ``slots`` tokens a row: a ``KVCache``, or
                transformers' legacy tuple (``KVCache.from_legacy_cache``).
            attention_mask: ``(batch, slots + time)``, nonzero for real tokens and 0 for padding, on
                either side; causal attention is added to it. Or ``(batch or 1, heads or 1, time,
                slots + time)``, taken as it is, causal or not: boolean, true keeps; float, added
                to the scores. Of the former, the last ``time`` columns tell the last real token;
                the latter tells nothing of it.
            token_type_ids: int64 ``(batch, time)``, rows of ``wte`` that are added to the
                embeddings.
            position_ids: int64 ``(batch or 1, time)``, rows of ``wpe``; by default counted from
                the tokens in the cache, padding included (``masks.positions_of`` counts real
                tokens). They choose the embedding alone, not what a query sees.
            head_mask: ``(heads,)`` or ``(n_layer, heads)``, factors of the attention weights: 1
                keeps a head, 0 silences it.
            inputs_embeds: ``(batch, time, n_embd)``, in the place of ``input_ids``. Without a 2-D
                mask the last position is taken for real, with a warning if there is a
                ``pad_token_id`` that it may hide.
            labels: see ``losses.sequence_loss``: integers ``(batch,)`` from 0 to
                ``num_labels - 1`` for one label of several; floats ``(batch, num_labels)`` for any
                of several, or for numbers; ``(batch,)`` for one number, where ``num_labels`` is 1.
            use_cache: write the new keys and values into the cache and give it out; without a
                cache a new one is begun. If false, a cache that is given is read and stays as it
                is. By default ``config.use_cache``, and false under gradient checkpointing.
            output_attentions, output_hidden_states: give them out; by default as the
                configuration says.
            return_dict: give a record; if false, a tuple of its fields that are not ``None``. By
                default ``config.return_dict``.

        Returns:
            ``logits`` ``(batch, num_labels)`` in the model's dtype, ``loss`` float32 ``()``, and
            what else was asked for: ``SequenceClassifierOutputWithPast``, as a tuple in the order
            (loss, logits, past_key_values, hidden_states, attentions).

        Raises:
            UsageError: as ``GPTBigCodeModel.forward``; several rows with neither a 2-D mask nor a
                ``pad_token_id``; labels that do not fit (``losses.sequence_loss``).
        """
        self._check_padding(input_ids if inputs_embeds is None else inputs_embeds, attention_mask)
        output = self.transformer(
            input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        # Only the states that count go through the head: the others' logits would be thrown away.
        real = self._real_tokens(input_ids, attention_mask, output.last_hidden_state.shape[1])
        logits = self.score(last_real(output.last_hidden_state, real))
        loss = None
        if labels is not None:
            loss = sequence_loss(logits, labels, self.config.problem_type)
        result = SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        wants_record = self.config.return_dict if return_dict is None else return_dict
        return result if wants_record else result.to_tuple()

    def _check_padding(self, tokens: Tensor | None, attention_mask: Tensor | None) -> None:
        """Raise, before a cache is changed, if nothing tells where the rows of a batch end.

        Raises:
            UsageError: nothing does.
        """
        is_told = _is_padding_mask(attention_mask) or self.config.pad_token_id is not None
        if not is_told and tokens is not None and tokens.dim() > 1 and tokens.shape[0] > 1:
            raise UsageError(
                "the last real token of each row is not to be told without a pad_token_id",
                "give a 2-D attention_mask, or set pad_token_id in the configuration",
            )

    def _real_tokens(
        self, input_ids: Tensor | None, attention_mask: Tensor | None, time: int
    ) -> Tensor | None:
        """Which of the new tokens are no padding: bool ``(batch, time)``; ``None`` for all."""
        if attention_mask is not None and _is_padding_mask(attention_mask):
            return attention_mask[:, -time:] != 0
        pad = self.config.pad_token_id
        if pad is None:
            return None
        if input_ids is None:
            self.warn_once(
                "inputs_embeds show no padding: the last position is taken for the last real "
                "token; a 2-D attention_mask would tell it"
            )
            return None
        return input_ids != pad


class GPTBigCodeForTokenClassification(GPTBigCodePreTrainedModel):
    """Token ids to logits over the labels of each token.

    Args:
        config: its ``num_labels`` (by default 2) is the width of the head; its ``head_dropout``,
            which is ``classifier_dropout`` where that is given, acts before the head in training.
        attn_implementation: ``auto``, ``eager``, ``sdpa`` or ``flash_attention_2``.

    Attributes:
        dropout: of the last hidden states.
        classifier: ``n_embd`` to ``num_labels``, with bias.

    Raises:
        UsageError: there is no such attention.
    """

    def __init__(self, config: GPTBigCodeConfig, attn_implementation: str = "auto") -> None:
        super().__init__(config, attn_implementation)
        self.num_labels = config.num_labels
        self.transformer = GPTBigCodeModel(config, attn_implementation)
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = Linear(config.n_embd, config.num_labels)
        self.draw(self.classifier)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: KVCache | LegacyCache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Logits over the labels of each token, and the loss if there are labels.

        Args:
            input_ids: int64 ``(batch, time)``, rows of ``wte``: the tokens that the cache does not
                hold yet.
            past_key_values: what came before, with ``slots`` tokens a row: a ``KVCache``, or
                transformers' legacy tuple (``KVCache.from_legacy_cache``).
            attention_mask: ``(batch, slots + time)``, nonzero for real tokens and 0 for padding, on
                either side; causal attention is added to it. Or ``(batch or 1, heads or 1, time,
                slots + time)``, taken as it is, causal or not: boolean, true keeps; float, added
                to the scores.
            token_type_ids: int64 ``(batch, time)``, rows of ``wte`` that are added to the
                embeddings.
            position_ids: int64 ``(batch or 1, time)``, rows of ``wpe``; by default counted from
                the tokens in the cache, padding included (``masks.positions_of`` counts real
                tokens). They choose the embedding alone, not what a query sees.
            head_mask: ``(heads,)`` or ``(n_layer, heads)``, factors of the attention weights: 1
                keeps a head, 0 silences it.
            inputs_embeds: ``(batch, time, n_embd)``, in the place of ``input_ids``.
            labels: integers ``(batch, time)`` from 0 to ``num_labels - 1``; -100 counts for
                nothing. They are not shifted.
            use_cache: write the new keys and values into a cache that is given; by default as the
                configuration says. The output has no place for a cache, so none is begun.
            output_attentions, output_hidden_states: give them out; by default as the
                configuration says.
            return_dict: give a record; if false, a tuple of its fields that are not ``None``. By
                default ``config.return_dict``.

        Returns:
            ``logits`` ``(batch, time, num_labels)`` in the model's dtype, ``loss`` float32 ``()``
            in nats a label, and what else was asked for: ``TokenClassifierOutput``, as a tuple in
            the order (loss, logits, hidden_states, attentions).

        Raises:
            UsageError: as ``GPTBigCodeModel.forward``; labels that do not fit
                (``losses.token_loss``).
        """
        output = self.transformer(
            input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=False if past_key_values is None else use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.classifier(self.dropout(output.last_hidden_state))
        result = TokenClassifierOutput(
            loss=None if labels is None else token_loss(logits, labels),
            logits=logits,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        wants_record = self.config.return_dict if return_dict is None else return_dict
        return result if wants_record else result.to_tuple()


def last_real(hidden: Tensor, real: Tensor | None) -> Tensor:
    """The state of the last real token of each row, without waiting for a GPU.

    Args:
        hidden: ``(batch, time, width)``.
        real: bool ``(batch, time)``; ``None`` if all are. Where a row has none, its first.

    Returns:
        ``(batch, width)``.
    """
    if real is None:
        return hidden[:, -1]
    batch, time = real.shape
    # As transformers: an index counts where its token is real, so that the largest is the last.
    places = torch.arange(time, device=hidden.device) * real
    return hidden[torch.arange(batch, device=hidden.device), places.argmax(dim=-1)]


def _is_padding_mask(attention_mask: Tensor | None) -> bool:
    return attention_mask is not None and attention_mask.dim() == 2
