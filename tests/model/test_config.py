import copy
import json
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.errors import (
    BigcodeError,
    ModelCorruptError,
    ModelIncompleteError,
    ModelUnsupportedError,
    OutputError,
    UsageError,
)
from bigcode_cli.model.arguments import ALIASES, ConfigArguments
from bigcode_cli.model.config import GPTBigCodeConfig
from tests.model.make_configs import COUNT, GOLDEN_FILE, shared
from tests.model.models import small_config

ARGUMENTS = frozenset(ConfigArguments.__annotations__)

# transformers 4.56.2, GPTBigCodeConfig().to_dict(), the keys that this class has.
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


golden = [
    pytest.param(case, id=str(at)) for at, case in enumerate(json.loads(GOLDEN_FILE.read_text()))
]


@pytest.mark.parametrize("case", golden)
def test_values_are_those_that_transformers_makes(case: dict[str, Any]) -> None:
    named = {key: value for key, value in case["arguments"].items() if key in ARGUMENTS}
    extra = {key: value for key, value in case["arguments"].items() if key not in ARGUMENTS}
    config = GPTBigCodeConfig(**named, extra=extra)
    assert GPTBigCodeConfig.from_dict({"model_type": "gpt_bigcode"} | case["arguments"]) == config
    values = json.loads(json.dumps(config.to_dict()))
    assert {key: values[key] for key in case["values"]} == case["values"]
    assert {key: values[key] for key in extra} == extra


@pytest.mark.parametrize("case", golden)
def test_what_transformers_saves_is_read_and_written_back(case: dict[str, Any]) -> None:
    config = GPTBigCodeConfig.from_dict(case["saved"])
    values = json.loads(json.dumps(config.to_dict()))
    assert {key: values[key] for key in case["values"]} == case["values"]
    kept = shared(case["saved"]) | dict(config.extra)
    assert {key: values[key] for key in kept} == kept
    assert config.extra.keys() == case["saved"].keys() - ARGUMENTS - {"model_type"}


def test_the_golden_configurations_cover_the_arguments() -> None:
    seen = {key for case in golden for key in case.values[0]["arguments"]}  # type: ignore[index]
    assert len(golden) == COUNT
    assert seen - ARGUMENTS == {"summary_type", "nested"}
    own = ARGUMENTS - {"attention_type", "num_key_value_heads", "extra"}
    assert own <= seen


def test_the_constructor_takes_every_field_and_its_other_names() -> None:
    types = {entry.name: entry.type for entry in fields(GPTBigCodeConfig)}
    hints = get_type_hints(ConfigArguments)
    for name in ("id2label", "label2id"):
        assert hints.pop(name) == types.pop(name) | None  # type: ignore[operator]
    for alias, name in ALIASES.items():
        assert hints.pop(alias) == types[name]
    for derived in ("num_key_value_heads", "num_labels"):
        assert hints.pop(derived) == int | None
    assert hints == types


@pytest.mark.parametrize(
    ("alias", "name", "value"),
    [
        ("hidden_size", "n_embd", 96),
        ("max_position_embeddings", "n_positions", 77),
        ("num_attention_heads", "n_head", 6),
        ("num_hidden_layers", "n_layer", 2),
        ("attention_type", "multi_query", False),
    ],
)
def test_other_names_of_fields_are_understood(alias: str, name: str, value: object) -> None:
    arguments: dict[str, Any] = {alias: value}
    config = GPTBigCodeConfig(**arguments)
    assert getattr(config, alias) == getattr(config, name) == value
    assert GPTBigCodeConfig.from_dict({"model_type": "gpt_bigcode"} | arguments) == config
    assert GPTBigCodeConfig(**arguments, **{name: value}) == config  # type: ignore[arg-type]
    assert alias not in config.to_dict()
    with pytest.raises(ModelUnsupportedError, match=f"two values for {name}"):
        GPTBigCodeConfig.from_dict(DEFAULTS | arguments)
    with pytest.raises(ModelUnsupportedError, match=f"two values for {name}"):
        GPTBigCodeConfig(**arguments, **{name: DEFAULTS[name]})
    with pytest.raises(ModelUnsupportedError, match=f"two values for {name}"):
        GPTBigCodeConfig(**arguments, **{name: float(value)})  # type: ignore[arg-type]


def test_grouped_query_attention_is_refused() -> None:
    assert GPTBigCodeConfig(num_key_value_heads=1).num_key_value_heads == 1
    own = GPTBigCodeConfig(multi_query=False, num_key_value_heads=12)
    assert own.num_key_value_heads == own.to_dict()["num_key_value_heads"] == 12
    assert GPTBigCodeConfig(num_key_value_heads=None).num_key_value_heads == 1
    stale = {"multi_query": False, "n_head": 6, "num_key_value_heads": 12}
    assert GPTBigCodeConfig.from_dict(DEFAULTS | stale).num_key_value_heads == 6
    for multi_query, heads in [(True, 12), (True, 4), (False, 4), (False, 1), (True, True)]:
        with pytest.raises(ModelUnsupportedError, match="num_key_value_heads must be"):
            GPTBigCodeConfig(multi_query=multi_query, num_key_value_heads=heads)


def test_a_name_that_is_no_argument_is_refused() -> None:
    misspelt: dict[str, Any] = {"n_heads": 4}
    with pytest.raises(TypeError, match="'n_heads'"):
        GPTBigCodeConfig(**misspelt)
    with pytest.raises(TypeError, match="'n_heads'"):
        GPTBigCodeConfig().with_changes(**misspelt)
    with pytest.raises(TypeError, match="'n_heads'"):
        GPTBigCodeConfig.from_pretrained("mini", **misspelt)


