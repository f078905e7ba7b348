"""What the configuration's constructor takes: its fields, and the other names they go by."""

from collections.abc import Mapping
from typing import Any, TypedDict

from bigcode_cli.errors import ModelUnsupportedError

ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "attention_type": "multi_query",
}
"""Names that mean a field: transformers' ``attribute_map``, and the one by which its documentation
calls ``multi_query``, which transformers itself leaves without effect."""


class ConfigArguments(TypedDict, total=False):
    """The keyword arguments of ``GPTBigCodeConfig``; what is left out has its default."""

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int | None
    activation_function: str
    resid_pdrop: float
    embd_pdrop: float
    attn_pdrop: float
    layer_norm_epsilon: float
    initializer_range: float
    scale_attn_weights: bool
    use_cache: bool
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None
    attention_softmax_in_fp32: bool
    scale_attention_softmax_in_fp32: bool
    multi_query: bool
    tie_word_embeddings: bool
    add_cross_attention: bool
    output_attentions: bool
    output_hidden_states: bool
    return_dict: bool
    problem_type: str | None
    classifier_dropout: float | None
    id2label: Mapping[int, str] | None
    label2id: Mapping[str, int] | None
    extra: Mapping[str, Any]
    # Not fields: other names, and what follows from fields.
    hidden_size: int
    max_position_embeddings: int
    num_attention_heads: int
    num_hidden_layers: int
    attention_type: bool
    num_key_value_heads: int | None
    num_labels: int | None


NAMES = frozenset(ConfigArguments.__annotations__)


def by_field(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with every alias under its field's own name.

    Raises:
        ModelUnsupportedError: two values for one field.
        TypeError: a name that is no argument.
    """
    named: dict[str, Any] = {}
    for key, value in values.items():
        if key not in NAMES:
            raise TypeError(f"GPTBigCodeConfig has no field {key!r}; other keys go into `extra`")
        name = ALIASES.get(key, key)
        if name in named and (type(named[name]), named[name]) != (type(value), value):
            raise ModelUnsupportedError(f"configuration: two values for {name}")
        named[name] = value
    return named
