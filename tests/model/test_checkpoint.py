import json
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bigcode_cli.errors import (
    BigcodeWarning,
    ModelCorruptError,
    ModelError,
    ModelIncompleteError,
    ModelUnsupportedError,
    OutputError,
    UsageError,
)
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
from bigcode_cli.model.heads import (
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
)
from bigcode_cli.model.quantize import QuantizedEmbedding, QuantizedLinear
from bigcode_cli.model.shards import STORED_AS, Storage
from bigcode_cli.records import Quantize
from tests.model import interchange
from tests.model.models import (
    random_ids,
    relative_difference,
    small_config,
    wide_model,
    wide_of,
)

State = dict[str, Tensor]
WEIGHTS = "model.safetensors"
CLASSES = [
    GPTBigCodeModel,
    GPTBigCodeForCausalLM,
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
]
ModelClass = type[
    GPTBigCodeModel
    | GPTBigCodeForCausalLM
    | GPTBigCodeForSequenceClassification
    | GPTBigCodeForTokenClassification
]
HEAD_OF: dict[ModelClass, str] = {
    GPTBigCodeForSequenceClassification: "score.weight",
    GPTBigCodeForTokenClassification: "classifier.weight",
}


def load(
    folder: Path, dtype: torch.dtype = torch.float32, quantize: Quantize = "none"
) -> GPTBigCodeForCausalLM:
    return load_model(GPTBigCodeForCausalLM, folder, device="cpu", dtype=dtype, quantize=quantize)


