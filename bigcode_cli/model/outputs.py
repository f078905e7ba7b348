"""What a forward pass gives, under the names that transformers gives to it.

A field is read as an attribute (``output.logits``), by its name (``output["logits"]``) or by its
place among the fields that are there (``output[0]``, ``output.to_tuple()``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from bigcode_cli.model.cache import KVCache


class ModelOutput:
    """A record whose fields of value ``None`` are not there, as in transformers' ``ModelOutput``.

    Iterating gives the names of the fields that are there, so that ``dict(output)`` and
    ``f(**output)`` work.
    """

    def to_tuple(self) -> tuple[Any, ...]:
        """The values of the fields that are there, in their order."""
        return tuple(getattr(self, name) for name in self.keys())

    def keys(self) -> list[str]:
        """The names of the fields that are there, in their order."""
        names = [entry.name for entry in fields(self)]  # type: ignore[arg-type]
        return [name for name in names if getattr(self, name) is not None]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __getitem__(self, key: str | int | slice) -> Any:  # noqa: ANN401
        """A field by its name, or one or several by their places.

        Raises:
            KeyError, IndexError: there is no such field.
        """
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self:
            raise KeyError(key)
        return getattr(self, key)


@dataclass
class BaseModelOutputWithPastAndCrossAttentions(ModelOutput):
    """What ``GPTBigCodeModel`` gives.

    Attributes:
        last_hidden_state: ``(batch, time, n_embd)``, behind the final norm.
        past_key_values: the cache, the new tokens counted in; with ``use_cache``.
        hidden_states: ``n_layer + 1`` of ``(batch, time, n_embd)``: the embeddings, what each layer
            but the last gives, and ``last_hidden_state``; with ``output_hidden_states``.
        attentions: for each layer ``(batch, heads, time, slots)``, the weights after softmax,
            dropout and ``head_mask``; with ``output_attentions``.
        cross_attentions: for each layer ``(batch, heads, time, encoder_time)``, likewise.
    """

    last_hidden_state: Tensor
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass
class CausalLMOutputWithCrossAttentions(ModelOutput):
    """What ``GPTBigCodeForCausalLM`` gives.

    Attributes:
        loss: float32 ``()``, nats a label; with ``labels``.
        logits: ``(batch, time, vocab_size)``.
        past_key_values, hidden_states, attentions, cross_attentions: as in
            ``BaseModelOutputWithPastAndCrossAttentions``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass
class SequenceClassifierOutputWithPast(ModelOutput):
    """What ``GPTBigCodeForSequenceClassification`` gives.

    Attributes:
        loss: float32 ``()``; with ``labels``.
        logits: ``(batch, num_labels)``.
        past_key_values, hidden_states, attentions: as in
            ``BaseModelOutputWithPastAndCrossAttentions``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: KVCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class TokenClassifierOutput(ModelOutput):
    """What ``GPTBigCodeForTokenClassification`` gives.

    Attributes:
        loss: float32 ``()``; with ``labels``.
        logits: ``(batch, time, num_labels)``.
        hidden_states, attentions: as in ``BaseModelOutputWithPastAndCrossAttentions``.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
