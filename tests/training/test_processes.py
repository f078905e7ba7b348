"""Several processes train what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bigcode_cli.training.processes import Processes

STEPS = 8


def logged(out: Path, name: str) -> list[float]:
    lines = (out / "log.jsonl").read_text("utf-8").splitlines()
    return [line[name] for line in map(json.loads, lines) if name in line]


def train(
    recipe: Path, data: Path, out: Path, *, processes: int
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), "-m", "bigcode_cli"]
    command += ["train", "lm", str(recipe), "--data", str(data), "--out", str(out)]
    command += ["--device", "cpu", "--workers", "0", "--steps", str(STEPS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_two_processes_learn_what_one_learns_with_twice_the_accumulation(
    recipe_file: Path, data: Path, tmp_path: Path
) -> None:
    recipe = recipe_file.read_text("utf-8").replace("log_steps = 2", "log_steps = 1")
    for processes, circles in ((1, 2), (2, 1)):
        mine = tmp_path / f"{processes}.toml"
        added = f"[training]\ncircles = {circles}\nwindows_per_pass = 2\n"
        mine.write_text(
            recipe.replace("windows_per_pass = 4\n", "").replace("[training]\n", added), "utf-8"
        )
        done = train(mine, data, tmp_path / str(processes), processes=processes)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [str(tmp_path / str(processes) / "model")]
    one, two = (logged(tmp_path / name, "loss") for name in "12")
    assert len(one) == len(two) == STEPS
    assert two == pytest.approx(one, rel=1e-5)
    assert one[0] - one[-1] > 0.5
    # Adam's and Muon's steps do not tell how long a gradient is.
    one, two = (logged(tmp_path / name, "gradient_norm") for name in "12")
    assert two == pytest.approx(one, rel=1e-3)


def test_one_process_agrees_with_itself() -> None:
    alone = Processes()
    assert alone.is_first
    assert alone.agree("yes") == "yes"
    model = torch.nn.Linear(1, 1)
    assert alone.share(model) is model