def write_folder(folder: Path, config: GPTBigCodeConfig, state: State) -> Path:
    """A folder as somebody else might have written it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def state_of(config: GPTBigCodeConfig) -> State:
    state = wide_model(config).state_dict()
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    return dict(state)


def assert_same(model: nn.Module, expected: nn.Module) -> None:
    """Bit for bit."""
    left, right = model.state_dict(), expected.state_dict()
    assert set(left) == set(right)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not model.training


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("shard_bytes", [10**9, 10_000])
def test_a_saved_model_loads_bit_for_bit(
    tmp_path: Path, shard_bytes: int, *, multi_query: bool, tied: bool
) -> None:
    config = small_config(multi_query=multi_query, tie_word_embeddings=tied, extra={"x": 1})
    model = wide_model(config)
    save_model(model, config, tmp_path, "float32", shard_bytes)
    loaded = load(tmp_path)
    assert_same(loaded, model)
    assert loaded.config.tie_word_embeddings is tied
    assert (loaded.lm_head.weight is loaded.transformer.wte.weight) is tied
    assert loaded.config.extra["architectures"] == ["GPTBigCodeForCausalLM"]
    assert loaded.config.extra["x"] == 1
    ids = random_ids(config, 2, 12)
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_a_state_dict_saves_like_its_model(tmp_path: Path) -> None:
    config = small_config()
    model = wide_model(config)
    save_model(model, config, tmp_path / "model", "float32")
    save_model(model.state_dict(), config, tmp_path / "state", "float32")
    for name in ("model.safetensors", "config.json"):
        saved = (tmp_path / "model" / name).read_bytes()
        assert (tmp_path / "state" / name).read_bytes() == saved


@pytest.mark.parametrize("shards", [1, 3])
def test_bin_files_load_bit_for_bit(tmp_path: Path, shards: int) -> None:
    config = small_config()
    model = wide_model(config)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    state = model.state_dict()
    if shards == 1:
        torch.save(state, tmp_path / "pytorch_model.bin")
    else:
        names = [f"pytorch_model-{at}.bin" for at in range(shards)]
        weight_map = {name: names[at % shards] for at, name in enumerate(state)}
        for file in names:
            part = {name: state[name].clone() for name in state if weight_map[name] == file}
            torch.save(part, tmp_path / file)
        index = json.dumps({"metadata": {}, "weight_map": weight_map})
        (tmp_path / "pytorch_model.bin.index.json").write_text(index)
    loaded = load(tmp_path)
    assert_same(loaded, model)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_the_bare_transformer_loads_too(tmp_path: Path) -> None:
    config = small_config()
    bare = {name.removeprefix("transformer."): value for name, value in state_of(config).items()}
    assert_same(load(write_folder(tmp_path, config, bare)), wide_model(config))


def test_a_stored_head_is_used_whatever_the_configuration_says(tmp_path: Path) -> None:
    config = small_config(tie_word_embeddings=False)
    state = state_of(config)
    tied = replace(config, tie_word_embeddings=True)
    loaded = load(write_folder(tmp_path / "own", tied, state))
    assert torch.equal(loaded.lm_head.weight, state["lm_head.weight"])
    assert not loaded.config.tie_word_embeddings
    state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    loaded = load(write_folder(tmp_path / "same", config, state))
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


@pytest.mark.parametrize("quantize", ["none", "int8", "int4"])
def test_vocabulary_rows_are_those_of_the_tensor(tmp_path: Path, quantize: Quantize) -> None:
    config = small_config(vocab_size=61)
    wrong = replace(config, vocab_size=50)
    loaded = load(write_folder(tmp_path, wrong, state_of(config)), quantize=quantize)
    assert loaded.config.vocab_size == 61
    assert loaded(random_ids(config, 1, 4)).logits.shape == (1, 4, 61)


def drop(state: State) -> None:
    del state["transformer.h.1.mlp.c_fc.bias"]


def drop_embedding(state: State) -> None:
    del state["transformer.wte.weight"]


def add(state: State) -> None:
    state["transformer.h.1.attn.q_attn.weight"] = torch.zeros(2, 2)


def add_layer(state: State) -> None:
    state["transformer.h.3.ln_1.weight"] = torch.zeros(32)


def add_scale(state: State) -> None:
    state["transformer.ln_f.weight_scale"] = torch.zeros(32)


def shorten(state: State) -> None:
    state["transformer.wpe.weight"] = torch.zeros(47, 32)


def transpose(state: State) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    state[name] = state[name].T.contiguous()


def flatten_embedding(state: State) -> None:
    state["transformer.wte.weight"] = state["transformer.wte.weight"].flatten()


def break_head(state: State) -> None:
    state["lm_head.weight"] = torch.ones(60, 32)


def put_nan(state: State) -> None:
    state["transformer.h.2.attn.c_attn.weight"][3, 4] = torch.nan


def put_infinity(state: State) -> None:
    state["transformer.ln_f.bias"][0] = -torch.inf


def count(state: State) -> None:
    name = "transformer.h.0.mlp.c_fc.bias"
    state[name] = torch.zeros(state[name].shape, dtype=torch.int32)


def forget_scale(state: State) -> None:
    name = "transformer.h.0.mlp.c_fc.weight"
    state[name] = torch.zeros(state[name].shape, dtype=torch.int8)


def misshape_scale(state: State) -> None:
    forget_scale(state)
    state["transformer.h.0.mlp.c_fc.weight_scale"] = torch.ones(5)


def spoil_scale(state: State) -> None:
    forget_scale(state)
    scale = torch.ones(128)
    scale[7] = torch.nan
    state["transformer.h.0.mlp.c_fc.weight_scale"] = scale


@pytest.mark.parametrize("quantize", ["none", "int8", "int4"])
@pytest.mark.parametrize(
    ("damage", "error", "named"),
    [
        (drop, ModelIncompleteError, "transformer.h.1.mlp.c_fc.bias missing"),
        (drop_embedding, ModelIncompleteError, "transformer.wte.weight missing"),
        (add, ModelUnsupportedError, "transformer.h.1.attn.q_attn.weight"),
        (add_layer, ModelUnsupportedError, "transformer.h.3.ln_1.weight"),
        (add_scale, ModelUnsupportedError, "transformer.ln_f.weight_scale"),
        (shorten, ModelCorruptError, "transformer.wpe.weight has shape (47, 32)"),
        (transpose, ModelCorruptError, "transformer.h.0.mlp.c_fc.weight has shape (32, 128)"),
        (flatten_embedding, ModelCorruptError, "transformer.wte.weight has shape (1952,)"),
        (break_head, ModelCorruptError, "lm_head.weight has shape (60, 32)"),
        (put_nan, ModelCorruptError, "transformer.h.2.attn.c_attn.weight holds NaN"),
        (put_infinity, ModelCorruptError, "transformer.ln_f.bias holds NaN or infinity"),
        (count, ModelUnsupportedError, "transformer.h.0.mlp.c_fc.bias is of type I32"),
        (forget_scale, ModelIncompleteError, "transformer.h.0.mlp.c_fc.weight_scale is missing"),
        (misshape_scale, ModelCorruptError, "c_fc.weight_scale has shape (5,)"),
        (spoil_scale, ModelCorruptError, "c_fc.weight_scale holds NaN"),
    ],
)
def test_a_wrong_tensor_is_named(
    tmp_path: Path,
    damage: Callable[[State], None],
    error: type[ModelError],
    named: str,
    quantize: Quantize,
) -> None:
    config = small_config()
    state = state_of(config)
    damage(state)
    with pytest.raises(error) as caught:
        load(write_folder(tmp_path, config, state), quantize=quantize)
    assert named in caught.value.message
    assert "\n" not in caught.value.message


def test_an_own_head_that_is_not_there_is_missing(tmp_path: Path) -> None:
    config = small_config()
    untied = replace(config, tie_word_embeddings=False)
    with pytest.raises(ModelIncompleteError, match=r"lm_head\.weight missing"):
        load(write_folder(tmp_path, untied, state_of(config)))


def test_weights_beyond_float16_are_told_from_corrupt_ones(tmp_path: Path) -> None:
    config = small_config()
    state = state_of(config)
    state["transformer.ln_f.bias"][0] = 1e5
    write_folder(tmp_path, config, state)
    with pytest.raises(ModelUnsupportedError, match="numbers beyond float16") as caught:
        load(tmp_path, torch.float16)
    assert caught.value.hint == "try --dtype bfloat16 or float32"
    load(tmp_path, torch.bfloat16)


@pytest.mark.parametrize("tied", [True, False])
def test_int8_storage_round_trips(tmp_path: Path, *, tied: bool) -> None:
    config = small_config(tie_word_embeddings=tied)
    model = wide_model(config)
    save_model(model, config, tmp_path / "a", "int8", 10_000)
    spread = load(tmp_path / "a")
    save_model(spread, spread.config, tmp_path / "b", "int8", 10_000)
    for path in sorted((tmp_path / "a").glob("*.safetensors")):
        first, second = load_file(path), load_file(tmp_path / "b" / path.name)
        assert all(torch.equal(first[n], second[n]) for n in first if not n.endswith("_scale"))
    for name, value in model.state_dict().items():
        step = value.abs().amax(dim=-1, keepdim=True) / 127 if value.dim() == 2 else value / 128
        assert ((spread.state_dict()[name] - value).abs() <= step.abs() * 0.501).all(), name


def test_int8_storage_kept_or_spread_out_gives_the_same_logits(tmp_path: Path) -> None:
    for multi_query in (True, False):
        config = small_config(multi_query=multi_query)
        save_model(wide_model(config), config, tmp_path, "int8")
        kept, spread = load(tmp_path, quantize="int8"), load(tmp_path)
        codes = load_file(tmp_path / "model.safetensors")
        layer = kept.get_submodule("transformer.h.0.attn.c_attn")
        assert isinstance(layer, QuantizedLinear)
        assert torch.equal(layer.weight, codes["transformer.h.0.attn.c_attn.weight"])
        ids = random_ids(config, 2, 12)
        # wpe is spread out in both; all else is multiplied by the same numbers.
        assert relative_difference(kept(ids).logits, spread(ids).logits) < 1e-6


@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize(("quantize", "limit"), [("int8", 0.03), ("int4", 0.3)])
def test_quantised_logits_are_near(
    tmp_path: Path, storage: Storage, quantize: Quantize, limit: float
) -> None:
    config = small_config(n_embd=128, n_head=4)
    model = wide_model(config)
    save_model(model, config, tmp_path, storage)
    loaded = load(tmp_path, quantize=quantize)
    head, embedding = loaded.get_submodule("lm_head"), loaded.get_submodule("transformer.wte")
    assert isinstance(head, QuantizedLinear)
    assert isinstance(embedding, QuantizedEmbedding)
    assert head.weight is embedding.weight
    assert head.weight.dtype == torch.int8
    ids = random_ids(config, 2, 20)
    assert relative_difference(loaded(ids).logits, model(ids).logits) < limit
    half = load(tmp_path, torch.bfloat16, quantize)
    assert half(ids).logits.dtype == half.dtype == torch.bfloat16
    with pytest.raises(UsageError, match="a quantised model cannot be saved"):
        save_model(loaded, config, tmp_path / "again")


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_float_storage_rounds_once(tmp_path: Path, storage: Storage) -> None:
    dtype = STORED_AS[storage]
    config = small_config(extra={"dtype": "float8", "torch_dtype": "float8"})
    model = wide_model(config)
    save_model(model, config, tmp_path, storage)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["torch_dtype"] == storage
    assert "dtype" not in described
    assert_same(load(tmp_path, dtype), model.to(dtype))
    assert_same(load(tmp_path, torch.float32), model.float())


@pytest.mark.parametrize("case", interchange.configurations())
@pytest.mark.parametrize("model_class", CLASSES)
def test_state_dictionaries_are_those_of_transformers(
    tmp_path: Path, model_class: ModelClass, case: str
) -> None:
    """Names, shapes and order; of the saved file too, where a tied head is left out."""
    expected = json.loads(interchange.SHAPES_FILE.read_text())[case][model_class.__name__]
    config = GPTBigCodeConfig(**interchange.configurations()[case])
    model = model_class(config)
    assert interchange.shapes_of(model) == expected
    save_model(model, config, tmp_path, "float32")
    stored = {name: list(t.shape) for name, t in load_file(tmp_path / WEIGHTS).items()}
    if model_class is GPTBigCodeForCausalLM and config.tie_word_embeddings:
        del expected["lm_head.weight"]
    assert stored == expected
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["architectures"] == [model_class.__name__]
    assert described["id2label"] == {"0": "a", "1": "b", "2": "c"}


@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize("shard_bytes", [10**9, 10_000])
@pytest.mark.parametrize("saved", CLASSES)
@pytest.mark.parametrize("loaded", CLASSES)
def test_a_folder_of_any_class_loads_into_any_other(
    tmp_path: Path, saved: ModelClass, loaded: ModelClass, shard_bytes: int, storage: Storage
) -> None:
    config = small_config(n_layer=1)
    source = wide_of(saved, config)
    save_model(source, config, tmp_path, storage, shard_bytes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_model(loaded, tmp_path, device="cpu", dtype=torch.float32)
    told = " ".join(str(warning.message) for warning in caught)
    assert len(caught) <= 1
    own, other = HEAD_OF.get(loaded), HEAD_OF.get(saved)
    assert ("drawn anew" in told) is (own is not None and own != other)
    assert ("left out" in told) is (other is not None and own != other)
    assert all(head is None or head == own == other or head in told for head in (own, other))
    assert type(model) is loaded
    again = load_model(saved, tmp_path, device="cpu", dtype=torch.float32)
    expected = again.base_model.state_dict()
    decoder = model.base_model.state_dict()
    assert decoder.keys() == expected.keys()
    assert all(torch.equal(decoder[name], expected[name]) for name in expected)
    assert not any(value.is_meta for value in model.state_dict().values())


@pytest.mark.parametrize("quantize", ["none", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_that_is_not_there_is_drawn_like_a_new_one(
    tmp_path: Path, dtype: torch.dtype, quantize: Quantize
) -> None:
    torch.manual_seed(0)
    config = small_config(n_embd=128, n_head=4, num_labels=64, initializer_range=0.03)
    save_model(wide_model(config), config, tmp_path)
    told = r"has no classifier\.weight and no classifier\.bias, drawn anew and still to be trained$"
    with pytest.warns(BigcodeWarning, match=told):
        model = load_model(
            GPTBigCodeForTokenClassification,
            tmp_path,
            device="cpu",
            dtype=dtype,
            quantize=quantize,
        )
    assert model.classifier.weight.dtype == model.classifier.bias.dtype == dtype
    assert model.classifier.weight.std().item() == pytest.approx(0.03, rel=0.05)
    assert not model.classifier.bias.any()
    assert model(random_ids(config, 2, 4)).logits.shape == (2, 4, 64)


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_quantised_classifier_keeps_its_head_as_it_is(tmp_path: Path, quantize: Quantize) -> None:
    config = small_config(n_embd=128, n_head=4, num_labels=5, pad_token_id=0)
    exact = wide_of(GPTBigCodeForSequenceClassification, config)
    save_model(exact, config, tmp_path, "float32")
    model = load_model(
        GPTBigCodeForSequenceClassification,
        tmp_path,
        device="cpu",
        dtype=torch.float32,
        quantize=quantize,
    )
    assert torch.equal(model.score.weight, exact.score.weight)
    ids = random_ids(config, 3, 10)
    assert relative_difference(model(ids).logits, exact(ids).logits) < 0.3


def test_half_a_head_is_missing_a_half(tmp_path: Path) -> None:
    config = small_config()
    state = dict(wide_of(GPTBigCodeForTokenClassification, config).state_dict())
    del state["classifier.bias"]
    write_folder(tmp_path, config, state)
    with pytest.raises(ModelIncompleteError, match=r"classifier\.bias missing from the weights"):
        load_model(GPTBigCodeForTokenClassification, tmp_path, device="cpu", dtype=torch.float32)


def test_a_head_for_another_number_of_labels_is_refused(tmp_path: Path) -> None:
    config = small_config(num_labels=3)
    model = wide_of(GPTBigCodeForSequenceClassification, config)
    save_model(model, config, tmp_path, "float32")

    def load_for(labels: int) -> GPTBigCodeForSequenceClassification:
        return GPTBigCodeForSequenceClassification.from_pretrained(tmp_path, num_labels=labels)

    assert_same(load_for(3), model)
    with pytest.raises(ModelUnsupportedError, match=r"score\.weight has shape \(3, 32\)") as caught:
        load_for(5)
    assert caught.value.hint == "num_labels is 5, and the head in the folder has 3 labels"
    described = config.with_changes(num_labels=4).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ModelCorruptError, match=r"config\.json says \(4, 32\)") as corrupt:
        load_model(GPTBigCodeForSequenceClassification, tmp_path, device="cpu", dtype=torch.float32)
    assert corrupt.value.hint == "num_labels is 4, and the head in the folder has 3 labels"


@pytest.mark.parametrize("name", ["score.bias", "lm_head.bias", "transformer.score.weight"])
def test_what_no_head_has_is_surplus(tmp_path: Path, name: str) -> None:
    config = small_config()
    state = dict(wide_of(GPTBigCodeForSequenceClassification, config).state_dict())
    write_folder(tmp_path, config, {**state, name: torch.zeros(2)})
    for model_class in CLASSES:
        with pytest.raises(ModelUnsupportedError, match=f"GPTBigCode has no {re.escape(name)}"):
            load_model(model_class, tmp_path, device="cpu", dtype=torch.float32)


def test_a_classifier_takes_the_decoder_of_an_untied_language_model(tmp_path: Path) -> None:
    config = small_config(tie_word_embeddings=False)
    model = wide_model(config)
    save_model(model, config, tmp_path, "float32")
    bare = load_model(GPTBigCodeModel, tmp_path, device="cpu", dtype=torch.float32)
    assert_same(bare, model.transformer)
    save_model(bare, bare.config, tmp_path / "bare", "float32")
    untied = load_model(GPTBigCodeModel, tmp_path / "bare", device="cpu", dtype=torch.float32)
    assert not untied.config.tie_word_embeddings
    with pytest.raises(ModelIncompleteError, match=r"lm_head\.weight missing"):
        load(tmp_path / "bare")


def test_weights_of_another_family_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="they have no wte"):
        save_model({"weight": torch.zeros(2, 2)}, small_config(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_fewer_shards_leave_none_of_the_old_ones(tmp_path: Path) -> None:
    config = small_config()
    model = wide_model(config)
    (tmp_path / "model-of-mine.safetensors").touch()
    for shard_bytes in (10_000, 30_000, 20_000, 10**9):
        save_model(model, config, tmp_path, "float32", shard_bytes)
        files = [path.name for path in tmp_path.glob("model-?????-of-*")]
        assert all(name.endswith(f"-of-{len(files):05d}.safetensors") for name in files)
        assert (len(files) == 0) is (shard_bytes == 10**9)
        assert_same(load(tmp_path), model)
    assert (tmp_path / "model-of-mine.safetensors").exists()


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    config = small_config()
    save_model(wide_model(config), config, tmp_path, "float32", 10_000)
    told: list[tuple[int, int]] = []
    load_model(
        GPTBigCodeForCausalLM,
        tmp_path,
        device="cpu",
        dtype=torch.float32,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told)
    assert told[-1] == (4 * config.parameter_count(),) * 2


def test_flash_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    config = small_config()
    folder = write_folder(tmp_path, config, state_of(config))
    with pytest.raises(UsageError, match="flash attention needs a CUDA device"):
        load_model(
            GPTBigCodeForCausalLM,
            folder,
            device="cpu",
            dtype=torch.float32,
            attn_implementation="flash_attention_2",
        )


def test_saving_again_replaces_what_was_there(tmp_path: Path) -> None:
    config = small_config()
    first, second = wide_model(config, case=1), wide_model(config, case=2)
    for model, shard_bytes in ((first, 10_000), (second, 10**9), (first, 10_000)):
        save_model(model, config, tmp_path, "float32", shard_bytes)
        assert_same(load(tmp_path), model)
    assert not list(tmp_path.glob("*.part"))


def test_saved_files_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    config = small_config()
    save_model(wide_model(config), config, tmp_path)
    (tmp_path / "new").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_full_disk_leaves_the_old_model_as_it_was(tmp_path: Path) -> None:
    config = small_config()
    old = wide_model(config, case=1)
    save_model(old, config, tmp_path, "float32")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            save_model(wide_model(config, case=2), config, tmp_path, "float32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert_same(load(tmp_path), old)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    config = small_config()
    (tmp_path / "x").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_model(wide_model(config), config, tmp_path / "x")


MEASURE = """
import os, resource, sys
from pathlib import Path
import torch
from bigcode_cli.model.checkpoint import load_model
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM

def peak():
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux begins with the parent's peak
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def load(folder, dtype, quantize):
    model = GPTBigCodeForCausalLM
    return load_model(model, Path(folder), device="cpu", dtype=dtype, quantize=quantize)

# What one load leaves to the allocator must not hide what the next one takes: a process each.
for kind in [(torch.float32, "int4"), (torch.bfloat16, "none"), (torch.float32, "none")]:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    load(sys.argv[1], *kind)(torch.tensor([[1]]))
    before = peak()
    model = load(sys.argv[2], *kind)
    print(peak() - before, flush=True)
    os._exit(0)
"""


def test_the_weights_are_never_in_memory_twice(tmp_path: Path) -> None:
    """A model of some 200 MB in float32, its largest tensor 16 MB."""
    config = small_config()
    save_model(wide_model(config), config, tmp_path / "tiny", "float32")
    config = small_config(n_embd=1024, n_layer=5, n_head=8)
    save_model(GPTBigCodeForCausalLM(config), config, tmp_path / "large", "float32")
    stored = (tmp_path / "large" / "model.safetensors").stat().st_size
    assert stored > 190e6
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "tiny"), str(tmp_path / "large")],
        capture_output=True,
        text=True,
        check=True,
    )
    grown = [int(line) for line in output.stdout.split()]
    largest = 4 * 4 * 1024 * 1024
    # Of int4 attention and the first layer are int8, and a layer is looked at as it was; of what
    # that leaves, the allocator keeps some tensors or none. All of it is less than the model.
    layer = stored / config.n_layer + 3 * largest
    for share, beside, peak in zip((0.19, 0.5, 1.0), (layer, 0, 0), grown, strict=True):
        most = share * stored + beside + 4 * largest
        assert 0.9 * share * stored < peak < most, f"{peak / 1e6:.0f} MB"
