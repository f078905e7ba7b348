from pathlib import Path

import pytest
from huggingface_hub import constants

from bigcode_cli.errors import ModelNotFoundError, UsageError
from bigcode_cli.hub import inventory
from bigcode_cli.hub.inventory import find_removable, list_models, remove_model
from bigcode_cli.hub.pull import pull
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.records import Silence
from tests.hub.contents import tiny_files, write_folder
from tests.hub.loopback import COMMIT, LoopbackHub, Repo

NAME = "owner/tiny"
MOVED = "d" * 40


@pytest.fixture(autouse=True)
def _no_builtin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "BUILTIN_FOLDER", tmp_path / "builtin")


def pull_two_revisions(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    pull(NAME, report=Silence())
    hub.repos[NAME] = Repo(tiny_files(n_positions=128), commit=MOVED, branches=("main", "v2"))
    pull(NAME, report=Silence())
    pull(NAME, revision="v2", report=Silence())


@pytest.mark.usefixtures("hub")
def test_an_empty_cache_lists_nothing() -> None:
    assert list_models() == []


def test_built_in_and_cached_models_are_listed(hub: LoopbackHub, tmp_path: Path) -> None:
    write_folder(tmp_path / "builtin" / "mini", tiny_files())
    pull_two_revisions(hub)
    found = [(model.name, model.revision, model.refs) for model in list_models()]
    assert found == [
        ("mini", None, ()),
        (NAME, COMMIT, ()),
        (NAME, MOVED, ("main", "v2")),
    ]
    needed = ("config.json", "tokenizer.json", "model.safetensors")
    assert list_models()[1].size == sum(len(tiny_files()[name]) for name in needed)
    assert all(model.complete for model in list_models())


def test_other_families_and_strange_folders_are_not_listed(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    pull(NAME, report=Silence())
    root = Path(constants.HF_HUB_CACHE)
    other = {**tiny_files(model_type="llama")}
    write_folder(root / "models--owner--llama" / "snapshots" / COMMIT, other)
    write_folder(root / "models--owner--tiny" / "snapshots" / "strange", tiny_files())
    write_folder(root / "models--a--b--c" / "snapshots" / COMMIT, tiny_files())
    write_folder(root / "datasets--owner--tiny" / "snapshots" / COMMIT, tiny_files())
    assert [model.name for model in list_models()] == [NAME]


def test_a_model_that_lacks_a_file_is_listed_as_incomplete(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    folder = pull(NAME, report=Silence())
    (folder.path / "tokenizer.json").unlink()
    assert [model.complete for model in list_models()] == [False]


def test_remove_deletes_the_whole_model(hub: LoopbackHub) -> None:
    pull_two_revisions(hub)
    freed = remove_model(NAME, None)
    assert freed > len(tiny_files()["model.safetensors"])
    assert list_models() == []
    root = Path(constants.HF_HUB_CACHE)
    assert not list(root.glob("models--*")) + list(root.glob(".locks/*"))


def test_remove_of_a_revision_keeps_what_others_share(hub: LoopbackHub) -> None:
    pull_two_revisions(hub)
    freed = remove_model(NAME, COMMIT)
    assert 0 < freed < 1000
    assert [model.revision for model in list_models()] == [MOVED]
    left = resolve(NAME, offline=True, report=Silence())
    assert (left.path / "model.safetensors").read_bytes() == tiny_files()["model.safetensors"]


def test_a_partial_pull_can_be_removed(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    pull(NAME, report=Silence())
    folder = Path(constants.HF_HUB_CACHE) / "models--owner--tiny"
    (folder / "blobs" / f"{'a' * 64}.incomplete").write_bytes(bytes(5_000_000))
    assert remove_model(NAME, None) > 5_000_000


@pytest.mark.usefixtures("hub")
def test_only_cached_models_are_removed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", tiny_files())
    for name in ("mini", str(folder)):
        with pytest.raises(UsageError, match="is not a model on the Hub"):
            find_removable(name, None)
    with pytest.raises(ModelNotFoundError):
        find_removable("../model", None)
    with pytest.raises(ModelNotFoundError, match="not in the cache"):
        find_removable(NAME, None)
    assert (folder / "config.json").is_file()


def test_a_revision_that_is_not_cached_is_not_found(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    pull(NAME, report=Silence())
    with pytest.raises(ModelNotFoundError, match="revision 'v2' of owner/tiny"):
        find_removable(NAME, "v2")
    with pytest.raises(UsageError):
        find_removable(NAME, "../../x")
