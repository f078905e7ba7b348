"""The configuration of a GPTBigCode model: ``config.json`` as one frozen, validated record.

Free of torch, so that rooms that only look at a model need not import it. Fields and defaults are
those of transformers 4.56.2 (``models/gpt_bigcode/configuration_gpt_bigcode.py``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from bigcode_cli.errors import ModelUnsupportedError
from bigcode_cli.model.files import read_json

MODEL_TYPE = "gpt_bigcode"
CONFIG_NAME = "config.json"

ACTIVATIONS = frozenset(
    {"relu", "silu", "swish", "gelu", "tanh", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"}
)

# Other names that transformers gives to the same fields.
ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}

# Far above every published model, far below what would exhaust the machine in arithmetic alone.
_LARGEST = {
    "vocab_size": 2**24,
    "n_positions": 2**24,
    "n_embd": 2**17,
    "n_layer": 2**12,
    "n_head": 2**12,
    "n_inner": 2**20,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTBigCodeConfig:
    """Every field of transformers' ``GPTBigCodeConfig``, under its name and with its default.

    Attributes:
        n_inner: width of the feed-forward layer; ``None`` means ``4 * n_embd``.
        scale_attn_weights: divide attention scores by ``sqrt(head_dim)``.
        attention_softmax_in_fp32: softmax in float32 when activations are half precision.
        scale_attention_softmax_in_fp32: with it, divide half-precision scores by the layer's
            number (from 1) before the softmax and multiply them back in float32, so that they
            cannot overflow.
        multi_query: all query heads share one key and one value head (Shazeer 2019).
        tie_word_embeddings: ``lm_head`` is the token embedding itself.
        extra: keys of ``config.json`` that mean nothing here, kept for the next reader.

    Raises:
        ModelUnsupportedError: a value has the wrong type, is out of range, or cannot be honoured.
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
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if name == "n_inner" and value is None:
                continue
            if type(value) is not int or not 1 <= value <= largest:
                raise _bad(name, value, f"an integer from 1 to {largest}")
        if self.n_embd % self.n_head:
            raise ModelUnsupportedError(
                f"config.json: n_embd {self.n_embd} is not a multiple of n_head {self.n_head}"
            )
        activation = self.activation_function
        if not isinstance(activation, str) or activation not in ACTIVATIONS:
            raise _bad(
                "activation_function", activation, f"one of {', '.join(sorted(ACTIVATIONS))}"
            )
        self._check_numbers()
        self._check_flags()

    def _check_numbers(self) -> None:
        for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
            if not (_is_number(value := getattr(self, name)) and 0 <= value < 1):
                raise _bad(name, value, "a number from 0 to below 1")
        if not (_is_number(self.layer_norm_epsilon) and 0 < self.layer_norm_epsilon < 1):
            raise _bad("layer_norm_epsilon", self.layer_norm_epsilon, "a number between 0 and 1")
        if not (_is_number(self.initializer_range) and self.initializer_range >= 0):
            raise _bad("initializer_range", self.initializer_range, "a number of 0 or more")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise _bad(name, value, "an integer or null")

    def _check_flags(self) -> None:
        for entry in fields(self):
            if entry.type is bool and type(value := getattr(self, entry.name)) is not bool:
                raise _bad(entry.name, value, "true or false")
        if self.add_cross_attention:
            raise ModelUnsupportedError(
                "config.json: models with cross-attention are not supported"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that the keys of a ``config.json`` describe.

        Raises:
            ModelUnsupportedError: another architecture, or a value that cannot be honoured.
        """
        _check_model_type(values)
        named: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        own = {entry.name for entry in fields(cls)} - {"extra"}
        for key, value in values.items():
            name = ALIASES.get(key, key)
            if name not in own:
                if key != "model_type":
                    extra[key] = value
            elif name in named and named[name] != value:
                raise ModelUnsupportedError(f"config.json gives two values for {name}")
            else:
                named[name] = value
        return cls(**named, extra=extra)

    @classmethod
    def from_file(cls, folder: Path) -> Self:
        """The configuration in ``folder/config.json``.

        Raises:
            ModelIncompleteError: there is no such file.
            ModelCorruptError: it is not a JSON object.
            ModelUnsupportedError: another architecture, or a value that cannot be honoured.
        """
        return cls.from_dict(read_json(folder, CONFIG_NAME))

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``config.json``, ``extra`` among them; ``from_dict`` is its inverse."""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        del own["extra"]
        return {"model_type": MODEL_TYPE, **own, **self.extra}

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
        width, inner = self.n_embd, self.inner_dim
        shapes: dict[str, tuple[int, ...]] = {
            "transformer.wte.weight": (self.vocab_size, width),
            "transformer.wpe.weight": (self.n_positions, width),
        }
        layer: dict[str, tuple[int, ...]] = {
            "ln_1": (width,),
            "attn.c_attn": (width + 2 * self.kv_dim, width),
            "attn.c_proj": (width, width),
            "ln_2": (width,),
            "mlp.c_fc": (inner, width),
            "mlp.c_proj": (width, inner),
        }
        modules = {f"h.{at}.{name}": layer[name] for at in range(self.n_layer) for name in layer}
        for name, shape in {**modules, "ln_f": (width,)}.items():
            shapes[f"transformer.{name}.weight"] = shape
            shapes[f"transformer.{name}.bias"] = shape[:1]
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, width)
        return shapes

    def parameter_count(self) -> int:
        """How many numbers the model holds, a tied ``lm_head`` counted once."""
        return sum(math.prod(shape) for shape in self.tensor_shapes().values())


def _check_model_type(values: Mapping[str, Any]) -> None:
    model_type = values.get("model_type")
    if model_type == MODEL_TYPE:
        return
    if model_type == "starcoder2":
        raise ModelUnsupportedError(
            "StarCoder2 is another architecture than GPTBigCode",
            "use a model of the first StarCoder family, such as bigcode/starcoderbase-1b",
        )
    architectures = values.get("architectures")
    custom = isinstance(architectures, list) and "GPT2LMHeadCustomModel" in architectures
    if model_type == "gpt2" and (custom or "attention_head_type" in values):
        raise ModelUnsupportedError(
            "this is SantaCoder in its old gpt2 layout with custom code",
            "use bigcode/gpt_bigcode-santacoder, the same model as GPTBigCode",
        )
    raise ModelUnsupportedError(
        f"config.json: model_type is {_short(model_type)}, not {MODEL_TYPE}",
        "only GPTBigCode models (SantaCoder, StarCoder, Granite code) can be used",
    )


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) < 2**53
    return type(value) is float and math.isfinite(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _bad(name: str, value: object, wanted: str) -> ModelUnsupportedError:
    return ModelUnsupportedError(f"config.json: {name} must be {wanted}, not {_short(value)}")
