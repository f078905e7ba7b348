"""The configuration of a GPTBigCode model: ``config.json`` as one frozen, validated record.

Free of torch, so that rooms that only look at a model need not import it. Fields and defaults are
those of transformers 4.56.2 (``models/gpt_bigcode/configuration_gpt_bigcode.py`` and
``configuration_utils.py``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, Unpack

from bigcode_cli.errors import OutputError
from bigcode_cli.model.arguments import NAMES, ConfigArguments, by_field
from bigcode_cli.model.config_checks import MODEL_TYPE, check, check_kv_heads, check_model_type
from bigcode_cli.model.files import read_json, write_json
from bigcode_cli.model.labels import label_maps
from bigcode_cli.model.locate import locate
from bigcode_cli.model.shapes import tensor_shapes

CONFIG_NAME = "config.json"
BASE_KEY = "base_model_sha256"
"""Of a configuration beside weights that only differ from another's: see hub/deltas.py."""
DEFAULT_HEAD_DROPOUT = 0.1

# What transformers writes as num_key_value_heads of multi-head attention, whatever the heads are,
# when they were given as num_attention_heads: the default of n_head.
_STALE_HEADS = 12

_LABEL_MAPS = ("id2label", "label2id")
_LABEL_ARGUMENTS = ("num_labels", *_LABEL_MAPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTBigCodeConfig:
    """Every field of transformers' ``GPTBigCodeConfig``, under its name and with its default.

    The constructor takes fields and aliases by keyword: ``hidden_size`` for ``n_embd``,
    ``max_position_embeddings`` for ``n_positions``, ``num_attention_heads`` for ``n_head``,
    ``num_hidden_layers`` for ``n_layer``, ``attention_type`` for ``multi_query``. It also takes
    ``num_labels``, which is as many as ``id2label`` names, or else 2, and
    ``num_key_value_heads``, which must be what ``multi_query`` and ``n_head`` make of it:
    grouped-query attention is none of GPTBigCode.

    Attributes:
        vocab_size: rows of the token embedding, and logits of a position.
        n_positions: longest sequence; rows of the position embedding.
        n_embd: width of the hidden states.
        n_layer: blocks.
        n_head: query heads of each attention.
        n_inner: width of the feed-forward layer; ``None`` means ``4 * n_embd``.
        activation_function: of the feed-forward layer: ``relu``, ``silu`` (``swish``), ``gelu``,
            ``tanh``, ``gelu_new``, ``gelu_fast`` or ``gelu_pytorch_tanh``.
        resid_pdrop: dropout of what attention and feed-forward layer add to the hidden states.
        embd_pdrop: dropout of the embeddings.
        attn_pdrop: dropout of the attention probabilities.
        layer_norm_epsilon: added to the variance in LayerNorm.
        initializer_range: standard deviation of fresh weights.
        scale_attn_weights: divide attention scores by ``sqrt(head_dim)``.
        use_cache: ``forward`` makes and returns a key/value cache unless told otherwise.
        bos_token_id: begins a text.
        eos_token_id: ends a text.
        pad_token_id: fills the rows of a batch; sequence classification pools before it.
        attention_softmax_in_fp32: softmax in float32 when activations are half precision.
        scale_attention_softmax_in_fp32: with it, divide half-precision scores by the layer's
            number (from 1) before the softmax and multiply them back in float32, so that they
            cannot overflow.
        multi_query: all query heads share one key and one value head (Shazeer 2019).
        tie_word_embeddings: ``lm_head`` is the token embedding itself.
        add_cross_attention: each block also attends to an encoder's hidden states; needs
            ``multi_query=False``.
        output_attentions: ``forward`` returns attention probabilities unless told otherwise.
        output_hidden_states: ``forward`` returns all hidden states unless told otherwise.
        return_dict: ``forward`` returns a record, not a tuple, unless told otherwise.
        problem_type: the loss of sequence classification: ``regression``,
            ``single_label_classification`` or ``multi_label_classification``; ``None`` chooses
            by ``num_labels`` and the dtype of the labels.
        classifier_dropout: dropout before a token classifier; ``None``: see ``head_dropout``.
        id2label: the name of each label, by its id from 0; ``LABEL_0`` … unless given.
        label2id: its inverse.
        extra: keys of ``config.json`` that mean nothing here, kept for the next reader.

    Raises:
        ModelUnsupportedError: a value has the wrong type, is out of range, contradicts another,
            or cannot be honoured.
        UsageError: ``extra`` holds a key that has its own argument.
        TypeError: an argument that there is not.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_pytorch_tanh"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | None = 50256
    pad_token_id: int | None = None
    attention_softmax_in_fp32: bool = True
    scale_attention_softmax_in_fp32: bool = True
    multi_query: bool = True
    tie_word_embeddings: bool = True
    add_cross_attention: bool = False
    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict: bool = True
    problem_type: str | None = None
    classifier_dropout: float | None = None
    id2label: Mapping[int, str] = field(hash=False)
    label2id: Mapping[str, int] = field(hash=False)
    extra: Mapping[str, Any] = field(hash=False)

    def __init__(self, **values: Unpack[ConfigArguments]) -> None:
        named = by_field(values)
        kv_heads = named.pop("num_key_value_heads", None)
        labels = (named.pop(name, None) for name in _LABEL_ARGUMENTS)
        named["id2label"], named["label2id"] = label_maps(*labels)
        named["extra"] = dict(named.get("extra", {}))
        for entry in fields(self):
            object.__setattr__(self, entry.name, named.get(entry.name, entry.default))
        check(self)
        check_kv_heads(self, kv_heads)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that the keys of a ``config.json`` describe.

        Keys that mean nothing here go into ``extra``.

        Raises:
            ModelUnsupportedError: another architecture, or a value that cannot be honoured.
        """
        check_model_type(values)
        own = NAMES - {"extra"}
        named = {key: value for key, value in values.items() if key in own}
        if named.get("multi_query") is False and named.get("num_key_value_heads") == _STALE_HEADS:
            del named["num_key_value_heads"]
        rest = values.keys() - own - {"model_type"}
        return cls(**named, extra={key: values[key] for key in values if key in rest})

    @classmethod
    def from_file(cls, folder: Path) -> Self:
        """The configuration in ``folder/config.json``.

        Raises:
            ModelIncompleteError: there is no such file.
            ModelCorruptError: it is not a JSON object.
            ModelUnsupportedError: another architecture, or a value that cannot be honoured.
        """
        return cls.from_dict(read_json(folder, CONFIG_NAME))

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        **changes: Unpack[ConfigArguments],
    ) -> Self:
        """The configuration of a model; of one on the Hub, its weights are not fetched.

        Args:
            name: a built-in model, a folder, or a Hub id ``owner/name``.
            revision: branch, tag or commit of a model on the Hub.
            local_files_only: never use the network.
            changes: values to take instead of the model's own, as for :meth:`with_changes`.

        Raises:
            ModelError: one of its leaves: the model is not to be had, or its configuration is
                missing, corrupt or of another architecture.
            UsageError: a revision that is none, or one for a model that is not on the Hub.
        """
        folder = locate(
            name, revision=revision, local_files_only=local_files_only, config_only=True
        )
        return cls.from_file(folder).with_changes(**changes)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``folder/config.json``, all of it or nothing; the folder is made if need be.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            write_json(Path(folder) / CONFIG_NAME, self.to_dict())
        except OSError as error:
            raise OutputError(
                f"the configuration cannot be written to {folder}: {error.strerror or error}"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``config.json``, ``extra`` among them; ``from_dict`` is its inverse.

        ``num_labels`` is not written: ``id2label`` tells it.
        """
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        del own["extra"]
        own |= {"id2label": dict(self.id2label), "label2id": dict(self.label2id)}
        own["num_key_value_heads"] = self.num_key_value_heads
        return {"model_type": MODEL_TYPE, **own, **self.extra}

    def with_changes(self, **changes: Unpack[ConfigArguments]) -> Self:
        """A configuration like this one, with other values; aliases as for the constructor.

        Another number of labels, or another map of them, replaces the labels as a whole; the
        number that there is leaves them as they are.

        Raises:
            ModelUnsupportedError: a value that cannot be honoured.
            TypeError: an argument that there is not.
        """
        named = by_field(changes)
        for name in _LABEL_ARGUMENTS:
            if named.get(name, ...) is None:
                del named[name]
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        count = named.get("num_labels", self.num_labels)
        if count != self.num_labels or not named.keys().isdisjoint(_LABEL_MAPS):
            for name in _LABEL_MAPS:
                del values[name]
        return type(self)(**values | named)

    @property
    def hidden_size(self) -> int:
        """``n_embd``."""
        return self.n_embd

    @property
    def max_position_embeddings(self) -> int:
        """``n_positions``."""
        return self.n_positions

    @property
    def num_attention_heads(self) -> int:
        """``n_head``."""
        return self.n_head

    @property
    def num_hidden_layers(self) -> int:
        """``n_layer``."""
        return self.n_layer

    @property
    def num_key_value_heads(self) -> int:
        """``kv_heads``."""
        return self.kv_heads

    @property
    def attention_type(self) -> bool:
        """``multi_query``."""
        return self.multi_query

    @property
    def use_return_dict(self) -> bool:
        """``return_dict``."""
        return self.return_dict

    @property
    def num_labels(self) -> int:
        """How many labels a classifier tells apart."""
        return len(self.id2label)

    @property
    def head_dropout(self) -> float:
        """Dropout before a token classifier: the first of three that is there.

        They are ``classifier_dropout``, ``extra``'s ``hidden_dropout`` and 0.1, as in
        transformers' ``GPTBigCodeForTokenClassification``.
        """
        if self.classifier_dropout is not None:
            return self.classifier_dropout
        hidden: float | None = self.extra.get("hidden_dropout")
        return DEFAULT_HEAD_DROPOUT if hidden is None else hidden

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def inner_dim(self) -> int:
        """Width of the feed-forward layer."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @property
    def kv_heads(self) -> int:
        """Key and value heads: one with multi-query attention, else one for each query head."""
        return 1 if self.multi_query else self.n_head

    @property
    def kv_dim(self) -> int:
        """Width of all keys (or all values) of one position."""
        return self.kv_heads * self.head_dim

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of a checkpoint, in the model's order; ``lm_head`` only if it is its own."""
        return tensor_shapes(self)

    def parameter_count(self) -> int:
        """How many numbers the model holds, a tied ``lm_head`` counted once."""
        return sum(math.prod(shape) for shape in self.tensor_shapes().values())
