import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bigcode_cli.errors import ModelIncompleteError, ModelNotFoundError
from bigcode_cli.hub import resolve
from bigcode_cli.hub.heads import find_task
from bigcode_cli.hub.tasks import list_tasks

FILES = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture
def builtin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with two heads, a language model, and what is no model."""
    monkeypatch.setattr(resolve, "BUILTIN_FOLDER", tmp_path)
    add(tmp_path / "tokens", ["GPTBigCodeForTokenClassification"])
    add(tmp_path / "files", ["GPTBigCodeForSequenceClassification"])
    add(tmp_path / "lm", ["GPTBigCodeForCausalLM"])
    add(tmp_path / "odd", "GPTBigCodeForTokenClassification")
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "spoilt" / "config.json").write_text("{")
    (tmp_path / "file").write_text("")
    return tmp_path


def add(folder: Path, classes: Sequence[str]) -> None:
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text("{}")
    (folder / "config.json").write_text(json.dumps({"architectures": classes}))


def test_tasks_are_the_built_in_folders_with_a_head(builtin: Path) -> None:
    assert list_tasks(builtin) == ("files", "tokens")
    assert find_task("tokens").path == builtin / "tokens"
    assert find_task("tokens").name == "tokens"


@pytest.mark.parametrize("name", ["lm", "odd", "file", "../files", "files/", "", "\0"])
def test_another_task_is_unknown(builtin: Path, name: str) -> None:
    assert builtin.is_dir()
    with pytest.raises(ModelNotFoundError) as caught:
        find_task(name)
    assert caught.value.hint == "built-in heads: files, tokens"


def test_where_there_is_none_the_hint_names_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "BUILTIN_FOLDER", tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        find_task("files")
    assert caught.value.hint is not None
    assert "--model" in caught.value.hint


def test_a_head_without_its_weights_is_incomplete(builtin: Path) -> None:
    (builtin / "tokens" / "model.safetensors").unlink()
    with pytest.raises(ModelIncompleteError, match=r"tokens has no model\.safetensors"):
        find_task("tokens")
