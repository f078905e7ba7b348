"""What the values of a configuration must be; those that the code cannot honour are refused."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bigcode_cli.errors import ModelUnsupportedError, UsageError
from bigcode_cli.model.arguments import NAMES

if TYPE_CHECKING:
    from bigcode_cli.model.config import GPTBigCodeConfig

MODEL_TYPE = "gpt_bigcode"
ACTIVATIONS = frozenset(
    {"relu", "silu", "swish", "gelu", "tanh", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"}
)
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")

# Far above every published model, far below what would exhaust the machine in arithmetic alone.
_LARGEST = {
    "vocab_size": 2**24,
    "n_positions": 2**24,
    "n_embd": 2**17,
    "n_layer": 2**12,
    "n_head": 2**12,
    "n_inner": 2**20,
}

# Keys of transformers' PretrainedConfig that change a model, beyond the fields. Its other keys
# guide generation, tokenizers, pipelines or memory, and are kept without effect.
_UNHONOURED = {
    "pruned_heads": "pruned attention heads",
    "is_encoder_decoder": "an encoder-decoder model",
    "tie_encoder_decoder": "an encoder and decoder with the same weights",
    "torchscript": "tuples and untied weights for TorchScript",
    "quantization_config": "weights that another program quantised",
}


def check_model_type(values: Mapping[str, Any]) -> None:
    """Raise unless a ``config.json`` is one of GPTBigCode.

    Raises:
        ModelUnsupportedError: another architecture; the hint names a model to use instead.
    """
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
        f"configuration: model_type is {_short(model_type)}, not {MODEL_TYPE}",
        "only GPTBigCode models (SantaCoder, StarCoder, Granite code) can be used",
    )


def check(config: "GPTBigCodeConfig") -> None:
    """Raise where a value has the wrong type, is out of range, or cannot be honoured.

    Raises:
        ModelUnsupportedError: names the value.
        UsageError: ``extra`` holds a key that has its own argument.
    """
    _check_sizes(config)
    _check_choices(config)
    _check_numbers(config)
    for entry in fields(config):
        if entry.type is bool and type(value := getattr(config, entry.name)) is not bool:
            raise _bad(entry.name, value, "true or false")
    if config.add_cross_attention and config.multi_query:
        raise ModelUnsupportedError(
            "configuration: add_cross_attention needs multi-head attention",
            "set multi_query to false",
        )
    _check_extra(config)


def _check_sizes(config: "GPTBigCodeConfig") -> None:
    for name, largest in _LARGEST.items():
        value = getattr(config, name)
        if name == "n_inner" and value is None:
            continue
        if type(value) is not int or not 1 <= value <= largest:
            raise _bad(name, value, f"an integer from 1 to {largest}")
    if config.n_embd % config.n_head:
        raise ModelUnsupportedError(
            f"configuration: n_embd {config.n_embd} is not a multiple of n_head {config.n_head}"
        )


def _check_choices(config: "GPTBigCodeConfig") -> None:
    activation, problem = config.activation_function, config.problem_type
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise _bad("activation_function", activation, f"one of {', '.join(sorted(ACTIVATIONS))}")
    if problem is not None and problem not in PROBLEM_TYPES:
        raise _bad("problem_type", problem, f"null or one of {', '.join(PROBLEM_TYPES)}")


def _check_numbers(config: "GPTBigCodeConfig") -> None:
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout"):
        value = getattr(config, name)
        if not (name == "classifier_dropout" and value is None):
            _check_dropout(name, value)
    if not (_is_number(config.layer_norm_epsilon) and 0 < config.layer_norm_epsilon < 1):
        raise _bad("layer_norm_epsilon", config.layer_norm_epsilon, "a number between 0 and 1")
    if not (_is_number(config.initializer_range) and config.initializer_range >= 0):
        raise _bad("initializer_range", config.initializer_range, "a number of 0 or more")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(config, name)
        if value is not None and type(value) is not int:
            raise _bad(name, value, "an integer or null")


def _check_extra(config: "GPTBigCodeConfig") -> None:
    known = sorted((NAMES | {"model_type"}) & (config.extra.keys() - {"extra"}))
    if known:
        raise UsageError(f"{known[0]} is no key for a configuration's extra")
    for key, meaning in _UNHONOURED.items():
        if config.extra.get(key):
            raise ModelUnsupportedError(
                f"configuration: {key} asks for {meaning}, which is not supported"
            )
    width = config.extra.get("cross_attention_hidden_size")
    if width is not None and width != config.n_embd:
        raise _bad("cross_attention_hidden_size", width, f"null or n_embd, {config.n_embd}")
    if config.extra.get("hidden_dropout") is not None:
        _check_dropout("hidden_dropout", config.extra["hidden_dropout"])


def check_kv_heads(config: "GPTBigCodeConfig", value: object) -> None:
    """Raise unless ``num_key_value_heads`` is what multi-query or multi-head attention has.

    Raises:
        ModelUnsupportedError: another number, as grouped-query attention has.
    """
    if value is not None and (type(value) is not int or value != config.kv_heads):
        reason = "one with multi_query, else n_head"
        raise _bad("num_key_value_heads", value, f"{config.kv_heads} ({reason})")


def _check_dropout(name: str, value: object) -> None:
    if not (_is_number(value) and 0 <= value < 1):  # type: ignore[operator]
        raise _bad(name, value, "a number from 0 to below 1")


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) < 2**53
    return type(value) is float and math.isfinite(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _bad(name: str, value: object, wanted: str) -> ModelUnsupportedError:
    return ModelUnsupportedError(f"configuration: {name} must be {wanted}, not {_short(value)}")
