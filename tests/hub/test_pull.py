import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, snapshot_download

from bigcode_cli.errors import (
    ModelCorruptError,
    ModelError,
    ModelGatedError,
    ModelIncompleteError,
    ModelNotFoundError,
    ModelOfflineError,
    ModelTooLargeError,
    ModelUnsupportedError,
)
from bigcode_cli.hub.pull import pull
from bigcode_cli.hub.resolve import resolve
from bigcode_cli.records import Silence
from tests.hub.contents import tiny_files
from tests.hub.loopback import COMMIT, TOKEN, LoopbackHub, Repo

NAME = "owner/tiny"
WEIGHT_BYTES = len(tiny_files()["model.safetensors"])


class Notes(Silence):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[str, int, int | None]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        assert unit == "B"
        self.steps.append((label, done, total))


def blobs() -> list[Path]:
    return list((Path(constants.HF_HUB_CACHE) / "models--owner--tiny" / "blobs").iterdir())


def sharded_files(kind: str = "safetensors") -> dict[str, bytes]:
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = [f"{stem}-0000{part}-of-00002.{kind}" for part in (1, 2)]
    index = {"weight_map": {"transformer.wte.weight": names[0], "transformer.wpe.weight": names[1]}}
    files = {name: tiny_files()[name] for name in ("config.json", "tokenizer.json")}
    files |= {name: name.encode() * 100 for name in names}
    return files | {f"{stem}.{kind}.index.json": json.dumps(index).encode()}


