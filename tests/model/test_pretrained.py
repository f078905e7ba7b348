import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bigcode_cli import GPTBigCodeForCausalLM as PublicClass
from bigcode_cli.errors import (
    BigcodeWarning,
    ModelNotFoundError,
    ModelUnsupportedError,
    OutputError,
    UsageError,
)
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.gpt_bigcode import GPTBigCodeModel
from bigcode_cli.model.heads import (
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
)
from bigcode_cli.model.locate import set_finder
from bigcode_cli.model.pretrained import GPTBigCodePreTrainedModel
from bigcode_cli.records import Quantize
from tests.model.models import (
    random_ids,
    relative_difference,
    small_config,
    wide_model,
    wide_of,
)

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


def assert_same(first: nn.Module, second: nn.Module) -> None:
    """Bit for bit."""
    left, right = first.state_dict(), second.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", ["5GB", 10_000])
@pytest.mark.parametrize("model_class", CLASSES)
def test_what_is_saved_is_loaded_bit_for_bit(
    tmp_path: Path, model_class: ModelClass, size: int | str, dtype: torch.dtype
) -> None:
    config = small_config(num_labels=3, multi_query=False, problem_type="regression")
    model = wide_of(model_class, config).to(dtype).train()
    model.save_pretrained(tmp_path / "new" / "model", max_shard_size=size)
    files = sorted(path.name for path in (tmp_path / "new" / "model").iterdir())
    assert ("model.safetensors.index.json" in files) is (size == 10_000)
    loaded = model_class.from_pretrained(tmp_path / "new" / "model", dtype="auto")
    assert type(loaded) is model_class
    assert_same(loaded, model)
    assert not loaded.training
    assert loaded.config.id2label == config.id2label
    assert loaded.config.problem_type == "regression"
    assert loaded.config.extra["architectures"] == [model_class.__name__]
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_the_dtype_is_float32_unless_another_is_asked_for(tmp_path: Path) -> None:
    wide_model(small_config()).half().save_pretrained(tmp_path)
    expected = {
        None: torch.float32,
        "auto": torch.float16,
        "bfloat16": torch.bfloat16,
        torch.float16: torch.float16,
        torch.float64: torch.float64,
    }
    for asked, dtype in expected.items():
        model = GPTBigCodeForCausalLM.from_pretrained(tmp_path, dtype=asked)
        assert model.dtype == dtype
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_auto_is_what_the_configuration_names_else_the_widest_stored(
    tmp_path: Path, key: str
) -> None:
    wide_model(small_config()).to(torch.bfloat16).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    del values["torch_dtype"]
    for named, dtype in (
        ({}, torch.bfloat16),
        ({key: "float16"}, torch.float16),
        ({key: "float8"}, torch.bfloat16),
        ({key: 16}, torch.bfloat16),
    ):
        path.write_text(json.dumps(values | named))
        assert GPTBigCodeModel.from_pretrained(tmp_path, dtype="auto").dtype == dtype


@pytest.mark.parametrize("dtype", ["float", "int8", torch.int64, 32])
def test_what_is_no_dtype_of_weights_is_refused(tmp_path: Path, dtype: Any) -> None:
    with pytest.raises(UsageError, match="no dtype of weights"):
        GPTBigCodeModel.from_pretrained(tmp_path, dtype=dtype)


def test_changes_go_through_the_configuration(tmp_path: Path) -> None:
    wide_model(small_config()).save_pretrained(tmp_path)
    with pytest.warns(BigcodeWarning, match=r"has no score\.weight, drawn anew"):
        model = GPTBigCodeForSequenceClassification.from_pretrained(
            tmp_path,
            id2label={0: "bug", 1: "fine", 2: "style"},
            problem_type="multi_label_classification",
            attn_pdrop=0.25,
        )
    assert model.config.label2id == {"bug": 0, "fine": 1, "style": 2}
    assert model.score.weight.shape == (3, 32)
    assert model.config.attn_pdrop == 0.25
    with pytest.raises(ModelUnsupportedError, match="attn_pdrop"):
        GPTBigCodeForCausalLM.from_pretrained(tmp_path, attn_pdrop=2.0)
    with pytest.raises(TypeError, match="no field 'attn_dropout'"):
        GPTBigCodeForCausalLM.from_pretrained(tmp_path, attn_dropout=0.1)  # type: ignore[call-arg]
    with pytest.raises(ModelUnsupportedError, match=r"wpe\.weight has shape \(48, 32\) where the"):
        GPTBigCodeForCausalLM.from_pretrained(tmp_path, n_positions=47)


