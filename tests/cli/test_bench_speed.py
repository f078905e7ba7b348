"""``bigcode bench`` for speed, on a tiny model: real runs, whatever they take."""

import csv
import io
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli import __version__
from bigcode_cli.bench import limits, speed_plot
from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.measure import Mark
from bigcode_cli.bench.sides import BackendSide
from bigcode_cli.errors import ModelTooLargeError
from tests.cli.running import Program, Result

Bench = Callable[..., Result]

SGR = re.compile(r"\x1b\[[0-9;]*m")
SIZES = ("-p", 20, "-n", 6, "-r", 3)
CONFIG = {
    "model_type": "gpt_bigcode", "vocab_size": 300, "n_positions": 64, "n_embd": 32,
    "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


@pytest.fixture
def bench(program: Program, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """``bigcode bench -m MODEL -p 20 -n 6 -r 3 …``, with less memory read for the limits."""
    monkeypatch.setattr(limits, "_BUFFER", {"cpu": 2**22})
    monkeypatch.setattr(limits, "_SIDE", {"cpu": 64})
    return partial(program, "bench", "-m", model_folder, *SIZES)


def object_of(result: Result) -> dict[str, Any]:
    assert (result.code, result.stderr) == (0, "")
    (line,) = result.stdout.decode("ascii").splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


def saved(bench: Bench, path: Path, factor: float) -> Path:
    """An earlier answer in which everything took so many times as long."""
    assert bench("--save", path).code == 0
    content = json.loads(path.read_text())
    for row in content["results"]:
        row["samples_ns"] = [taken * factor for taken in row["samples_ns"]]
    path.write_text(json.dumps(content))
    return path


def test_json_has_environment_and_llama_benchs_rows(bench: Bench, model_folder: Path) -> None:
    content = object_of(bench("--json"))
    told = content["environment"]
    assert (told["model"], told["bigcode"]) == (str(model_folder), __version__)
    assert (told["device"], told["dtype"], told["repetitions"]) == ("cpu", "float32", 3)
    assert told["limits"]["read"] >= told["limits"]["copy"] > 0
    assert not content["interrupted"]
    rows = {row["test"]: row for row in content["results"]}
    assert list(rows) == ["pp20", "tg6", "e2e20+6"]
    for row in rows.values():
        assert len(row["samples_ns"]) == 3
        assert row["median_ts"] == pytest.approx(row["tokens"] * 1e9 / row["median_ns"], rel=1e-9)
        assert row["engine"] == "bigcode"
        assert row["peak_memory_bytes"] > 1e7
    assert rows["pp20"]["first_token_s"] * 1e9 >= min(rows["pp20"]["samples_ns"])
    assert 0 < rows["pp20"]["compute_fraction"] < 1
    assert rows["tg6"]["bandwidth_fraction"] > 0
    assert rows["e2e20+6"]["first_token_s"] > 0


def test_lists_make_every_case(bench: Bench) -> None:
    flags = ["-p", "20,30", "-d", "0,40", "-b", "1,2", "--n-score", "10", "--json", "--quiet"]
    assert [row["test"] for row in object_of(bench(*flags))["results"]] == [
        "pp20", "pp30", "pp20 @ d40", "pp30 @ d40", "pp20 b2", "pp30 b2",
        "tg6", "tg6 @ d40", "tg6 b2", "tg6 @ d40 b2", "sc10", "sc10 b2", "e2e20+6",
    ]  # fmt: skip


def test_a_sweep_varies_one_size_at_a_time_up_to_what_the_model_takes(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_BUFFER", {"cpu": 2**22})
    monkeypatch.setattr(limits, "_SIDE", {"cpu": 64})
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "n_positions": 140}))
    sweep = partial(program, "bench", "--shape", tmp_path, "--sweep", "--json", "--quiet")
    content = object_of(sweep("-b", "1,3"))
    assert content["environment"]["repetitions"] == 3
    lengths = [15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 140]
    depths = ["", *(f" @ d{depth}" for depth in (47, 64, 65, 123))]
    assert [row["test"] for row in content["results"]] == [
        *(f"pp{length}" for length in lengths),
        *(f"tg16{depth}" for depth in depths),
        "tg16 b3",
    ]
    given = object_of(sweep("-p", 0, "-n", 2, "-d", "9,0", "-b", "2,1", "-r", 1))
    assert [row["test"] for row in given["results"]] == ["tg2 @ d9 b2", "tg2 b2", "tg2 @ d9"]