def test_only_the_needed_files_are_pulled(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    folder = pull(NAME, report=Silence())
    assert folder.name == NAME
    assert folder.revision == COMMIT
    assert folder.licence == "apache-2.0"
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (folder.path / name).read_bytes() == hub.repos[NAME].files[name]


def test_the_hub_is_asked_for_nothing_but_the_files(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    pull(NAME, report=Silence())
    weights = [f"/{NAME}/resolve/{COMMIT}/model.safetensors", f"/cdn/{NAME}/model.safetensors"]
    assert [seen.path for seen in hub.seen] == [
        f"/api/models/{NAME}",
        f"/{NAME}/resolve/{COMMIT}/config.json",
        f"/{NAME}/resolve/{COMMIT}/tokenizer.json",
        *weights,
    ]
    assert all(seen.agent.startswith("bigcode-cli/") for seen in hub.seen)
    assert not any("torch" in seen.agent for seen in hub.seen)


def test_a_pulled_model_is_where_huggingface_hub_looks_for_it(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    folder = pull(NAME, report=Silence())
    found = hf_hub_download(NAME, "model.safetensors", local_files_only=True)
    assert Path(found) == folder.path / "model.safetensors"
    assert snapshot_download(NAME, local_files_only=True) == str(folder.path)


def test_what_huggingface_hub_pulled_is_used_without_the_network(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        hf_hub_download(NAME, name)
    hub.seen.clear()
    assert resolve(NAME, report=Silence()).revision == COMMIT
    assert hub.seen == []


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_pulled_by_their_index(hub: LoopbackHub, kind: str) -> None:
    hub.repos[NAME] = Repo(sharded_files(kind))
    folder = pull(NAME, report=Silence())
    assert {path.name for path in folder.path.iterdir()} == set(sharded_files(kind))


def test_bin_is_pulled_only_where_there_is_no_safetensors(hub: LoopbackHub) -> None:
    files = tiny_files()
    del files["model.safetensors"]
    hub.repos[NAME] = Repo(files)
    folder = pull(NAME, report=Silence())
    assert (folder.path / "pytorch_model.bin").is_file()


def test_a_complete_snapshot_is_used_without_the_network(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files(), branches=("main", "v1.1"))
    for revision in (None, "main", "v1.1", COMMIT):
        pull(NAME, revision=revision, report=Silence())
        hub.seen.clear()
        assert resolve(NAME, revision=revision, report=Silence()).revision == COMMIT
        assert hub.seen == []


def test_pull_follows_a_branch_that_moved_on(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    pull(NAME, report=Silence())
    hub.repos[NAME] = Repo(tiny_files(n_positions=128), commit="d" * 40)
    assert resolve(NAME, report=Silence()).revision == COMMIT
    hub.seen.clear()
    moved = pull(NAME, report=Silence())
    assert moved.revision == "d" * 40
    assert hub.fetched("model.safetensors") == []
    assert resolve(NAME, report=Silence()).path == moved.path
    assert resolve(NAME, revision=COMMIT, report=Silence()).revision == COMMIT


def test_the_licence_is_told_once(hub: LoopbackHub) -> None:
    card = {"license": "other", "license_name": "bigcode-openrail-m"}
    hub.repos[NAME] = Repo(tiny_files(), card=card)
    report = Notes()
    pull(NAME, report=report)
    pull(NAME, report=report)
    resolve(NAME, report=report)
    page = f"{hub.endpoint}/{NAME}"
    assert report.notes == [f"{NAME}: licence bigcode-openrail-m, see {page}"]


def test_a_licence_among_the_tags_counts(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files(), card={}, tags=("code", "license:mit"))
    assert pull(NAME, report=Silence()).licence == "mit"


def test_progress_reaches_the_size_of_every_file(hub: LoopbackHub) -> None:
    files = tiny_files()
    hub.repos[NAME] = Repo(files)
    report = Notes()
    pull(NAME, report=report)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        steps = [done for label, done, _ in report.steps if label == name]
        assert steps == sorted(steps)
        assert (steps[0], steps[-1]) == (0, len(files[name]))


def test_a_cut_download_goes_on_by_itself(hub: LoopbackHub) -> None:
    files = tiny_files()
    hub.repos[NAME] = Repo(files, cuts={"model.safetensors": [1_500_000, 100]})
    folder = pull(NAME, report=Silence())
    assert (folder.path / "model.safetensors").read_bytes() == files["model.safetensors"]
    first, *others = [seen.range for seen in hub.fetched("model.safetensors")]
    assert first is None
    assert all(asked is not None and asked != "bytes=0-" for asked in others)


class Interrupt(Silence):
    """Ctrl-C once a megabyte of weights is here."""

    def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
        if (label, total, unit) == ("model.safetensors", WEIGHT_BYTES, "B") and done > 1_000_000:
            raise KeyboardInterrupt


def test_a_failed_pull_is_resumed_by_the_next(hub: LoopbackHub) -> None:
    files = tiny_files()
    hub.repos[NAME] = Repo(files)
    with pytest.raises(KeyboardInterrupt):
        pull(NAME, report=Interrupt())
    (partial,) = (path for path in blobs() if path.suffix == ".incomplete")
    arrived = partial.stat().st_size
    with pytest.raises(ModelIncompleteError, match=r"pulled to its end: model\.safetensors"):
        resolve(NAME, revision=COMMIT, offline=True, report=Silence())
    hub.seen.clear()
    folder = resolve(NAME, report=Silence())
    assert (folder.path / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert [seen.range for seen in hub.fetched("model.safetensors")] == [f"bytes={arrived}-"]
    assert 1_000_000 < arrived < WEIGHT_BYTES
    assert not partial.exists()


def test_a_server_without_ranges_starts_the_file_again(hub: LoopbackHub) -> None:
    files = tiny_files()
    hub.repos[NAME] = Repo(files, cuts={"model.safetensors": [2_000_000]}, ranges=False)
    folder = pull(NAME, report=Silence())
    assert (folder.path / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_a_passing_failure_of_the_server_is_waited_out(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files(), failures={"model.safetensors": [503, 500, 429]})
    assert pull(NAME, report=Silence()).revision == COMMIT


def test_a_lasting_failure_of_the_server_is_told(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files(), failures={"model.safetensors": [503] * 99})
    with pytest.raises(ModelOfflineError, match="the Hub answered 503 for owner/tiny"):
        pull(NAME, report=Silence())
    assert len(hub.repos[NAME].failures["model.safetensors"]) == 99 - 5


@pytest.mark.parametrize("change", [-1000, 1000])
def test_a_wrong_size_is_corrupt_and_leaves_nothing(hub: LoopbackHub, change: int) -> None:
    files = tiny_files()
    size = len(files["model.safetensors"])
    hub.repos[NAME] = Repo(files, listed_sizes={"model.safetensors": size + change})
    with pytest.raises(ModelCorruptError, match=rf"model\.safetensors of {NAME} arrived with"):
        pull(NAME, report=Silence())
    assert len(blobs()) == 2
    assert not any(path.suffix == ".incomplete" for path in blobs())


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_other_bytes_than_the_listed_ones_are_corrupt(hub: LoopbackHub, name: str) -> None:
    files = tiny_files()
    swapped = b"#" + files[name][1:]
    hub.repos[NAME] = Repo(files, served={name: swapped})
    with pytest.raises(ModelCorruptError, match="arrived with another hash"):
        pull(NAME, report=Silence())
    with pytest.raises(ModelError):
        resolve(NAME, offline=True, report=Silence())


def test_a_damaged_file_of_the_cache_is_pulled_again(hub: LoopbackHub) -> None:
    files = tiny_files()
    hub.repos[NAME] = Repo(files)
    folder = pull(NAME, report=Silence())
    (folder.path / "model.safetensors").resolve().write_bytes(b"cut")
    pull(NAME, report=Silence())
    assert (folder.path / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_another_architecture_is_refused_before_its_weights(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files(model_type="starcoder2"))
    with pytest.raises(ModelUnsupportedError) as caught:
        pull(NAME, report=Silence())
    assert "bigcode/starcoder" in str(caught.value.hint)
    old = {"model_type": "gpt2", "architectures": ["GPT2LMHeadCustomModel"]}
    hub.repos["bigcode/santacoder"] = Repo({"config.json": json.dumps(old).encode()})
    with pytest.raises(ModelUnsupportedError) as caught:
        pull("bigcode/santacoder", report=Silence())
    assert "bigcode/gpt_bigcode-santacoder" in str(caught.value.hint)
    assert hub.fetched("model.safetensors") == []


def test_a_configuration_that_is_not_json_is_corrupt(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo({**tiny_files(), "config.json": b"<html>"})
    with pytest.raises(ModelCorruptError, match="not valid JSON"):
        pull(NAME, report=Silence())
    assert hub.fetched("model.safetensors") == []


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_repository_without_a_needed_file_is_incomplete(hub: LoopbackHub, name: str) -> None:
    files = tiny_files()
    del files[name]
    hub.repos[NAME] = Repo(files)
    with pytest.raises(ModelIncompleteError, match=f"{NAME} has no {name} on the Hub"):
        pull(NAME, report=Silence())
    assert hub.fetched("model.safetensors") == []


def test_a_repository_without_weights_is_incomplete(hub: LoopbackHub) -> None:
    files = {name: tiny_files()[name] for name in ("config.json", "tokenizer.json")}
    hub.repos[NAME] = Repo({**files, "tf_model.h5": b"h5"})
    with pytest.raises(ModelIncompleteError, match="no weights on the Hub"):
        pull(NAME, report=Silence())


def test_a_shard_that_is_not_there_is_named(hub: LoopbackHub) -> None:
    files = sharded_files()
    del files["model-00002-of-00002.safetensors"]
    hub.repos[NAME] = Repo(files)
    with pytest.raises(ModelIncompleteError, match="has no model-00002-of-00002"):
        pull(NAME, report=Silence())
    assert hub.fetched("model-00001") == []


@pytest.mark.parametrize("shard", ["../../x.safetensors", "/etc/x.bin", "a\\b.bin", "x", 3, None])
def test_an_index_that_names_no_file_of_the_model_is_corrupt(
    hub: LoopbackHub, shard: object
) -> None:
    files = sharded_files()
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": shard}}).encode()
    hub.repos[NAME] = Repo(files)
    with pytest.raises(ModelCorruptError, match=r"index\.json"):
        pull(NAME, report=Silence())


def test_a_listed_file_that_is_gone_is_incomplete(hub: LoopbackHub) -> None:
    repo = Repo(tiny_files(), failures={"model.safetensors": [404]})
    hub.repos[NAME] = repo
    with pytest.raises(ModelError):
        pull(NAME, report=Silence())


def test_unknown_repositories_and_revisions_are_not_found(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    with pytest.raises(ModelNotFoundError, match="no model owner/other on the Hub") as caught:
        resolve("owner/other", report=Silence())
    assert "HF_TOKEN" in str(caught.value.hint)
    with pytest.raises(ModelNotFoundError, match=f"{NAME} has no revision 'v9'"):
        resolve(NAME, revision="v9", report=Silence())
    with pytest.raises(ModelNotFoundError, match="has no revision"):
        resolve(NAME, revision="e" * 40, report=Silence())
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ModelNotFoundError, match="no model owner/other on the Hub"):
        resolve("owner/other", report=Silence())


def test_a_gated_model_names_its_acceptance_page(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo(tiny_files(), gated=True)
    with pytest.raises(ModelGatedError, match="conditions must be accepted") as caught:
        pull(NAME, report=Silence())
    assert f"{hub.endpoint}/{NAME}" in str(caught.value.hint)
    assert "HF_TOKEN" in str(caught.value.hint)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ModelGatedError, match="this token's account") as caught:
        pull(NAME, report=Silence())
    assert f"{hub.endpoint}/{NAME}" in str(caught.value.hint)


def test_the_token_opens_private_models_and_stays_on_the_hub(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo(tiny_files(), private=True)
    with pytest.raises(ModelNotFoundError):
        pull(NAME, report=Silence())
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pull(NAME, report=Silence()).revision == COMMIT
    assert [seen.authorization for seen in hub.fetched("model.safetensors")] == [None]


def test_a_wrong_token_is_told(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelGatedError, match="refused the token"):
        pull(NAME, report=Silence())


def test_offline_asks_nothing_and_says_what_to_do(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    with pytest.raises(ModelOfflineError, match="not on this machine") as caught:
        resolve(NAME, offline=True, report=Silence())
    assert f"bigcode models pull {NAME}" in str(caught.value.hint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelOfflineError):
        resolve(NAME, report=Silence())
    assert hub.seen == []


@pytest.mark.usefixtures("hub")
def test_a_hub_out_of_reach_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelOfflineError, match="cannot reach the Hub at http://127"):
        resolve(NAME, report=Silence())


@pytest.mark.parametrize(
    "answer", [b"<html>sign in</html>", b"{}", b"[]", b'{"id": "owner/tiny", "siblings": [3]}']
)
def test_a_sign_in_page_is_not_taken_for_the_hub(hub: LoopbackHub, answer: bytes) -> None:
    hub.raw[f"/api/models/{NAME}"] = answer
    with pytest.raises(ModelOfflineError, match="does not answer like the Hub"):
        resolve(NAME, report=Silence())


def test_hashes_of_the_listing_cannot_leave_the_cache(hub: LoopbackHub) -> None:
    listing = Repo(tiny_files()).listing(NAME)
    listing["siblings"][0]["blobId"] = "../../../../x"
    hub.raw[f"/api/models/{NAME}"] = json.dumps(listing).encode()
    with pytest.raises(ModelOfflineError, match="does not answer like the Hub"):
        pull(NAME, report=Silence())


def test_too_small_a_disk_is_refused_before_the_weights(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelTooLargeError, match=r"needs 3\.1 MB on the disk of .*, 1\.0 MB free"):
        pull(NAME, report=Silence())
    assert hub.fetched("model.safetensors") == []


def test_a_disk_that_fills_up_is_told_and_what_came_is_kept(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())

    class Full(Silence):
        def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
            if (label, total, unit) == ("model.safetensors", WEIGHT_BYTES, "B") and done:
                raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ModelTooLargeError, match=r"the disk of .* is full") as caught:
        pull(NAME, report=Full())
    assert "HF_HOME" in str(caught.value.hint)
    assert [path.stat().st_size > 0 for path in blobs() if path.suffix == ".incomplete"] == [True]


def test_two_pulls_at_once_fetch_a_file_once(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: pull(NAME, report=Silence()).path, range(2)))
    assert folders[0] == folders[1]
    assert len(hub.fetched("model.safetensors")) == 1


def test_a_cache_that_cannot_be_written_is_told(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="cannot use the cache") as caught:
        pull(NAME, report=Silence())
    assert "HF_HOME" in str(caught.value.hint)


def test_without_links_the_files_are_moved_into_the_snapshot(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "symlink", refuse)
    hub.repos[NAME] = Repo(tiny_files())
    folder = pull(NAME, report=Silence())
    assert not (folder.path / "model.safetensors").is_symlink()
    hub.seen.clear()
    assert pull(NAME, report=Silence()).path == folder.path
    assert len(hub.seen) == 1