def test_a_configuration_can_be_given(tmp_path: Path) -> None:
    model = wide_model(small_config())
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    config = small_config(resid_pdrop=0.5)
    loaded = GPTBigCodeForCausalLM.from_pretrained(tmp_path, config=config, embd_pdrop=0.25)
    assert_same(loaded, model)
    assert (loaded.config.resid_pdrop, loaded.config.embd_pdrop) == (0.5, 0.25)
    assert config.embd_pdrop == 0.1


def test_arguments_reach_the_loader(tmp_path: Path) -> None:
    wide_model(small_config()).save_pretrained(tmp_path)
    told: list[tuple[int, int]] = []
    model = GPTBigCodeForCausalLM.from_pretrained(
        tmp_path,
        attn_implementation="eager",
        quantize="int8",
        device=torch.device("cpu"),
        progress=lambda done, total: told.append((done, total)),
    )
    assert model.attn_implementation == "eager"
    assert any(buffer.dtype == torch.int8 for buffer in model.buffers())
    assert told[-1][0] == told[-1][1] > 0
    wrong: Any = "int2"
    with pytest.raises(UsageError, match="unknown quantisation 'int2'"):
        GPTBigCodeForCausalLM.from_pretrained(tmp_path, quantize=wrong)
    with pytest.raises(UsageError, match="unknown attention 'fast'"):
        GPTBigCodeForCausalLM.from_pretrained(tmp_path, attn_implementation="fast")
    with pytest.raises(UsageError, match="a revision is for models on the Hub"):
        GPTBigCodeForCausalLM.from_pretrained(tmp_path, revision="main")


@pytest.fixture
def finder(tmp_path: Path) -> Iterator[list[dict[str, object]]]:
    """Finds ``small`` and tells what it was asked."""
    asked: list[dict[str, object]] = []

    def find(name: str, **options: object) -> Path:
        asked.append({"name": name, **options})
        return tmp_path

    before = set_finder(find)
    yield asked
    set_finder(before)


def test_a_name_is_looked_for_by_the_finder(
    tmp_path: Path, finder: list[dict[str, object]]
) -> None:
    model = wide_model(small_config())
    model.save_pretrained(tmp_path)
    loaded = PublicClass.from_pretrained("small", revision="v1", local_files_only=True)
    assert_same(loaded, model)
    options = {"revision": "v1", "local_files_only": True, "config_only": False}
    assert finder == [{"name": "small", **options}]


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no model folder"):
        GPTBigCodeModel.from_pretrained(tmp_path / "none")


def test_training_a_loaded_model_leaves_its_file_alone(tmp_path: Path) -> None:
    wide_model(small_config()).save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model = GPTBigCodeForCausalLM.from_pretrained(tmp_path).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = random_ids(model.config, 2, 8)
    torch.autograd.backward([model(ids, labels=ids).loss])
    optimiser.step()
    assert (tmp_path / "model.safetensors").read_bytes() == before
    model.save_pretrained(tmp_path)
    assert_same(GPTBigCodeForCausalLM.from_pretrained(tmp_path), model)


def test_what_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    model = wide_model(small_config())
    with pytest.raises(UsageError, match=r"a model in torch\.float64 cannot be saved"):
        wide_model(small_config()).double().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="'big' is no size"):
        model.save_pretrained(tmp_path, max_shard_size="big")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file")
    model.save_pretrained(tmp_path / "model")
    quantised = GPTBigCodeForCausalLM.from_pretrained(tmp_path / "model", quantize="int4")
    with pytest.raises(UsageError, match="a quantised model cannot be saved"):
        quantised.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize("model_class", CLASSES)
def test_decoder_and_head_have_one_configuration_and_one_attention(
    model_class: ModelClass,
) -> None:
    model = model_class(small_config(), "eager")
    assert isinstance(model.base_model, GPTBigCodeModel)
    assert model.attn_implementation == model.base_model.attn_implementation == "eager"
    for name in ("sdpa", "flash_attention_2", "auto"):
        model.set_attn_implementation(name)
        assert model.base_model.attn_implementation == name
    model.base_model.attn_implementation = "eager"
    assert model.attn_implementation == "eager"
    with pytest.raises(UsageError, match="unknown attention 'fast'"):
        model.set_attn_implementation("fast")
    with pytest.raises(UsageError, match="unknown attention 'fast'"):
        model_class(small_config(), "fast")
    model.config = model.config.with_changes(use_cache=False)
    assert model.base_model.config is model.config
    assert "past_key_values" not in model(torch.tensor([[1, 2]]))


