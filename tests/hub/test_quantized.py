"""Quantised weights among the models: listed under a model's name and their bits, and removed."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from bigcode_cli.errors import ModelNotFoundError, UsageError
from bigcode_cli.hub import inventory
from bigcode_cli.hub.inventory import find_removable, list_models, remove_model
from bigcode_cli.model.quantized_files import metadata, quantized_folder
from bigcode_cli.model.quantized_weights import write_quantized


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "BUILTIN_FOLDER", tmp_path / "builtin")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("BIGCODE_HOME", str(tmp_path / "home"))


def keep(key: str, model: str, quantize: str) -> Path:
    path = quantized_folder() / f"{key}.safetensors"
    write_quantized({"a": torch.ones(3)}, path, metadata(model, quantize))
    return path


def names() -> list[str]:
    return [model.name for model in list_models()]


def test_they_are_listed_by_name_and_bits() -> None:
    second, first = keep("a", "mini", "int8"), keep("b", "mini", "int4")
    keep("c", "./folder", "int8")
    assert names() == ["./folder@int8", "mini@int4", "mini@int8"]
    _, four, eight = list_models()
    assert (four.path, eight.path) == (first, second)
    assert (four.kind, four.size, four.complete) == ("quantized", first.stat().st_size, True)


def test_one_is_removed_in_all_states_of_its_model_and_the_others_stay() -> None:
    gone = [keep("a", "mini", "int8"), keep("b", "mini", "int8")]
    keep("c", "mini", "int4")
    size = sum(path.stat().st_size for path in gone)
    assert find_removable("mini@int8", None) in gone
    assert remove_model("mini@int8", None) == size
    assert names() == ["mini@int4"]
    with pytest.raises((ModelNotFoundError, UsageError)):
        remove_model("mini@int8", None)


def test_a_revision_of_them_makes_no_sense() -> None:
    keep("a", "mini", "int8")
    with pytest.raises(UsageError, match="--revision"):
        remove_model("mini@int8", "main")
    assert names() == ["mini@int8"]


@pytest.mark.parametrize("content", [b"", b"no header", b"\x02" + bytes(7) + b"{}"])
def test_what_is_no_such_file_is_not_listed_and_does_no_harm(content: bytes) -> None:
    keep("a", "mini", "int8")
    (quantized_folder() / "b.safetensors").write_bytes(content)
    text = json.dumps({"__metadata__": {"model": 3, "quantize": "int8"}}).encode()
    (quantized_folder() / "c.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    assert names() == ["mini@int8"]