def test_what_is_left_out_is_said(bench: Bench) -> None:
    told = "note: prompts at a depth are timed of one sequence alone\n"
    assert bench("-d", 40, "-b", "1,2").stderr == told
    assert bench("-d", 40, "-b", 2).stderr == told
    assert bench("-d", 40, "-b", 2, "-p", 0).stderr == ""


def test_a_shape_needs_no_weights_and_has_no_text(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    content = object_of(bench("--shape", path, "--json"))
    assert [row["test"] for row in content["results"]] == ["pp20", "tg6"]
    assert content["environment"]["random_weights"] is True
    assert content["environment"]["load_s"] is None


def test_a_pipe_gets_aligned_text(bench: Bench) -> None:
    result = bench()
    assert (result.code, result.stderr) == (0, "")
    title, *lines = result.stdout.decode("utf-8").splitlines()
    assert title.split() == ["test", "tokens/s", "±", "ms/step", "first", "ms", "GB", "of", "limit"]
    assert [line.split()[0] for line in lines[:3]] == ["pp20", "tg6", "e2e20+6"]
    assert lines[3].startswith(str(Path(lines[3].split(",")[0])))
    assert "float32 on " in lines[3]
    assert "\x1b" not in result.stdout.decode()


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_a_terminal_gets_bars_that_fit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = bench(stdout_terminal=True).stdout.decode()
    assert "\x1b[" in shown
    lines = SGR.sub("", shown).splitlines()
    assert max(map(len, lines)) <= columns
    assert re.search(r"\d+ % [█▏▎▍▌▋▊▉·]{12}$", lines[2])
    assert ("GB" in lines[0]) == (columns > 50)


def test_csv_and_markdown_and_lines(bench: Bench) -> None:
    rows = list(csv.DictReader(io.StringIO(bench("--format", "csv").stdout.decode())))
    assert [row["test"] for row in rows] == ["pp20", "tg6", "e2e20+6"]
    assert float(rows[1]["median_ts"]) > 0
    title, rule, *lines = bench("--format", "md").stdout.decode().splitlines()
    assert title.startswith("| test | tokens/s | ±")
    assert set(rule) <= set("| -:")
    assert [line.split(" | ")[0] for line in lines[:3]] == ["| pp20", "| tg6", "| e2e20+6"]
    told = bench("--format", "jsonl").stdout.decode().splitlines()
    assert [json.loads(line)["test"] for line in told] == ["pp20", "tg6", "e2e20+6"]


def test_save_writes_what_json_prints(bench: Bench, tmp_path: Path) -> None:
    content = object_of(bench("--json", "--save", tmp_path / "a.json"))
    assert json.loads((tmp_path / "a.json").read_text()) == content


def test_a_picture_is_drawn_beside_the_table(bench: Bench, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = bench("--plot", tmp_path / "a.png")
    assert (result.code, result.stderr) == (0, "")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_fails_before_anything_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = bench("--plot", "a.png")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith("error: --plot needs matplotlib\nhint: pip install")
    monkeypatch.setattr(speed_plot, "require_matplotlib", lambda: None)
    result = bench("--plot", "no/where.png")
    assert (result.code, result.stdout) == (1, b"")
    assert result.stderr.startswith("error: cannot write no/where.png")


class TestCompare:
    def test_what_became_slower_ends_with_4(self, bench: Bench, tmp_path: Path) -> None:
        old = saved(bench, tmp_path / "old.json", 1e-4)
        result = bench("--compare", old, "--fail-if-slower", "5%")
        assert result.code == 4
        assert result.stderr.startswith(
            f"error: 3 of 3 cases take over 5 % longer than in {old}, the worst "
        )
        told = result.stdout.decode().splitlines()
        start = told.index(next(line for line in told if line.startswith("test") and "95" in line))
        assert [line.split()[0] for line in told[start + 1 :]] == ["pp20", "tg6", "e2e20+6"]

    def test_what_became_faster_is_fine(self, bench: Bench, tmp_path: Path) -> None:
        old = saved(bench, tmp_path / "old.json", 1e4)
        content = object_of(bench("--compare", old, "--fail-if-slower", "5", "--json"))
        for change in content["compared"]:
            assert change["interval"][0] <= change["time_ratio"] <= change["interval"][1] < 0.01

    def test_other_hardware_is_told(self, bench: Bench, tmp_path: Path) -> None:
        old = saved(bench, tmp_path / "old.json", 1)
        content = json.loads(old.read_text())
        content["environment"]["dtype"] = "bfloat16"
        old.write_text(json.dumps(content))
        result = bench("--compare", old)
        assert result.stderr == f"note: {old} was measured with another dtype: bfloat16\n"

    def test_other_cases_are_refused_before_anything_runs(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        old = saved(bench, tmp_path / "old.json", 1)
        result = bench("--compare", old, "-p", "21", "-n", "0")
        assert (result.code, result.stdout) == (2, b"")
        assert "has none of these cases" in result.stderr

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            (None, "cannot read old.json: No such file or directory"),
            ("{", "old.json is not JSON"),
            ("[]", "old.json holds no speeds"),
            ('{"results": [{"test": 5}]}', "old.json holds no speeds"),
        ],
    )
    def test_a_bad_file_is_told(self, bench: Bench, text: str | None, error: str) -> None:
        if text is not None:
            Path("old.json").write_text(text)
        result = bench("--compare", "old.json")
        assert (result.code, result.stdout) == (2, b"")
        assert result.stderr.startswith(f"error: {error}")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["-p", "x"], "--n-prompt takes numbers from 0, with commas, not 'x'"),
        (["-b", "0"], "--batch-size takes numbers from 1, with commas, not '0'"),
        (["-p", "0", "-n", "0"], "nothing to measure"),
        (["-p", "5000"], "pp5000 takes 5000 positions where the model has 4096"),
        (["--fail-if-slower", "5"], "--fail-if-slower needs --compare OLD.json"),
        (["--json", "--format", "csv"], "--json is another format than --format csv"),
        (["--plot", "a.pdf"], "--plot takes FILE.png or FILE.html, not a.pdf"),
        (["--shape", "llama"], "no such shape: 'llama'"),
        (["--against", "vllm"], "no such peer: 'vllm'"),
        (["--execute"], "--execute needs --infill FILE or --infill-repo DIR"),
        (["--ablate"], "--ablate needs --infill FILE or --infill-repo DIR"),
        (["--lookup"], "--lookup needs --infill FILE or --infill-repo DIR"),
        (["--draft", "a"], "--draft needs --infill FILE or --infill-repo DIR"),
        (["--candidates", "2"], "--candidates needs --infill FILE or --infill-repo DIR"),
        (["--infill", "a"], "--n-prompt is about speed"),
    ],
)
def test_what_makes_no_sense_is_refused(bench: Bench, args: list[str], error: str) -> None:
    result = bench(*args)
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith(f"error: {error}")


