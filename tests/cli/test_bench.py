import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli import __version__
from bigcode_cli.bench.infill_repo import draw_tasks
from bigcode_cli.bench.infill_run import Variant, fill
from bigcode_cli.bench.infill_tasks import InfillTask, digest, read_tasks
from bigcode_cli.engine.session import Session
from bigcode_cli.records import InfillRequest, Silence
from tests.bench.test_sandbox import refusal
from tests.cli.running import Program, Result, environment

Bench = Callable[..., Result]

BODIES = {
    "double": ("    return 2 * x\n", 6),
    "triple": ("    return 3 * x\n", 9),
    "square": ("    return x ** 2\n", 9),
    "negate": ("    return -x\n", -3),
}
"""Each with what it makes of 3."""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Four tasks of our own whose tests any middle of the comment passes."""
    lines = [
        {
            "task_id": f"Own/{name}",
            "entry_point": name,
            "prompt": f"def {name}(x):\n{body}    # ",
            "suffix": " end\n",
            "canonical_solution": f"{name} it",
            "test": f"def check(candidate):\n    assert candidate(3) == {result}\n",
        }
        for name, (body, result) in BODIES.items()
    ]
    path = tmp_path / "Own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    for name, (body, _) in BODIES.items():
        text = f"def {name}(x):\n    # {name} it\n{body}\n\nvalue = {name}(1)\n"
        (path / f"{name}.py").write_text(text)
    return path


@pytest.fixture
def bench(program: Program, model_folder: Path) -> Bench:
    """``bigcode bench -m MODEL --max-new-tokens 8 …``."""
    return partial(program, "bench", "-m", model_folder, "--max-new-tokens", 8)


def filled(session: Session, tasks: list[InfillTask]) -> list[str]:
    request = InfillRequest(prefix="", suffix="", max_new_tokens=8)
    return [outcome.middle for outcome in fill(session, tasks, Variant("base", request), Silence())]


def object_of(result: Result) -> dict[str, Any]:
    assert (result.code, result.stderr) == (0, "")
    (line,) = result.stdout.decode("ascii").splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--infill-repo", ".", "--execute"], "--execute needs --infill FILE"),
        (["--infill-repo", ".", "--limit", "3"], "--limit needs --infill FILE"),
        (["--infill", "a", "--tasks", "3"], "--tasks needs --infill-repo DIR"),
        (["--infill", "a", "--kind", "line"], "--kind needs --infill-repo DIR"),
        (["--infill", "a", "--glob", "*.py"], "--glob needs --infill-repo DIR"),
        (["--infill", "a", "--max-new-tokens", "0"], "--max-new-tokens must be at least 1, not 0"),
        (["--infill", "a", "--span", "eos"], "invalid value for '--span'"),
        (["--infill", "a", "--lookup", "--execute"], "--execute does not go with --lookup"),
        (["--infill", "a", "--draft", "b", "--ablate"], "--ablate does not go with --lookup"),
        (["--infill", "a", "--lookup", "--candidates", "2"], "--candidates does not go with"),
        (["--infill", "a", "--lookup", "-n", "2"], "--n-gen is about speed"),
        (["--infill", "a", "-r", "2"], "--repetitions is about speed"),
        (["--infill", "a", "--lookup", "--draft", "b"], "--lookup and --draft do not go together"),
        (["--infill", "nothing.jsonl"], "cannot read nothing.jsonl: No such file or directory"),
        (["--infill-repo", "nothing"], "no such folder: nothing"),
        (["--infill-repo", ".", "--kind", "word"], "no such kind of hole: 'word'"),
        (["--infill", "a", "--save", "no/where.json"], "cannot write no/where.json"),
    ],
)
def test_what_makes_no_sense_is_refused(bench: Bench, args: list[str], error: str) -> None:
    result = bench(*args)
    assert (result.code, result.stdout) == (1 if "--save" in args else 2, b"")
    assert result.stderr.startswith(f"error: {error}")


def test_json_has_environment_settings_and_results(
    bench: Bench, tasks: Path, model_folder: Path
) -> None:
    content = object_of(bench("--infill", tasks, "--json"))
    assert set(content) == {"environment", "settings", "results"}
    told = content["environment"]
    assert (told["model"], told["bigcode"]) == (str(model_folder), __version__)
    assert {"torch", "device", "dtype", "date", "cpu", "load_s"} <= set(told)
    some = read_tasks(tasks)
    assert content["settings"]["tasks"] == {"Own": {"n": 4, "sha256": digest(some)}}
    (row,) = content["results"]
    assert (row["tasks"], row["variant"], row["n"]) == ("Own", "base", 4)
    assert row["exact_match"] == 0
    assert 0 <= row["edit_similarity"] < 1
    assert row["latency"]["n"] == 4
    assert sum(row["finish_reasons"].values()) == 4
    assert "pass_at_1" not in row


def test_format_json_is_json(bench: Bench, tasks: Path) -> None:
    one = object_of(bench("--infill", tasks, "--json"))
    other = object_of(bench("--infill", tasks, "--format", "json"))
    for content in (one, other):
        del content["environment"], content["results"][0]["latency"]
    assert one == other


def test_table_is_the_default(bench: Bench, tasks: Path) -> None:
    result = bench("--infill", tasks)
    assert (result.code, result.stderr) == (0, "")
    lines = result.stdout.decode().splitlines()
    assert lines[0].split("  ")[0] == "tasks"
    assert lines[1].split()[:3] == ["Own", "4", "0.0"]
    assert lines[-1].startswith("Own, base: ended by ")


def test_save_keeps_every_task(bench: Bench, session: Session, tasks: Path, tmp_path: Path) -> None:
    save = tmp_path / "result.json"
    content = object_of(bench("--infill", tasks, "--json", "--save", save))
    saved = json.loads(save.read_text())
    raw = saved.pop("raw")
    assert saved == content
    assert [each["variant"] for each in raw] == ["base"]
    outcomes = raw[0]["outcomes"]
    assert [one["task"] for one in outcomes] == [f"Own/{name}" for name in BODIES]
    assert [one["middle"] for one in outcomes] == filled(session, read_tasks(tasks))


def test_limit_takes_tasks_at_even_distances(bench: Bench, tasks: Path, tmp_path: Path) -> None:
    save = tmp_path / "result.json"
    bench("--infill", tasks, "--limit", 2, "--save", save)
    outcomes = json.loads(save.read_text())["raw"][0]["outcomes"]
    assert [one["task"] for one in outcomes] == ["Own/double", "Own/square"]


def test_own_files_are_reported_by_kind_of_hole(bench: Bench, folder: Path) -> None:
    flags = ["--infill-repo", folder, "--tasks", 12, "--seed", 3, "--json"]
    content = object_of(bench(*flags))
    assert [row["tasks"] for row in content["results"]] == ["line", "block", "rest", "span"]
    assert [row["n"] for row in content["results"]] == [3] * 4
    drawn = draw_tasks([folder], count=12, seed=3)
    lines = [task for task in drawn if task.group == "line"]
    assert content["settings"]["tasks"]["line"]["sha256"] == digest(lines)
    assert content["settings"]["seed"] == 3


def test_several_folders_and_a_file_in_one_run(bench: Bench, folder: Path, tasks: Path) -> None:
    content = object_of(
        bench(
            *("--infill", tasks, "--infill-repo", folder, "--infill-repo", folder.parent),
            *("--kind", "block", "--tasks", 6, "--glob", "*.py", "--json"),
        )
    )
    assert [(row["tasks"], row["n"]) for row in content["results"]] == [("Own", 4), ("block", 6)]


def test_a_run_is_repeated_by_its_command(bench: Bench, folder: Path) -> None:
    flags = ["--infill-repo", folder, "--tasks", 8, "--candidates", 2, "--json"]
    first, second = object_of(bench(*flags)), object_of(bench(*flags))
    for content in (first, second):
        del content["environment"]
        for row in content["results"]:
            del row["latency"]
    assert first == second


def test_fewer_holes_than_asked_for_is_said(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "a.py").write_text("one\ntwo\n")
    result = bench("--infill-repo", tmp_path / "small", "--kind", "line", "--tasks", 5)
    assert (result.code, result.stderr) == (0, "note: the files hold 2 holes, not 5\n")


def test_ablate_compares_each_way_with_the_base(bench: Bench, tasks: Path) -> None:
    content = object_of(bench("--infill", tasks, "--ablate", "--json"))
    names = [row["variant"] for row in content["results"]]
    assert names == ["base", "span eos", "no overlap cut", "4 candidates", "order psm"]
    for row in content["results"][1:]:
        low, high = row["difference"]["edit_similarity_interval"]
        assert low <= row["difference"]["edit_similarity"] <= high
    table = bench("--infill", tasks, "--ablate").stdout.decode()
    assert "against base" in table


@pytest.mark.skipif(refusal() is not None, reason="needs namespaces")
def test_execute_tells_how_many_pass(bench: Bench, tasks: Path) -> None:
    content = object_of(bench("--infill", tasks, "--execute", "--span", "line", "--json"))
    (row,) = content["results"]
    assert sum(row["verdicts"].values()) == 4
    assert row["pass_at_1"] == row["verdicts"].get("pass", 0) / 4
    low, high = row["pass_at_1_interval"]
    assert low <= row["pass_at_1"] <= high


@pytest.mark.skipif(refusal() is not None, reason="needs namespaces")
def test_execute_needs_tests(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "bare.jsonl"
    path.write_text('{"task_id": "a", "prompt": "b", "suffix": "c", "canonical_solution": "d"}\n')
    result = bench("--infill", path, "--execute")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.splitlines()[0] == f"error: {path}: a has no test"


def test_execute_is_refused_where_nothing_protects_the_machine(
    tasks: Path, model_folder: Path
) -> None:
    script = (
        "from tests.bench.test_sandbox import forbid_namespaces\n"
        "from bigcode_cli.cli.app import run\n"
        "forbid_namespaces()\n"
        f"raise SystemExit(run(['bench', '-m', {str(model_folder)!r}, '--execute', "
        f"'--infill', {str(tasks)!r}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == (
        "error: --execute cannot protect this machine: "
        "namespaces of its own: Operation not permitted"
    )


def test_a_missing_model_is_an_error(program: Program, tasks: Path) -> None:
    result = program("bench", "-m", tasks.parent / "none", "--infill", tasks)
    assert (result.code, result.stdout) == (3, b"")


def test_guesses_are_compared_with_none_task_by_task(
    bench: Bench, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "saved.json"
    flags = ["--infill-repo", folder, "--kind", "line", "--tasks", 6]
    content = object_of(bench(*flags, "--lookup", "-r", 3, "--json", "--save", path, "--quiet"))
    assert set(content) == {"environment", "settings", "results"}
    assert content["settings"]["rounds"] == 3
    assert content["settings"]["tasks"]["line"]["n"] == 6
    (row,) = content["results"]
    assert (row["tasks"], row["guesses"], row["n"]) == ("line", "lookup", 6)
    assert row["different_texts"] == 0
    assert row["decode"]["n"] <= row["whole"]["n"] == 6
    assert row["if_right"]["tokens_per_pass"] >= 1
    saved = json.loads(path.read_text())
    raw = saved.pop("raw")
    assert saved == content
    assert [len(task["plain"]) for task in raw] == [len(task["guessed"]) for task in raw] == [3] * 6


def test_a_draft_is_compared_with_none(bench: Bench, tasks: Path, model_folder: Path) -> None:
    result = bench("--infill", tasks, "--draft", model_folder, "--quiet")
    assert (result.code, result.stderr) == (0, "")
    text = result.stdout.decode()
    assert text.startswith(
        f"Own: 4 tasks, guesses by {model_folder}\ntexts that differ    0 of 4\n"
    )
    assert "tokens a pass " in text
