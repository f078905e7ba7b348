import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from bigcode_cli.errors import ModelCorruptError, OutputError
from bigcode_cli.hub import export as exporting
from bigcode_cli.hub.export import export
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.records import ModelFolder, Silence
from bigcode_cli.text.tokenizer import Tokenizer
from tests.hub.contents import model_files, write_folder
from tests.tokenizers import SPECIAL_TOKENS

CARD = b"---\nlicense: apache-2.0\n---\n# A model\n"


@pytest.fixture
def model(tmp_path: Path) -> ModelFolder:
    path = write_folder(tmp_path / "model", {**model_files(), "MODEL_CARD.md": CARD})
    return ModelFolder(name="model", path=path)


def test_an_export_holds_the_same_model(model: ModelFolder, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    export(model, target, Silence())
    first = load_model(
        GPTBigCodeForCausalLM, model.path, device="cpu", dtype=torch.bfloat16
    ).state_dict()
    second = load_model(
        GPTBigCodeForCausalLM, target, device="cpu", dtype=torch.bfloat16
    ).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert Tokenizer.load(target).control_ids == Tokenizer.load(model.path).control_ids
    assert (target / "MODEL_CARD.md").read_bytes() == CARD
    assert sorted(path.name for path in target.iterdir()) == [
        "MODEL_CARD.md",
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_int8_storage_is_exported_as_plain_bfloat16(model: ModelFolder, tmp_path: Path) -> None:
    loaded = load_model(GPTBigCodeForCausalLM, model.path, device="cpu", dtype=torch.float32)
    stored = tmp_path / "int8"
    save_model(loaded, loaded.config, stored, storage="int8")
    (stored / "tokenizer.json").write_bytes(model_files()["tokenizer.json"])
    export(ModelFolder(name="int8", path=stored), tmp_path / "out", Silence())
    tensors = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert not [name for name in tensors if name.endswith("_scale")]
    assert tensors.keys() == loaded.state_dict().keys() - {"lm_head.weight"}


def test_transformers_is_told_of_the_special_tokens(model: ModelFolder, tmp_path: Path) -> None:
    export(model, tmp_path / "out", Silence())
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == settings["bos_token"] == "<|endoftext|>"
    assert settings["additional_special_tokens"] == list(SPECIAL_TOKENS[1:])
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["clean_up_tokenization_spaces"] is False
    assert settings["model_max_length"] == 64


def test_an_empty_folder_is_filled(model: ModelFolder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(model, tmp_path / "out", Silence())
    assert (tmp_path / "out" / "config.json").is_file()


def test_nothing_is_overwritten(model: ModelFolder, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "full", {"mine.txt": b"mine"})
    (tmp_path / "link").symlink_to(tmp_path)
    for target, why in [
        (folder, "is not empty"),
        (folder / "mine.txt", "is not a folder"),
        (tmp_path / "link", "is not a folder"),
        (folder / "mine.txt" / "below", "cannot write"),
    ]:
        with pytest.raises(OutputError, match=why):
            export(model, target, Silence())
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "link", "model"]


def test_a_failed_export_leaves_nothing(model: ModelFolder, tmp_path: Path) -> None:
    (model.path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelCorruptError):
        export(model, tmp_path / "out", Silence())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupted_export_leaves_nothing(
    model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_write_tokenizer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(model, tmp_path / "out", Silence())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
