import os
from pathlib import Path

import pytest
import torch

from bigcode_cli.errors import ModelIncompleteError, ModelNotFoundError, OutputError, UsageError
from bigcode_cli.hub.deltas import base_keys
from bigcode_cli.hub.export import export
from bigcode_cli.hub.facts import describe
from bigcode_cli.hub.inventory import find_removable, list_models, remove_model
from bigcode_cli.hub.keep import check_name, draft
from bigcode_cli.hub.names import BuiltinName, FolderName, SavedName, parse_name
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.hub.saved import find_saved, is_plain_name, list_saved, saved_folder
from bigcode_cli.hub.verify import verify
from bigcode_cli.hub.weights import load_as_stored
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_difference
from bigcode_cli.records import ModelFolder, Silence
from tests.hub.contents import model_files, write_folder

NAME = "code-tuned"
CHANGED = "transformer.h.0.ln_1.weight"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BIGCODE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    write_folder(folder, model_files())
    return folder


def whole(folder: Path) -> GPTBigCodeForCausalLM:
    return load_model(GPTBigCodeForCausalLM, folder, device="cpu", dtype=torch.float32)


def save(base: Path, name: str = NAME, *, replace: bool = False, value: float = 2.0) -> Path:
    """A saved model that differs from its base in one norm."""
    found = resolve(str(base), report=Silence())
    config = whole(base).config
    config = config.with_changes(extra={**config.extra, **base_keys(found)})
    changed = {CHANGED: torch.full((config.n_embd,), value)}
    with draft(name, replace=replace) as made:
        save_difference(changed, config, "GPTBigCodeForCausalLM", made.folder)
        return made.keep()


def test_the_folder_is_the_users_own(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert saved_folder() == home / "models"
    monkeypatch.delenv("BIGCODE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert saved_folder() == tmp_path / "data" / "bigcode" / "models"
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "not/absolute"):
        monkeypatch.setenv("XDG_DATA_HOME", value)
        assert saved_folder() == tmp_path / ".local/share/bigcode/models"


@pytest.mark.parametrize("name", ["a", "flask-tuned", "v1.2_x", "A" * 100])
def test_plain_names_are_known(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "a/b", "a\\b", "a b", ".a", "a.", "é", "a\n", "A" * 101, "a:b"]
)
def test_what_could_leave_the_folder_or_hide_in_it_is_no_name(name: str) -> None:
    assert not is_plain_name(name)
    assert find_saved(name) is None
    with pytest.raises(UsageError, match="cannot be a model's name"):
        check_name(name, replace=False)


def test_a_saved_name_is_found_behind_built_in_ones_and_before_folders(base: Path) -> None:
    folder = save(base)
    assert parse_name(NAME) == SavedName(NAME, folder)
    Path(NAME).mkdir()
    assert parse_name(NAME) == SavedName(NAME, folder)
    assert parse_name(f"./{NAME}") == FolderName(Path(NAME))
    (saved_folder() / "mini").mkdir()
    assert parse_name("mini") == BuiltinName("mini")


def test_what_is_saved_resolves_to_its_folder_and_its_base(base: Path) -> None:
    folder = resolve(NAME, report=Silence()) if save(base) else None
    assert folder is not None
    assert (folder.path, folder.base) == (saved_folder() / NAME, base.resolve())
    loaded = load_as_stored(folder, "", Silence())
    expected = dict(whole(base).named_parameters())
    for name, weight in loaded.named_parameters():
        wanted = torch.full_like(weight, 2.0) if name == CHANGED else expected[name]
        assert torch.equal(weight.float(), wanted.float())


def test_a_base_that_is_gone_or_changed_is_told(base: Path, tmp_path: Path) -> None:
    save(base)
    base.rename(tmp_path / "elsewhere")
    with pytest.raises((ModelIncompleteError, ModelNotFoundError), match="base"):
        resolve(NAME, report=Silence())
    assert resolve(NAME, base=str(tmp_path / "elsewhere"), report=Silence()).base is not None


def test_a_folder_that_someone_else_made_leads_to_no_path(base: Path) -> None:
    folder = save(base)
    with pytest.raises(ModelIncompleteError, match="you must name"):
        resolve(str(folder), report=Silence())


def test_a_name_is_taken_once_unless_it_is_to_be_replaced(base: Path) -> None:
    save(base)
    with pytest.raises(UsageError, match="already"):
        save(base)
    folder = save(base, replace=True, value=3.0)
    found = load_as_stored(resolve(NAME, report=Silence()), "", Silence())
    assert found.get_parameter(CHANGED)[0] == 3.0
    assert [path.name for path in folder.parent.iterdir()] == [NAME]


def test_a_built_in_name_cannot_be_taken() -> None:
    with pytest.raises(UsageError, match="built-in"):
        check_name("mini", replace=True)


def test_what_is_not_kept_leaves_nothing() -> None:
    with draft(NAME, replace=False) as made:
        (made.folder / "file").write_text("x")
        assert list_saved() == []
    assert list(saved_folder().iterdir()) == []
    with pytest.raises(KeyboardInterrupt), draft(NAME, replace=False):
        raise KeyboardInterrupt
    assert list(saved_folder().iterdir()) == []


def test_a_failed_replacement_leaves_what_was_there(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(base)
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if path.name.endswith(".part"):
            raise OSError(28, os.strerror(28))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OutputError, match="No space"):
        save(base, replace=True, value=3.0)
    monkeypatch.undo()
    monkeypatch.setenv("BIGCODE_HOME", str(base.parent / "home"))
    found = load_as_stored(resolve(NAME, report=Silence()), "", Silence())
    assert found.get_parameter(CHANGED)[0] == 2.0


def test_a_home_that_cannot_be_written_is_told_at_once(home: Path) -> None:
    home.write_text("a file")
    with (
        pytest.raises(OutputError, match="cannot write") as told,
        draft(NAME, replace=False),
    ):
        pass
    assert "BIGCODE_HOME" in (told.value.hint or "")


def test_saved_models_are_listed_shown_verified_exported_and_removed(
    base: Path, tmp_path: Path
) -> None:
    folder = save(base)
    listed = {model.name: model for model in list_models()}
    assert listed[NAME].kind == "saved"
    assert listed[NAME].complete
    facts = describe(NAME, report=Silence())
    assert (facts.here, facts.base) == (True, base.resolve())
    assert facts.memory == describe(str(base), report=Silence()).memory
    found = resolve(NAME, report=Silence())
    checked = verify(found, Silence())
    assert {file.name for file in checked.files} == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert checked.tensors == sum(1 for _ in whole(base).parameters())
    export(found, tmp_path / "plain", Silence())
    alone = resolve(str(tmp_path / "plain"), report=Silence())
    assert alone.base is None
    plain = load_as_stored(alone, "", Silence())
    assert plain.get_parameter(CHANGED)[0] == 2.0
    assert find_removable(NAME, None) == folder
    with pytest.raises(UsageError, match="--revision"):
        find_removable(NAME, "main")
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert remove_model(NAME, None) == size
    assert list_saved() == []
    with pytest.raises(ModelNotFoundError):
        parse_name(NAME)


def test_an_exported_model_names_no_base(base: Path, tmp_path: Path) -> None:
    save(base)
    export(resolve(NAME, report=Silence()), tmp_path / "plain", Silence())
    folder = ModelFolder(name="plain", path=tmp_path / "plain")
    assert not any(
        "base_model" in key for key in load_as_stored(folder, "", Silence()).config.extra
    )
