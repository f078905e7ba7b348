"""``bigcode models`` from its arguments to stdout, stderr and the exit code."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bigcode_cli.model.quantized_files import metadata
from bigcode_cli.model.quantized_weights import write_quantized
from tests.cli.running import Program, command
from tests.cli.running import environment as own_environment
from tests.hub.contents import model_files, tiny_files, write_folder
from tests.hub.loopback import COMMIT, LoopbackHub, Repo, use_hub

NAME = "owner/tiny"


@dataclass(frozen=True)
class Done:
    """What a command left."""

    stdout: str
    stderr: str
    code: int


Run = Callable[..., Done]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with use_hub(tmp_path / "hf", monkeypatch) as server:
        yield server


@pytest.fixture
def run(
    hub: LoopbackHub,  # noqa: ARG001 (no command may reach the real one)
    program: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    monkeypatch.chdir(tmp_path)

    def run_models(*args: str) -> Done:
        result = program("models", *args)
        return Done(result.stdout.decode(), result.stderr, result.code)

    return run_models


def snapshot(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub" / "models--owner--tiny" / "snapshots" / COMMIT


def test_pull_prints_the_folder_and_tells_the_licence(
    hub: LoopbackHub, run: Run, tmp_path: Path
) -> None:
    hub.repos[NAME] = Repo(tiny_files(), cuts={"model.safetensors": [1_000_000]})
    done = run("pull", NAME)
    assert done.stdout == f"{snapshot(tmp_path)}\n"
    assert done.stderr == f"note: {NAME}: licence apache-2.0, see {hub.endpoint}/{NAME}\n"
    assert done.code == 0
    again = run("pull", NAME, "--json", "--quiet")
    assert json.loads(again.stdout) == {
        "name": NAME,
        "revision": COMMIT,
        "licence": "apache-2.0",
        "path": str(snapshot(tmp_path)),
    }
    assert (again.stderr, again.code) == ("", 0)


def test_a_failed_pull_is_one_line_and_a_hint(hub: LoopbackHub, run: Run) -> None:
    hub.repos["owner/gated"] = Repo(tiny_files(), gated=True)
    hub.repos["owner/second"] = Repo(tiny_files(model_type="starcoder2"))
    hub.repos["owner/broken"] = Repo({**tiny_files(), "config.json": b"no JSON"})
    hub.repos["owner/swapped"] = Repo(
        tiny_files(), served={"model.safetensors": bytes(len(tiny_files()["model.safetensors"]))}
    )
    for name, said in [
        ("owner/other", "no model owner/other on the Hub"),
        ("owner/gated", f"{hub.endpoint}/owner/gated"),
        ("owner/second", "use a model of the first StarCoder family"),
        ("owner/broken", "is not valid JSON"),
        ("owner/swapped", "arrived with another hash"),
        ("../x", "no folder '../x'"),
    ]:
        done = run("pull", name, "--quiet")
        assert done.stdout == ""
        assert done.code == 3
        first, *others = done.stderr.splitlines()
        assert first.startswith("error: ")
        assert all(line.startswith("hint: ") for line in others)
        assert len(others) < 2
        assert said in done.stderr


def test_wrong_usage_is_told(run: Run) -> None:
    for args, said in [
        (("pull", "mini"), "is not a model on the Hub"),
        (("pull", NAME, "--revision", "../x"), "is not a revision"),
        (("remove", "mini", "--yes"), "is not a model on the Hub"),
        (("path", "mini", "--revision", "main"), "--revision is for models on the Hub"),
        (("show",), "missing argument"),
    ]:
        done = run(*args)
        assert (done.stdout, done.code) == ("", 2)
        assert said in done.stderr


def test_path_downloads_nothing(hub: LoopbackHub, run: Run, tmp_path: Path) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    absent = run("path", NAME)
    assert (absent.stdout, absent.code) == ("", 3)
    assert f"error: model {NAME} is not on this machine" in absent.stderr
    assert f"bigcode models pull {NAME}" in absent.stderr
    assert hub.seen == []
    folder = write_folder(tmp_path / "model", tiny_files())
    found = run("path", "./model")
    assert (found.stdout, found.stderr, found.code) == ("model\n", "", 0)
    assert json.loads(run("path", str(folder), "--json").stdout)["path"] == str(folder)


def test_offline_is_a_flag_and_a_variable(
    hub: LoopbackHub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    flag = run("pull", NAME, "--offline")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for done in (flag, run("pull", NAME), run("show", NAME)):
        assert (done.stdout, done.code) == ("", 3)
        assert "is not on this machine" in done.stderr
    assert hub.seen == []


def test_list_is_tab_separated_in_a_pipe(hub: LoopbackHub, run: Run, tmp_path: Path) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    run("pull", NAME)
    done = run("list")
    size = sum(path.stat().st_size for path in snapshot(tmp_path).iterdir())
    assert f"{NAME}\t{COMMIT}\t{size}\tcomplete" in done.stdout.splitlines()
    assert (done.stderr, done.code) == ("", 0)
    models = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    (found,) = (model for model in models if model["name"] == NAME)
    assert found == {
        "name": NAME,
        "kind": "hub",
        "revision": COMMIT,
        "refs": ["main"],
        "bytes": size,
        "complete": True,
        "path": str(snapshot(tmp_path)),
    }


def test_show_tells_what_a_model_is(hub: LoopbackHub, run: Run) -> None:
    hub.repos[NAME] = Repo(model_files())
    done = run("show", NAME)
    rows = dict(line.split("\t") for line in done.stdout.splitlines())
    assert rows["licence"] == "apache-2.0"
    assert rows["weights here"] == "no"
    assert rows["fill in the middle"] == "starcoder"
    assert rows["context"] == "64 tokens"
    assert rows["vocabulary"] == "384 rows, 384 tokens"
    assert {"memory float32", "memory bfloat16", "memory int8", "memory int4"} <= rows.keys()
    assert (done.stderr, done.code) == ("", 0)
    facts = json.loads(run("show", NAME, "--json").stdout)
    assert facts["memory"]["float32"] == 4 * facts["parameters"]
    assert facts["config"]["model_type"] == "gpt_bigcode"
    assert facts["complete"] is False


def test_verify_names_each_file_or_what_is_wrong(
    hub: LoopbackHub, run: Run, tmp_path: Path
) -> None:
    hub.repos[NAME] = Repo(model_files())
    run("pull", NAME)
    whole = run("verify", NAME)
    names = [line.split("\t")[0] for line in whole.stdout.splitlines()]
    assert names == ["config.json", "tokenizer.json", "model.safetensors"]
    assert whole.stderr.startswith(f"note: {NAME} is whole: ")
    assert whole.code == 0
    files = json.loads(run("verify", NAME, "--json").stdout)["files"]
    assert len(files[-1]["hash"]) == 64
    weights = (snapshot(tmp_path) / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    damaged = run("verify", NAME)
    assert (damaged.stdout, damaged.code) == ("", 3)
    assert damaged.stderr.startswith("error: model.safetensors of owner/tiny is damaged")
    assert f"hint: run `bigcode models remove {NAME}`" in damaged.stderr


def test_export_writes_a_folder_that_is_a_model(run: Run, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", model_files())
    done = run("export", "./model", "out/new")
    assert (done.stdout, done.stderr, done.code) == ("out/new\n", "", 0)
    assert run("verify", "./out/new").code == 0
    twice = run("export", "./model", "out/new")
    assert (twice.stdout, twice.code) == ("", 1)
    assert "is not empty" in twice.stderr


def test_remove_asks_or_wants_yes(hub: LoopbackHub, run: Run, tmp_path: Path) -> None:
    hub.repos[NAME] = Repo(tiny_files())
    run("pull", NAME)
    unasked = run("remove", NAME)
    assert (unasked.stdout, unasked.code) == ("", 2)
    assert "hint: add --yes" in unasked.stderr
    assert snapshot(tmp_path).is_dir()
    done = run("remove", NAME, "--yes")
    assert (done.stdout, done.code) == ("", 0)
    assert done.stderr == f"note: removed {NAME}, 3.1 MB freed\n"
    assert not snapshot(tmp_path).exists()
    gone = run("remove", NAME, "--yes")
    assert (gone.stdout, gone.code) == ("", 3)
    assert "is not in the cache" in gone.stderr


@pytest.fixture
def environment(hub: LoopbackHub, tmp_path: Path) -> dict[str, str]:
    """For commands in a process of their own."""
    return own_environment(
        HF_ENDPOINT=hub.endpoint,
        HF_HOME=str(tmp_path / "hf"),
        HF_HUB_ENABLE_HF_TRANSFER="1",  # which the client warns about
        PYTHONWARNINGS="error",
        COLUMNS="100",
    )


def on_terminal(args: list[str], environment: dict[str, str], typed: bytes = b"") -> str:
    """Everything that a terminal shows of a command."""
    leader, follower = pty.openpty()
    os.write(leader, typed)
    child = subprocess.Popen(
        command("models", *args),
        env=environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 4096):
            shown += chunk
    except OSError:  # how Linux tells that the other end is closed
        pass
    child.wait(timeout=60)
    os.close(leader)
    return shown.decode().replace("\r\n", "\n")


def test_a_terminal_shows_tables_and_is_asked(
    hub: LoopbackHub, environment: dict[str, str], tmp_path: Path
) -> None:
    hub.repos[NAME] = Repo(tiny_files(), cuts={"model.safetensors": [1_000_000]})
    hub.headers = {"X-HF-Warning": "Topic; mind the client"}
    shown = on_terminal(["pull", NAME], environment)
    assert f"licence apache-2.0, see {hub.endpoint}/{NAME}\n" in shown
    assert not any(word in shown for word in ("it/s", "Fetching", "Downloading", "Warning", "mind"))
    lines = on_terminal(["list"], environment).splitlines()
    assert lines[0].split() == ["name", "revision", "size", "state"]
    assert lines[-1].split() == [NAME, "main", COMMIT[:8], "3.1", "MB", "complete"]
    assert "aborted" in on_terminal(["remove", NAME], environment, b"n\n")
    assert snapshot(tmp_path).is_dir()
    on_terminal(["remove", NAME], environment, b"y\n")
    assert not snapshot(tmp_path).exists()


COMMANDS = ("list", "pull", "show", "verify", "export", "remove", "path")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_page_has_examples(name: str, run: Run) -> None:
    done = run(name, "--help")
    assert f"bigcode models {name}" in done.stdout.split("Examples:")[1]
    assert (done.stderr, done.code) == ("", 0)


def test_help_imports_no_heavy_library(environment: dict[str, str]) -> None:
    check = (
        "import sys\n"
        "from bigcode_cli.cli.app import run\n"
        f"for command in {COMMANDS}: run(['models', command, '--help'])\n"
        "heavy = ('torch', 'huggingface_hub', 'tokenizers', 'safetensors', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_quantised_weights_are_listed_and_removed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGCODE_HOME", str(tmp_path / "home"))
    path = tmp_path / "home" / "quantized" / "x.safetensors"
    write_quantized({"a": torch.ones(3)}, path, metadata("mini", "int4"))
    size = path.stat().st_size
    listed = run("list")
    assert listed.stdout.splitlines()[-1] == f"mini@int4\t\t{size}\tquantized"
    row = json.loads(run("list", "--json").stdout.splitlines()[-1])
    assert (row["name"], row["kind"], row["bytes"]) == ("mini@int4", "quantized", size)
    refused = run("remove", "mini@int4")
    assert (refused.code, path.exists()) == (2, True)
    removed = run("remove", "mini@int4", "--yes", "--json")
    assert json.loads(removed.stdout)["freed_bytes"] == size
    assert (removed.code, path.exists()) == (0, False)
