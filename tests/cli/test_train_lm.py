"""``bigcode train lm`` as a program: what it starts from, how it is stopped, what it refuses."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Program
from tests.training.conftest import RECIPE

PLAN = ("--out", "run", "--device", "cpu", "--workers", "0")
ANY = ("--data", "mine", "--any-licence")


@pytest.fixture
def recipe() -> Path:
    """A tiny recipe, and code to learn from."""
    path = Path("recipe.toml")
    path.write_text(RECIPE, "utf-8")
    Path("mine").mkdir()
    for name in ("alpha", "beta"):
        lines = [f"def {name}_{n}(x):\n    return x * {n} - len('{name}')\n\n" for n in range(60)]
        Path("mine", f"{name}.py").write_text("".join(lines), "utf-8")
    return path


def log() -> list[dict[str, Any]]:
    path = Path("run/log.jsonl")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def test_ctrl_c_saves_and_resume_goes_on_from_there(program: Program, recipe: Path) -> None:
    command = [sys.executable, "-m", "bigcode_cli", "train", "lm", str(recipe), *ANY, *PLAN]
    process = subprocess.Popen(
        [*command, "--steps", "4000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not log() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert output == ""
    assert "Traceback" not in errors
    assert not Path("run/model").exists()
    stopped = len(log())
    again = program("train", "lm", str(recipe), *PLAN, "--steps", 2 * stopped + 4, "--resume")
    assert again.code == 0, again.stderr
    assert again.stdout == b"run/model\n"
    steps = [line["step"] for line in log()]
    assert steps == list(range(2, 2 * stopped + 5, 2))


def test_a_model_is_tuned_without_a_recipe_and_keeps_its_shape(
    program: Program, recipe: Path
) -> None:
    assert program("train", "lm", recipe, *ANY, *PLAN, "--steps", 1).code == 0
    flags = ("--init", "run/model", "--fim-rate", "0", "--steps", "1", *PLAN[2:])
    tuned = program("train", "lm", *flags, *ANY, "--out", "tuned")
    assert tuned.code == 0, tuned.stderr
    shown = json.loads(program("models", "show", "./tuned/model", "--json").stdout)
    first = json.loads(program("models", "show", "./run/model", "--json").stdout)
    assert shown["parameters"] == first["parameters"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--steps", "1"), "nothing says what the model is"),
        (("recipe.toml", "--init", "nowhere", "--steps", "1"), "unknown model"),
        (("recipe.toml", "--fim-rate", "2"), "fim_rate must be from 0 to 1"),
        (("recipe.toml", "--revision", "main"), "--init"),
        (("--init", "mini"), "either a number of steps or of minutes"),
    ],
)
def test_what_cannot_be_trained_is_told_in_a_line(
    program: Program, recipe: Path, flags: tuple[str, ...], told: str
) -> None:
    assert recipe.exists()
    result = program("train", "lm", *flags, *ANY, *PLAN)
    assert result.code in {2, 3}
    assert told in result.stderr
    assert result.stderr.count("error:") == 1
    assert not Path("run").exists()