def test_the_attention_that_is_set_is_used() -> None:
    model = wide_model(small_config(), "sdpa")
    ids = random_ids(model.config, 1, 4)
    with pytest.warns(BigcodeWarning, match="eager does this pass"):
        model(ids, output_attentions=True)
    model = wide_model(small_config(), "sdpa")
    model.set_attn_implementation("eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(ids, output_attentions=True)


@pytest.mark.parametrize("model_class", CLASSES)
def test_gradient_checkpointing_is_a_switch(model_class: ModelClass) -> None:
    model = model_class(small_config())
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    assert model.base_model.gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted(*, tied: bool) -> None:
    config = small_config(tie_word_embeddings=tied, n_inner=50)
    model = GPTBigCodeForCausalLM(config)
    total = config.parameter_count()
    assert model.num_parameters() == total
    embeddings = (config.vocab_size + config.n_positions) * config.n_embd
    assert model.num_parameters(exclude_embeddings=True) == total - embeddings
    model.transformer.h.requires_grad_(False)
    frozen = sum(parameter.numel() for parameter in model.transformer.h.parameters())
    assert model.num_parameters(only_trainable=True) == total - frozen
    rest = model.num_parameters(only_trainable=True, exclude_embeddings=True)
    assert rest == total - frozen - embeddings
    assert model.transformer.num_parameters() == total - (0 if tied else 61 * 32)


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("mean_resizing", [True, False])
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_resizing_keeps_the_old_tokens(
    tmp_path: Path, model_class: ModelClass, *, tied: bool, mean_resizing: bool
) -> None:
    config = small_config(tie_word_embeddings=tied)
    model = wide_of(model_class, config)
    ids = random_ids(config, 1, 6).clamp(max=39)
    expected = model(ids)[0]
    for rows in (70, 40):
        embedding = model.resize_token_embeddings(rows, mean_resizing=mean_resizing)
        assert embedding is model.get_input_embeddings() is model.base_model.wte
        assert embedding.weight.shape == (rows, 32)
        assert embedding.num_embeddings == rows
        assert model.config.vocab_size == model.base_model.config.vocab_size == rows
        output = model(ids)[0]
        if isinstance(model, GPTBigCodeForCausalLM):
            assert output.shape[-1] == model.lm_head.out_features == rows
            assert (model.lm_head.weight is model.transformer.wte.weight) is tied
            output, expected = output[..., :40], expected[..., :40]
        assert relative_difference(output, expected) < 1e-6
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    assert_same(loaded, model)
    assert loaded.config.vocab_size == 40


@torch.no_grad()
def test_new_tokens_are_drawn_around_the_mean_in_both_matrices() -> None:
    torch.manual_seed(0)
    model = wide_model(small_config(tie_word_embeddings=False))
    wte, head = model.transformer.wte, model.lm_head
    means = [wte.weight.mean(dim=0), head.weight.mean(dim=0)]
    model.resize_token_embeddings(80)
    for weight, mean in zip((wte.weight, head.weight), means, strict=True):
        assert (weight[61:] - mean).abs().max() < 1e-3
        assert torch.pdist(weight[61:]).min() > 0
    model.resize_token_embeddings(1080, mean_resizing=False)
    for weight in (wte.weight, head.weight):
        assert weight[80:].std().item() == pytest.approx(0.02, rel=0.05)


def test_a_multiple_can_be_asked_for_alone() -> None:
    model = GPTBigCodeForCausalLM(small_config(vocab_size=61))
    assert model.resize_token_embeddings() is model.transformer.wte
    assert model.config.vocab_size == 61
    model.resize_token_embeddings(pad_to_multiple_of=64)
    assert model.config.vocab_size == model.lm_head.weight.shape[0] == 64
    model.resize_token_embeddings(65, pad_to_multiple_of=16)
    assert model.config.vocab_size == 80


def test_resizing_the_decoder_alone_reaches_the_head_by_its_tie() -> None:
    model = wide_model(small_config())
    model.transformer.resize_token_embeddings(70)
    model.tie_weights()
    assert model.config.vocab_size == model.lm_head.out_features == 70
    assert model(torch.tensor([[69]])).logits.shape == (1, 1, 70)


def test_a_resized_model_learns_its_new_tokens() -> None:
    torch.manual_seed(0)
    model = GPTBigCodeForCausalLM(small_config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    ids = torch.tensor([[61, 3, 62, 5, 61, 3, 62, 5]])
    model.resize_token_embeddings(63)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        loss = model(ids, labels=ids).loss
        optimiser.zero_grad()
        torch.autograd.backward([loss])
        optimiser.step()
    assert model(ids).logits[0, :-1].argmax(dim=-1).tolist() == ids[0, 1:].tolist()


def test_frozen_embeddings_stay_frozen() -> None:
    model = GPTBigCodeModel(small_config())
    model.wte.requires_grad_(False)
    model.resize_token_embeddings(70)
    assert not model.wte.weight.requires_grad


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_quantised_model_keeps_its_tokens(tmp_path: Path, quantize: Quantize) -> None:
    wide_model(small_config()).save_pretrained(tmp_path)
    model = GPTBigCodeForCausalLM.from_pretrained(tmp_path, quantize=quantize)
    with pytest.raises(UsageError, match="a quantised model keeps its tokens"):
        model.resize_token_embeddings(70)
    ids = random_ids(model.config, 1, 4)
    expected = model(ids).logits
    model.tie_weights()
    assert torch.equal(model(ids).logits, expected)


def test_a_size_that_no_model_can_have_changes_nothing() -> None:
    model = GPTBigCodeForCausalLM(small_config())
    with pytest.raises(UsageError, match="new_num_tokens"):
        model.resize_token_embeddings(0)
    with pytest.raises(ModelUnsupportedError, match="vocab_size"):
        model.resize_token_embeddings(2**30)
    assert model.config.vocab_size == model.transformer.wte.weight.shape[0] == 61


@torch.no_grad()
def test_embeddings_can_be_exchanged() -> None:
    model = wide_model(small_config())
    ids = random_ids(model.config, 1, 5)
    fresh = nn.Embedding(61, 32)
    model.set_input_embeddings(fresh)
    assert model.get_input_embeddings() is model.transformer.wte is fresh
    head = model.get_output_embeddings()
    assert head is model.lm_head
    model.tie_weights()
    assert model.lm_head.weight is fresh.weight
    hidden = model.transformer(ids).last_hidden_state
    assert relative_difference(model(ids).logits, hidden @ fresh.weight.T) < 1e-6
    own = nn.Linear(32, 61, bias=False)
    model.set_output_embeddings(own)
    assert model.lm_head is own
    assert relative_difference(model(ids).logits, hidden @ own.weight.T) < 1e-6
    longer = nn.Embedding(70, 32)
    model.set_input_embeddings(longer)
    model.tie_weights()
    assert model.config.vocab_size == model.lm_head.out_features == 70


def test_embeddings_of_another_width_are_refused() -> None:
    model = GPTBigCodeForCausalLM(small_config())
    with pytest.raises(UsageError, match="embeddings are 32 wide here"):
        model.set_input_embeddings(nn.Embedding(61, 33))
    with pytest.raises(UsageError, match="embeddings are 32 wide here"):
        model.set_output_embeddings(nn.Linear(33, 61, bias=False))
    for model_class in CLASSES:
        if model_class is not GPTBigCodeForCausalLM:
            other = model_class(small_config())
            assert other.get_output_embeddings() is None
            with pytest.raises(UsageError, match="has no output embeddings"):
                other.set_output_embeddings(nn.Linear(32, 61, bias=False))


def test_weights_are_tied_only_where_the_configuration_says_so() -> None:
    model = GPTBigCodeForCausalLM(small_config(tie_word_embeddings=False))
    model.tie_weights()
    assert model.lm_head.weight is not model.transformer.wte.weight


@pytest.mark.parametrize("model_class", CLASSES)
def test_a_copy_is_a_model_of_its_own(model_class: ModelClass) -> None:
    model = wide_of(model_class, small_config())
    twin = copy.deepcopy(model)
    assert_same(twin, model)
    twin.resize_token_embeddings(70)
    assert model.config.vocab_size == 61


def test_initialising_draws_all_weights_anew() -> None:
    torch.manual_seed(0)
    for model_class in CLASSES:
        model: GPTBigCodePreTrainedModel = wide_of(model_class, small_config())
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.initialise()
        for name, value in model.state_dict().items():
            assert not torch.equal(value, before[name]), name


def test_a_saved_bare_model_has_no_prefix(tmp_path: Path) -> None:
    model = wide_of(GPTBigCodeModel, small_config())
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
