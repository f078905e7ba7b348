"""What ``bigcode train lm`` learns from, as its flags say it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Program, Result
from tests.training.conftest import RECIPE


def code(name: str) -> str:
    """A text of its own for each name."""
    return "".join(f"const {name}{'xyz'[n % 3]} = {name}({n}, '{name}');\n" for n in range(40))


@pytest.fixture
def mine() -> Path:
    """Code without a licence."""
    Path("recipe.toml").write_text(RECIPE, "utf-8")
    for name in ("alpha", "beta", "gamma", "delta"):
        path = Path("mine", name, f"{name}.js")
        path.parent.mkdir(parents=True)
        path.write_text(code(name))
    return Path("mine")


def train(program: Program, *flags: object) -> Result:
    plan = ("--out", "run", "--device", "cpu", "--workers", 0, "--steps", 1)
    return program("train", "lm", "recipe.toml", *plan, *flags)


def manifest() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Path("run/manifest.json").read_text("utf-8"))
    return told


def test_own_code_of_any_language_is_learned_and_some_is_held_out(
    program: Program, mine: Path
) -> None:
    flags = ("--glob", "*.js", "--any-licence", "--hold-out", 0.3, "--split", "file")
    told = train(program, "--data", mine, *flags)
    assert told.code == 0, told.stderr
    found = manifest()
    assert found["total"]["files"] == 3
    assert found["held_out"]["total"]["files"] == 1
    assert found["packages"][0]["licence"] == "unknown"
    lines = Path("run/log.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    measured = [row["bits_per_byte"] for row in rows if "bits_per_byte" in row]
    assert set(measured[-1]) == {"files", "macro_mean"}


def test_patterns_files_and_records_come_together(program: Program, mine: Path) -> None:
    record = {"text": code("omega"), "path": "omega.js", "package": "o", "licence": "MIT"}
    Path("more.jsonl").write_text(json.dumps(record) + "\n")
    flags = ("--data", mine / "alpha/alpha.js", "--data", "mine/[bg]*/*.js", "--any-licence")
    told = train(program, *flags, "--jsonl", "more.jsonl", "--keep-near-duplicates")
    assert told.code == 0, told.stderr
    found = manifest()
    assert {(row["package"], row["licence"], row["files"]) for row in found["packages"]} == {
        ("alpha", "unknown", 1),
        ("beta", "unknown", 1),
        ("gamma", "unknown", 1),
        ("o", "mit", 1),
    }
    assert found["near_duplicates"] == "kept"


def test_packages_and_what_resembles_others_are_left_out(program: Program, mine: Path) -> None:
    for name in ("alpha", "beta", "gamma", "delta"):
        facts = {"name": name, "licence": "MIT"}
        (mine / name / "SOURCE.json").write_text(json.dumps(facts))
    like = Path("like")
    like.mkdir()
    (like / "tasks.jsonl").write_text(json.dumps({"prompt": code("beta")}) + "\n")
    flags = ("--data", mine, "--glob", "*.js", "--exclude", "Alpha", "--exclude-like", like)
    told = train(program, *flags, "--hold-out", 0.5, "--seed", 7)
    assert told.code == 0, told.stderr
    found = manifest()
    rows = found["packages"] + found["held_out"]["packages"]
    assert sorted(row["package"] for row in rows) == ["delta", "gamma"]
    assert found["files_left_out"] == {"resembles held-out text": 1}
    assert found["hold_out"] == {"share": 0.5, "split": "package", "seed": 7}
    assert found["any_licence"] is False
    assert found["near_duplicates"] == "left out"


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--data", "mine"), "--any-licence"),
        (("--data", "mine/*.rs"), "nothing fits mine/*.rs"),
        (("--data", "nowhere"), "no data folder or file nowhere"),
        (("--jsonl", "nowhere"), "cannot read nowhere"),
        (("--data", "mine/*/*.js"), "--any-licence"),
        (("--data", "mine", "--any-licence"), "no file fits --glob"),
        (("--data", "mine", "--glob", ""), "--glob needs a pattern"),
        (("--data", "mine", "--hold-out", 1), "between 0 and 1"),
        (("--data", "mine", "--split", "file"), "--hold-out"),
        (("--data", "mine", "--hold-out", 0.1, "--keep-near-duplicates"), "near-duplicates"),
        ((), "--data or --jsonl"),
    ],
)
def test_data_that_cannot_be_learned_from_are_told_in_a_line(
    program: Program, flags: tuple[object, ...], said: str
) -> None:
    told = train(program, *flags)
    assert told.code == 2, told.stderr
    assert said in told.stderr
    assert "Traceback" not in told.stderr
    assert not Path("run/corpus.idx").exists()