def test_the_long_name_is_the_same_command(program: Program) -> None:
    assert program("benchmark", "-b", "0").stderr == program("bench", "-b", "0").stderr


def test_other_formats_are_of_speeds(program: Program) -> None:
    result = program("bench", "--infill", "a", "--format", "csv")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith("error: --format csv is of speeds")


def test_a_case_that_fails_leaves_the_others_and_ends_with_1(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BackendSide.run

    def failing(side: BackendSide, case: Case) -> Iterator[Mark]:
        if case.kind == "tg":
            raise ModelTooLargeError("no memory for a KV cache of 9 GB")
        yield from run(side, case)

    monkeypatch.setattr(BackendSide, "run", failing)
    result = bench()
    assert result.code == 1
    assert result.stderr == "error: tg6, bigcode: no memory for a KV cache of 9 GB\n"
    lines = result.stdout.decode().splitlines()
    assert [line.split()[:2] for line in lines[2:3]] == [["tg6", "failed"]]
    assert lines[3].startswith("e2e20+6")


def test_an_interrupt_prints_what_was_measured(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, turns = BackendSide.run, count()

    def interrupted(side: BackendSide, case: Case) -> Iterator[Mark]:
        if next(turns) == 6:  # the third of decoding, after one that warmed up
            signal.raise_signal(signal.SIGINT)
        yield from run(side, case)

    monkeypatch.setattr(BackendSide, "run", interrupted)
    result = bench("--json", "--save", tmp_path / "part.json")
    assert (result.code, result.stderr) == (130, "")
    content = json.loads(result.stdout)
    assert content["interrupted"] is True
    assert [len(row["samples_ns"]) for row in content["results"]] == [3, 1]
    assert json.loads((tmp_path / "part.json").read_text()) == content
