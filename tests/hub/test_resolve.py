from pathlib import Path

import pytest

from bigcode_cli.errors import (
    ModelIncompleteError,
    ModelNotFoundError,
    ModelOfflineError,
    UsageError,
)
from bigcode_cli.hub import resolve as resolving
from bigcode_cli.hub.resolve import find_folder, resolve
from bigcode_cli.records import ModelFolder, Silence
from tests.hub.contents import tiny_files, write_folder
from tests.hub.loopback import LoopbackHub, Repo


def write(folder: Path) -> Path:
    return write_folder(folder, tiny_files())


def test_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    found = resolve(str(folder), report=Silence())
    assert found == ModelFolder(name=str(folder), path=folder, licence="mit")


def test_an_existing_folder_wins_over_a_hub_id(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "owner" / "tiny")
    monkeypatch.chdir(tmp_path)
    assert resolve("owner/tiny", report=Silence()).path == Path("owner/tiny")
    assert hub.seen == []


def test_a_built_in_name_wins_over_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builtin = write(tmp_path / "builtin" / "mini")
    (builtin / "MODEL_CARD.md").write_text("---\nlicense: apache-2.0\n---\n# mini\n")
    monkeypatch.setattr(resolving, "BUILTIN_FOLDER", tmp_path / "builtin")
    write(tmp_path / "mini")
    monkeypatch.chdir(tmp_path)
    found = resolve("mini", report=Silence())
    assert found == ModelFolder(name="mini", path=builtin, licence="apache-2.0")
    assert resolve("./mini", report=Silence()).path == Path("mini")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_folder_without_a_needed_file_is_incomplete(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "model")
    (folder / name).unlink()
    with pytest.raises(ModelIncompleteError, match=f"has no {name}"):
        resolve(str(folder), report=Silence())


def test_a_folder_without_weights_is_incomplete(tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ModelIncompleteError, match=r"has no model\.safetensors"):
        resolve(str(folder), report=Silence())


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "/no/such/folder",
        "~nobody/x",
        "unknown",
        "a/b/c",
        "owner/",
        "/owner",
        "owner/../x",
        "owner/..",
        "-owner/x",
        "owner/x--y",
        "owner/na me",
        "owner/na\nme",
        "owner/x\0",
        "owner\\x",
        "owner/\x1b[31m",
        "owner/\udcff",
        "x" * 300 + "/" + "y" * 300,
        "https://huggingface.co/owner/tiny",
    ],
)
def test_what_is_no_name_is_not_found_and_told_on_one_line(hub: LoopbackHub, name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(name, report=Silence())
    assert caught.value.message.isprintable()
    assert "mini" in str(caught.value.hint)
    assert hub.seen == []


def test_a_file_is_not_a_model_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="is a file"):
        resolve(str(tmp_path / "model.safetensors"), report=Silence())


@pytest.mark.parametrize("revision", ["", "../x", "a/../b", "/main", "-x", "a b", "a\0", "x" * 999])
def test_what_is_no_revision_is_wrong_usage(hub: LoopbackHub, revision: str) -> None:
    with pytest.raises(UsageError, match="is not a revision"):
        resolve("owner/tiny", revision=revision, report=Silence())
    assert hub.seen == []


def test_a_revision_of_a_folder_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--revision"):
        resolve(str(write(tmp_path / "model")), revision="main", report=Silence())


def find(name: str, revision: str | None = None, *, config_only: bool, local: bool = False) -> Path:
    return find_folder(name, revision=revision, local_files_only=local, config_only=config_only)


def test_the_library_takes_a_folder_as_it_is(hub: LoopbackHub, tmp_path: Path) -> None:
    for config_only in (True, False):
        assert find(str(tmp_path), config_only=config_only) == tmp_path
        assert find("mini", config_only=config_only) == resolving.BUILTIN_FOLDER / "mini"
        with pytest.raises(UsageError, match="--revision"):
            find(str(tmp_path), "main", config_only=config_only)
    assert hub.seen == []


def test_the_library_fetches_no_weights_for_a_configuration(hub: LoopbackHub) -> None:
    hub.repos["owner/tiny"] = Repo(tiny_files())
    with pytest.raises(ModelOfflineError):
        find("owner/tiny", config_only=True, local=True)
    described = find("owner/tiny", config_only=True)
    assert (described / "config.json").is_file()
    assert not (described / "model.safetensors").exists()
    assert find("owner/tiny", config_only=False) == described
    assert (described / "model.safetensors").is_file()
    hub.seen.clear()
    assert find("owner/tiny", config_only=False, local=True) == described
    assert hub.seen == []
