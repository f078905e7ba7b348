"""Folders that hold what differs from another model: what they may name, and what is checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli.errors import (
    ModelCorruptError,
    ModelIncompleteError,
    ModelNotFoundError,
    UsageError,
)
from bigcode_cli.hub import deltas
from bigcode_cli.hub import resolve as resolving
from bigcode_cli.hub.deltas import base_digest, base_keys, read_delta
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.records import ModelFolder, Silence
from tests.hub.contents import model_files, write_folder
from tests.hub.loopback import COMMIT, LoopbackHub, Repo

REPO = "owner/tiny"
FILES = model_files() | {"README.md": b"---\nlicense: mit\n---\n"}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A whole model on this machine."""
    return write_folder(tmp_path / "base", FILES)


def write_delta(folder: Path, base: ModelFolder | None = None, **keys: Any) -> Path:
    """A folder over a base; ``None`` takes a key away."""
    config = json.loads(FILES["config.json"])
    config |= {} if base is None else base_keys(base)
    config = {key: value for key, value in (config | keys).items() if value is not None}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(FILES["model.safetensors"])
    return folder


def spoil(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")


def found(folder: Path, **options: Any) -> ModelFolder:
    return resolve(str(folder), report=Silence(), **options)


def test_a_base_that_the_user_names_is_taken_if_it_is_the_one(base: Path, tmp_path: Path) -> None:
    part = write_delta(tmp_path / "part", found(base))
    assert found(part, base=str(base)) == ModelFolder(
        name=str(part), path=part, licence="mit", base=base
    )
    assert found(part, base=str(base)).tokenizer_path == base
    other = write_folder(tmp_path / "other", FILES)
    assert found(part, base=str(other)).base == other
    spoil(other, "tokenizer.json")
    with pytest.raises(ModelCorruptError, match="other weights or another tokenizer") as caught:
        found(part, base=str(other))
    assert str(base) in str(caught.value.hint)


@pytest.mark.parametrize(
    "name",
    ["{base}", "{base}/../base", "base", "./base", "../base", "~/base", "file://{base}",
     "//host/share", "\\\\host\\share", "/etc", "", "saved", "owner/../base"],
)  # fmt: skip
def test_no_folder_leads_to_a_path_that_it_names(
    hub: LoopbackHub, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BIGCODE_HOME", str(tmp_path / "home"))
    write_folder(tmp_path / "home" / "models" / "saved", FILES)
    name = name.format(base=base)
    part = write_delta(tmp_path / "part", found(base), base_model_name_or_path=name)
    with pytest.raises(ModelIncompleteError, match="which you must name") as caught:
        found(part)
    assert name in str(caught.value.hint)
    assert hub.seen == []


def test_an_id_of_the_hub_is_no_folder_of_that_name(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "owner" / "tiny", FILES)
    monkeypatch.chdir(tmp_path)
    part = write_delta(tmp_path / "part", found(Path("owner/tiny")), base_model_name_or_path=REPO)
    with pytest.raises(ModelNotFoundError):
        found(part)
    assert hub.seen


@pytest.fixture
def on_hub(hub: LoopbackHub, tmp_path: Path) -> Path:
    """A folder over a commit of a model on the Hub, which is pulled."""
    hub.repos[REPO] = Repo(FILES)
    return write_delta(tmp_path / "part", resolve(REPO, report=Silence()))


def test_a_commit_of_the_hub_is_what_it_was(
    hub: LoopbackHub, on_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = read_delta(on_hub)
    assert delta is not None
    assert (delta.base, delta.revision) == (REPO, COMMIT)
    snapshot = resolve(REPO, report=Silence()).path
    assert delta.sha256 == base_digest(snapshot)
    hub.seen.clear()

    def unread(folder: Path) -> str:
        raise AssertionError(folder)

    monkeypatch.setattr(deltas, "base_digest", unread)
    assert found(on_hub).base == snapshot
    assert hub.seen == []


@pytest.mark.parametrize("revision", ["main", None, "d" * 40])
def test_any_other_revision_is_read(
    hub: LoopbackHub, on_hub: Path, tmp_path: Path, revision: str | None
) -> None:
    wrong: dict[str, Any] = {"base_model_revision": revision, "base_model_sha256": "0" * 64}
    hub.repos[REPO].branches = ("main", "d" * 40)  # a branch that looks like a commit
    part = write_delta(tmp_path / "other", base_model_name_or_path=REPO, **wrong)
    assert found(on_hub).base is not None
    with pytest.raises(ModelCorruptError, match="other weights"):
        found(part)


def test_the_named_commit_of_another_model_is_read(on_hub: Path, base: Path) -> None:
    assert found(on_hub, base=str(base)).base == base
    spoil(base, "tokenizer.json")
    with pytest.raises(ModelCorruptError, match="other weights"):
        found(on_hub, base=str(base))


@pytest.mark.parametrize("revision", ["../x", "-x", "a b", ""])
def test_a_revision_that_is_none_asks_nobody(
    hub: LoopbackHub, tmp_path: Path, revision: str
) -> None:
    part = write_delta(
        tmp_path / "part",
        base_model_name_or_path=REPO,
        base_model_revision=revision,
        base_model_sha256="0" * 64,
    )
    with pytest.raises(UsageError, match="is not a revision"):
        found(part)
    assert hub.seen == []


@pytest.mark.parametrize(
    "keys",
    [
        {"base_model_name_or_path": 3},
        {"base_model_name_or_path": None},
        {"base_model_sha256": 3},
        {"base_model_revision": 3},
    ],
)
def test_keys_of_another_kind_are_corrupt(base: Path, tmp_path: Path, keys: dict[str, Any]) -> None:
    part = write_delta(tmp_path / "part", found(base), **keys)
    with pytest.raises(ModelCorruptError):
        found(part, base=str(base))


def test_a_folder_over_a_folder_over_a_model_is_refused(base: Path, tmp_path: Path) -> None:
    below = write_delta(tmp_path / "below", found(base))
    part = write_delta(tmp_path / "part", found(base))
    with pytest.raises(ModelIncompleteError, match="which you must name"):
        found(part, base=str(below))


def test_a_name_of_the_package_is_found_by_itself(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "builtin"
    write_folder(folder / "mini", FILES)
    monkeypatch.setattr(resolving, "BUILTIN_FOLDER", folder)
    part = write_delta(tmp_path / "part", found(base), base_model_name_or_path="mini")
    assert found(part).base == folder / "mini"
    spoil(folder / "mini", "tokenizer.json")
    with pytest.raises(ModelCorruptError, match="other weights"):
        found(part)
