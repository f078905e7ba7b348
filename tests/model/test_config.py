import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.errors import (
    BigcodeError,
    ModelCorruptError,
    ModelIncompleteError,
    ModelUnsupportedError,
)
from bigcode_cli.model.config import GPTBigCodeConfig
from tests.model.models import small_config

# transformers 4.56.2, GPTBigCodeConfig().to_dict(), the fields that this class has.
DEFAULTS: dict[str, Any] = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "activation_function": "gelu_pytorch_tanh",
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "scale_attn_weights": True,
    "use_cache": True,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
    "pad_token_id": None,
    "attention_softmax_in_fp32": True,
    "scale_attention_softmax_in_fp32": True,
    "multi_query": True,
    "tie_word_embeddings": True,
    "add_cross_attention": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "problem_type": None,
    "id2label": {0: "LABEL_0", 1: "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "num_key_value_heads": 1,
    "model_type": "gpt_bigcode",
}


def test_defaults_are_those_of_transformers() -> None:
    assert GPTBigCodeConfig().to_dict() == DEFAULTS | {"classifier_dropout": None}
    assert GPTBigCodeConfig.from_dict({"model_type": "gpt_bigcode"}) == GPTBigCodeConfig()


def test_unknown_keys_are_kept() -> None:
    values = DEFAULTS | {"inference_runner": 0, "summary_type": "cls_index", "nested": {"a": [1]}}
    config = GPTBigCodeConfig.from_dict(values)
    assert config.extra == {
        "inference_runner": 0,
        "summary_type": "cls_index",
        "nested": {"a": [1]},
    }
    assert config.to_dict() == values | {"classifier_dropout": None}
    assert GPTBigCodeConfig.from_dict(config.to_dict()) == config


def test_other_names_of_fields_are_understood() -> None:
    values = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6}
    values |= {"max_position_embeddings": 77}
    config = GPTBigCodeConfig.from_dict({"model_type": "gpt_bigcode"} | values)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (96, 2, 6, 77)
    with pytest.raises(ModelUnsupportedError, match="two values for n_embd"):
        GPTBigCodeConfig.from_dict(DEFAULTS | {"hidden_size": 96})


def test_widths_follow_from_the_fields() -> None:
    shared, own = small_config(), small_config(multi_query=False, n_inner=50)
    assert (shared.head_dim, shared.inner_dim, shared.kv_heads, shared.kv_dim) == (8, 128, 1, 8)
    assert (own.head_dim, own.inner_dim, own.kv_heads, own.kv_dim) == (8, 50, 4, 32)


def test_published_parameter_counts() -> None:
    """SantaCoder and StarCoder, as their papers and checkpoints have them."""
    santacoder = GPTBigCodeConfig(
        vocab_size=49280, n_positions=2048, n_embd=2048, n_layer=24, n_head=16
    )
    starcoder = GPTBigCodeConfig(
        vocab_size=49152, n_positions=8192, n_embd=6144, n_layer=40, n_head=48, n_inner=24576
    )
    assert santacoder.parameter_count() == 1_124_886_528
    assert starcoder.parameter_count() == 15_517_456_384


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"model_type": "starcoder2"}, "StarCoder2 is another architecture", "starcoderbase-1b"),
        (
            {"model_type": "gpt2", "architectures": ["GPT2LMHeadCustomModel"]},
            "SantaCoder in its old gpt2 layout",
            "bigcode/gpt_bigcode-santacoder",
        ),
        (
            {"model_type": "gpt2", "attention_head_type": "multiquery"},
            "SantaCoder in its old gpt2 layout",
            "bigcode/gpt_bigcode-santacoder",
        ),
        ({"model_type": "gpt2"}, "model_type is 'gpt2'", "GPTBigCode"),
        ({"model_type": "llama"}, "model_type is 'llama'", "GPTBigCode"),
        ({"model_type": ["x"]}, "model_type is", "GPTBigCode"),
        ({}, "model_type is None", "GPTBigCode"),
    ],
)
def test_other_architectures_are_refused_by_name(
    values: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ModelUnsupportedError) as caught:
        GPTBigCodeConfig.from_dict(values)
    assert message in caught.value.message
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size", 0),
        ("vocab_size", -5),
        ("vocab_size", 10**30),
        ("vocab_size", "50257"),
        ("n_positions", 1024.0),
        ("n_positions", None),
        ("n_embd", True),
        ("n_embd", 10**9),
        ("n_layer", []),
        ("n_layer", 10**6),
        ("n_head", 0),
        ("n_head", 7),
        ("n_inner", 0),
        ("n_inner", "4x"),
        ("activation_function", "sigmoid"),
        ("activation_function", None),
        ("activation_function", ["gelu"]),
        ("resid_pdrop", 1.0),
        ("embd_pdrop", -0.1),
        ("attn_pdrop", float("nan")),
        ("layer_norm_epsilon", 0),
        ("layer_norm_epsilon", float("inf")),
        ("layer_norm_epsilon", "1e-5"),
        ("initializer_range", -1),
        ("initializer_range", float("inf")),
        ("initializer_range", 10**400),
        ("scale_attn_weights", 1),
        ("multi_query", "yes"),
        ("multi_query", None),
        ("eos_token_id", "0"),
        ("bos_token_id", False),
        ("add_cross_attention", True),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ModelUnsupportedError) as caught:
        GPTBigCodeConfig.from_dict(DEFAULTS | {name: value})
    assert name in caught.value.message or "cross-attention" in caught.value.message
    assert len(caught.value.message) < 250


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(DEFAULTS)) | st.text(max_size=8), json_values))
def test_any_object_is_a_configuration_or_a_clear_error(values: dict[str, Any]) -> None:
    try:
        config = GPTBigCodeConfig.from_dict(DEFAULTS | values)
    except BigcodeError:
        return
    assert config.parameter_count() > 0


def write(folder: Path, text: str) -> Path:
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


def test_from_file_reads_the_folder(tmp_path: Path) -> None:
    config = small_config(extra={"note": "ü"})
    assert GPTBigCodeConfig.from_file(write(tmp_path, json.dumps(config.to_dict()))) == config


def test_a_missing_file_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(ModelIncompleteError, match=r"config\.json is missing"):
        GPTBigCodeConfig.from_file(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 100_000, '{"a": 1, "a": 2}', "nul"])
def test_a_file_that_is_no_object_is_corrupt(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelCorruptError, match=r"config\.json is not") as caught:
        GPTBigCodeConfig.from_file(write(tmp_path, text))
    assert "\n" not in caught.value.message
