"""``bigcode train here`` from its arguments to stdout, stderr, the exit code and what is saved."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli.hub.saved import list_saved, saved_folder
from bigcode_cli.training import adapt
from tests.cli.running import Program, command, environment
from tests.training.adapting import save_small, write_code


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings for models that know nothing yet."""
    settings = adapt.AdaptSettings(
        learning_rate=1e-2, embedding_learning_rate=1e-2, window=64, tokens_per_step=256, epochs=3
    )
    monkeypatch.setattr(adapt, "WHOLE", settings)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_small(tmp_path / "base")


@pytest.fixture
def code() -> Path:
    return write_code(Path("code"), 12)


def saved() -> list[str]:
    folder = saved_folder()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.usefixtures("fast")
def test_what_is_saved_gives_the_very_figures_that_were_told(
    program: Program, base: Path, code: Path
) -> None:
    told = program("train", "here", code, "-m", base, "--holes", 3, "--json")
    assert told.code == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["name"] == "code-tuned"
    assert found["kept"]
    assert found["path"] == str(saved_folder() / "code-tuned")
    assert (found["files"], len(found["held_out"])) == (12, 2)
    assert found["after"]["bits_per_byte"] < found["before"]["bits_per_byte"]
    assert found["difference_95"][1] < 0
    assert found["after"]["infills"] == 3
    files = [code / name for name in found["held_out"]]
    for model, when in ((base, "before"), ("code-tuned", "after")):
        scored = program("score", "-m", model, *files, "--json")
        assert scored.code == 0, scored.stderr
        total = json.loads(scored.stdout.splitlines()[-1])
        assert total["bits_per_byte"] == pytest.approx(found[when]["bits_per_byte"], rel=1e-6)
    record = json.loads((saved_folder() / "code-tuned" / "tuned.json").read_text())
    assert record["after"] == found["after"]
    listed = program("models", "list").stdout.decode()
    assert "code-tuned\t\t" in listed
    assert "\tsaved\n" in listed
    shown = program("models", "show", "code-tuned").stdout.decode()
    assert f"differs from\t{base}" in shown
    middle = program("infill", "--prefix", "a = ", "--suffix", "\n", "-m", "code-tuned", "-n", 2)
    assert middle.code == 0, middle.stderr


@pytest.mark.usefixtures("fast")
def test_figures_are_two_lines_in_a_pipe_and_a_table_on_a_terminal(
    program: Program, base: Path, code: Path
) -> None:
    told = program("train", "here", code, "-m", base, "--holes", 2, "--name", "a")
    lines = [line.split("\t") for line in told.stdout.decode().splitlines()]
    assert [line[0] for line in lines] == ["bits_per_byte", "exact_infills"]
    assert float(lines[0][2]) < float(lines[0][1])
    assert lines[1][1].endswith("/2")
    assert "note: 12 files, 2 held out" in told.stderr
    assert "saved as a" in told.stderr
    words = ("train", "here", code, "-m", base, "--holes", 0, "--name", "b")
    table = program(*words, stdout_terminal=True, stderr_terminal=True).stdout.decode()
    assert table.splitlines()[0].split() == ["held-out", "files", "before", "after"]
    assert "%" in table.splitlines()[1]
    assert list_saved() == ["a", "b"]


@pytest.mark.usefixtures("fast")
def test_what_is_not_better_is_not_kept(
    program: Program, base: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = replace(adapt.WHOLE, learning_rate=0.0, embedding_learning_rate=0.0, epochs=1)
    monkeypatch.setattr(adapt, "WHOLE", worse)
    told = program("train", "here", code, "-m", base, "--holes", 0, "--json")
    assert told.code == 4
    found = json.loads(told.stdout)
    assert (found["kept"], found["path"]) == (False, None)
    assert "error: code-tuned is not better on the held-out files" in told.stderr
    assert saved() == []


@pytest.mark.usefixtures("fast")
def test_a_name_that_is_taken_is_told_before_anything_is_trained(
    program: Program, base: Path, code: Path
) -> None:
    words = ("train", "here", code, "-m", base, "--holes", 0, "--json")
    assert program(*words).code == 0
    again = program(*words)
    assert again.code == 2
    assert "there is a saved model code-tuned already" in again.stderr
    assert "--force" in again.stderr
    other = program(*words, "--seed", 1, "--force")
    assert other.code == 0, other.stderr
    record = json.loads((saved_folder() / "code-tuned" / "tuned.json").read_text())
    assert record["seed"] == 1
    assert saved() == ["code-tuned"]
    tuned = program("train", "here", code, "-m", "code-tuned", "--name", "twice")
    assert tuned.code == 2
    assert "was tuned itself" in tuned.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["nowhere"], "no such folder: nowhere"),
        (["empty"], "there are no files in empty that match *.py"),
        (["few"], "3 usable files in few that match *.py"),
        (["code", "--glob", "*.rs"], "there are no files in code that match *.rs"),
        (["code", "--name", "a/b"], "'a/b' cannot be a model's name"),
        (["code", "--name", "mini"], "mini is a built-in model"),
        (["code", "--minutes", "0"], "--minutes must be above 0"),
        (["code", "--minutes", "0.001"], "leave no time to train"),
    ],
)
def test_what_cannot_work_is_told(
    program: Program, base: Path, code: Path, args: list[str], told: str
) -> None:
    assert code.is_dir()
    Path("empty").mkdir()
    write_code(Path("few"), 3)
    result = program("train", "here", *args, "-m", base, "--holes", 0)
    assert result.code == 2
    assert told in result.stderr
    assert saved() == []


def test_a_home_that_cannot_be_written_is_told(
    program: Program, base: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("BIGCODE_HOME", str(Path("file").resolve()))
    result = program("train", "here", code, "-m", base)
    assert result.code == 1
    assert "cannot write" in result.stderr


def test_without_datasketch_what_to_install_is_told(
    program: Program, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    result = program("train", "here", code)
    assert result.code == 2
    assert "bigcode-cli[train]" in result.stderr


def test_ctrl_c_keeps_nothing_and_says_so(base: Path, code: Path, tmp_path: Path) -> None:
    env: dict[str, Any] = {**environment(), "BIGCODE_HOME": str(tmp_path / "own")}
    words = command("train", "here", code, "-m", base, "--holes", 0)
    with subprocess.Popen(
        words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        part = tmp_path / "own" / "models"
        for _ in range(600):  # until there is something to be rid of
            if part.is_dir() and any(part.iterdir()):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    # Where the signal falls into code that is made of a string, as dataclasses make theirs, Python
    # ends by the signal itself, whatever the exit code: a shell tells 130 of either.
    assert process.returncode in (130, -signal.SIGINT), stderr
    assert b"interrupted: nothing was saved" in stderr
    assert not any(part.iterdir())