@pytest.mark.parametrize("key", ["n_embd", "hidden_size", "num_labels", "model_type"])
def test_extra_holds_no_key_of_its_own(key: str) -> None:
    with pytest.raises(UsageError, match=f"{key} is no key"):
        GPTBigCodeConfig(extra={key: 1})


def test_a_key_named_extra_is_one_like_any_other() -> None:
    config = GPTBigCodeConfig.from_dict(DEFAULTS | {"extra": {"n_embd": 3}})
    assert config.extra == {"extra": {"n_embd": 3}}
    assert GPTBigCodeConfig.from_dict(config.to_dict()) == config


def test_a_configuration_is_a_value() -> None:
    config = small_config(num_labels=3, extra={"note": ["x"]})
    assert hash(config) == hash(small_config(num_labels=3))
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config == replace(config)
    assert replace(config, n_embd=64).hidden_size == 64
    with pytest.raises(FrozenInstanceError):
        config.n_embd = 64  # type: ignore[misc]
    config.to_dict()["id2label"][0] = "spoilt"
    assert config.id2label[0] == "LABEL_0"


def test_changes_keep_the_rest() -> None:
    named = small_config(id2label={0: "a", 1: "b"}, extra={"note": 1})
    assert named.with_changes() == named
    assert named.with_changes(hidden_size=64) == replace(named, n_embd=64)
    assert named.with_changes(num_labels=2, id2label=None) == named
    assert named.with_changes(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert named.with_changes(id2label={0: "c"}).label2id == {"c": 0}
    assert named.with_changes(label2id={"d": 0}).id2label == {0: "d"}
    with pytest.raises(ModelUnsupportedError, match="num_labels is 2"):
        named.with_changes(id2label={0: "c"}, num_labels=2)


def test_head_dropout_is_the_first_that_is_there() -> None:
    hidden = {"hidden_dropout": 0.3}
    assert GPTBigCodeConfig().head_dropout == 0.1
    assert GPTBigCodeConfig(extra={"hidden_dropout": None}).head_dropout == 0.1
    assert GPTBigCodeConfig(extra=hidden).head_dropout == 0.3
    assert GPTBigCodeConfig(extra=hidden, classifier_dropout=0.0).head_dropout == 0.0


def test_return_dict_has_its_second_name() -> None:
    assert GPTBigCodeConfig().use_return_dict
    assert not GPTBigCodeConfig(return_dict=False).use_return_dict


def test_cross_attention_needs_multi_head_attention() -> None:
    with pytest.raises(ModelUnsupportedError, match="needs multi-head attention") as caught:
        GPTBigCodeConfig(add_cross_attention=True)
    assert caught.value.hint == "set multi_query to false"
    assert GPTBigCodeConfig(add_cross_attention=True, multi_query=False).add_cross_attention


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
        ("output_attentions", 1),
        ("output_hidden_states", None),
        ("return_dict", "no"),
        ("problem_type", "ranking"),
        ("problem_type", ["regression"]),
        ("classifier_dropout", 1.0),
        ("classifier_dropout", True),
        ("hidden_dropout", -1),
        ("num_key_value_heads", 4),
        ("num_labels", 3),
        ("pruned_heads", {"0": [1]}),
        ("is_encoder_decoder", True),
        ("tie_encoder_decoder", True),
        ("torchscript", True),
        ("quantization_config", {"quant_method": "gptq"}),
        ("cross_attention_hidden_size", 512),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ModelUnsupportedError) as caught:
        GPTBigCodeConfig.from_dict(DEFAULTS | {name: value})
    assert name in caught.value.message
    assert len(caught.value.message) < 250


def test_values_that_transformers_writes_by_default_are_kept_without_effect() -> None:
    extra = {"pruned_heads": {}, "is_encoder_decoder": False, "torchscript": False}
    extra |= {"tie_encoder_decoder": False, "cross_attention_hidden_size": None, "is_decoder": True}
    extra |= {"chunk_size_feed_forward": 8, "quantization_config": None, "dtype": "float32"}
    assert GPTBigCodeConfig.from_dict(DEFAULTS | extra).extra == extra
    assert GPTBigCodeConfig(extra={"cross_attention_hidden_size": 768}).n_embd == 768


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
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
    assert GPTBigCodeConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


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


def test_a_saved_configuration_is_loaded_again(tmp_path: Path) -> None:
    config = small_config(
        num_labels=3, problem_type="regression", extra={"note": "ü", "deep": [{}]}
    )
    folder = tmp_path / "made" / "here"
    config.save_pretrained(str(folder))
    assert GPTBigCodeConfig.from_pretrained(folder) == config
    assert GPTBigCodeConfig.from_pretrained(str(folder)) == config
    changed = GPTBigCodeConfig.from_pretrained(folder, num_labels=4, n_layer=1)
    assert (changed.num_labels, changed.num_hidden_layers, changed.n_head) == (4, 1, config.n_head)
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_saving_takes_the_place_of_an_older_file(tmp_path: Path) -> None:
    write(tmp_path, "old")
    small_config().save_pretrained(tmp_path)
    assert GPTBigCodeConfig.from_file(tmp_path) == small_config()


def test_what_cannot_be_saved_leaves_the_older_file(tmp_path: Path) -> None:
    write(tmp_path, "old")
    with pytest.raises(TypeError):
        small_config(extra={"note": object()}).save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "old"


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="the configuration cannot be written to"):
        small_config().save_pretrained(tmp_path / "file" / "folder")
    with pytest.raises(OutputError, match="the configuration cannot be written to"):
        small_config().save_pretrained(tmp_path / "file")
