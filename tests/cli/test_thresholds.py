"""``--fail-above`` and ``--baseline``."""

import json
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli.cli.score_flags import parse_percent
from bigcode_cli.errors import UsageError
from tests.cli.infilling import refusal
from tests.cli.running import Program
from tests.cli.scores import Score, gone_meanwhile, objects, rows

TEXTS = {"a.py": "x = 1\n" * 9, "b.py": "class A:\n    pass\n", "c.py": "print('c')\n"}


@pytest.fixture(autouse=True)
def files(_alone: None) -> list[str]:
    """Files in the working folder."""
    for name, text in TEXTS.items():
        Path(name).write_text(text)
    return list(TEXTS)


def errors(told: str) -> list[str]:
    """The errors on stderr."""
    return [line.removeprefix("error: ") for line in told.splitlines() if line[:6] == "error:"]


def notes(told: str) -> list[str]:
    """The notes on stderr but the total."""
    found = [line.removeprefix("note: ") for line in told.splitlines() if line[:5] == "note:"]
    return [note for note in found if not note.startswith("total")]


class TestFailAbove:
    def test_texts_above_fail_when_all_is_printed(self, score: Score, files: list[str]) -> None:
        cells = {row[2]: float(row[0]) for row in rows(score(*files))}
        best, middle, worst = sorted(cells, key=cells.__getitem__)
        limit = (cells[best] + cells[middle]) / 2
        result = score(*files, "--fail-above", limit)
        assert result.code == 4
        assert len(rows(result)) == 3
        (error,) = errors(result.stderr)
        assert error == (
            f"2 of 3 texts have a perplexity above {limit:.6g}, "
            f"the worst {worst}: {cells[worst]:.6g}"
        )

    def test_one_at_the_limit_passes(self, score: Score) -> None:
        (total,) = objects(score("a.py", "--json"))
        assert score("a.py", "--fail-above", repr(total["perplexity"])).code == 0
        assert score("a.py", "--fail-above", repr(total["perplexity"] * 0.9999)).code == 4

    def test_a_text_without_figures_passes(self, score: Score) -> None:
        assert score("--no-bos", "--fail-above", 0.001, stdin=b"x").code == 0

    def test_a_failed_input_outranks_it(self, score: Score) -> None:
        result = score("a.py", "missing", "--fail-above", 0.001)
        assert result.code == 1
        assert len(errors(result.stderr)) == 2

    def test_json_is_whole_too(self, score: Score, files: list[str]) -> None:
        result = score(*files, "--json", "--fail-above", 0.001, "-o", "out")
        assert result.code == 4
        assert len(Path("out").read_text().splitlines()) == 4


class TestBaseline:
    @pytest.fixture
    def baseline(self, score: Score, files: list[str]) -> Path:
        """What all files score now."""
        assert score(*files, "--json", "-o", "base").code == 0
        return Path("base")

    def change(self, baseline: Path, **changes: Any) -> None:
        """Change all lines of a baseline; a number is what its figure is multiplied by."""
        lines = [json.loads(line) for line in baseline.read_text().splitlines()]
        for line in lines:
            for key, value in changes.items():
                line[key] = line[key] * value if isinstance(value, float) else value
        baseline.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def test_the_same_texts_are_no_worse(
        self, score: Score, baseline: Path, files: list[str]
    ) -> None:
        result = score(*files, "--baseline", baseline, "--fail-if-worse", 0.01)
        assert (result.code, notes(result.stderr)) == (0, [])

    @pytest.mark.parametrize(
        ("factor", "share", "code"),
        [
            (0.96, None, 0), (0.94, None, 4), (0.94, "7", 0), (0.94, "7%", 0), (0.94, "6 %", 4),
            (0.5, "101", 0), (0.5, "99", 4), (1.5, "0", 0),
        ],
    )  # fmt: skip
    def test_a_text_worse_by_more_than_the_share_fails(
        self, score: Score, baseline: Path, factor: float, share: str | None, code: int
    ) -> None:
        self.change(baseline, bits_per_byte=factor)
        flags = [] if share is None else ["--fail-if-worse", share]
        assert score(*TEXTS, "--baseline", baseline, *flags).code == code

    def test_how_many_and_the_worst_are_named(
        self, score: Score, baseline: Path, files: list[str]
    ) -> None:
        before = {row[2]: float(row[1]) for row in rows(score(*files))}
        Path("b.py").write_text("q = '~~~~§§§§'\n")
        result = score(*files, "--baseline", baseline)
        (row,) = (row for row in rows(result) if row[2] == "b.py")
        now = float(row[1])
        assert now > before["b.py"] * 1.05, "another text should be worse"
        assert result.code == 4
        assert errors(result.stderr) == [
            "1 of 3 texts has over 5 % more bits per byte than in base, the worst "
            f"b.py: {row[1]}, was {before['b.py']:.6g} ({now / before['b.py'] - 1:+.1%})"
        ]

    def test_texts_that_are_new_or_gone_are_noted(self, score: Score, baseline: Path) -> None:
        for number in range(5):
            Path(f"{number}.py").write_text("x")
        result = score("a.py", *(f"{number}.py" for number in range(5)), "--baseline", baseline)
        assert result.code == 0
        assert notes(result.stderr) == [
            "not in base: 0.py, 1.py, 2.py and 2 more",
            "only in base: b.py, c.py",
        ]

    def test_names_are_compared_as_paths(self, score: Score, baseline: Path) -> None:
        result = score("./a.py", "b.py", "c.py", "--baseline", baseline)
        assert notes(result.stderr) == []

    def test_records_are_compared_by_id_and_order(self, score: Score) -> None:
        records = [{"id": 1, "text": "a"}, {"id": "1", "text": "b"}, {"text": "c"}, {"text": "d"}]
        Path("r").write_text("".join(json.dumps(one) + "\n" for one in records))
        score("--jsonl", "r", "--json", "-o", "base")
        result = score("--jsonl", "r", "--baseline", "base", "--fail-if-worse", "0.01%")
        assert (result.code, notes(result.stderr)) == (0, [])

    def test_another_way_to_score_is_refused(self, score: Score, baseline: Path) -> None:
        for flags in (["--context", 64], ["--stride", 9], ["--no-bos"]):
            error = refusal(score("a.py", "--baseline", baseline, *flags))
            assert error.startswith("base was scored with context 4096, stride 2048 and --bos")

    def test_another_model_is_noted(self, score: Score, baseline: Path, model_folder: Path) -> None:
        self.change(baseline, model="elder")
        result = score(*TEXTS, "--baseline", baseline)
        assert result.code == 0
        assert notes(result.stderr) == [f"the baseline is of elder, this is {model_folder}"]

    def test_a_text_that_had_no_figures_is_no_worse(self, score: Score, baseline: Path) -> None:
        self.change(baseline, bits_per_byte=None)
        assert score(*TEXTS, "--baseline", baseline).code == 0
        self.change(baseline, bits_per_byte=0)
        assert score(*TEXTS, "--baseline", baseline).code == 4

    def test_a_text_that_fails_is_neither_new_nor_gone(
        self, score: Score, baseline: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone_meanwhile(monkeypatch, "c.py")
        result = score(*TEXTS, "--baseline", baseline)
        assert result.code == 1
        assert (len(errors(result.stderr)), notes(result.stderr)) == (1, [])

    def test_both_thresholds_are_told_at_once(self, score: Score, baseline: Path) -> None:
        self.change(baseline, bits_per_byte=0.1)
        result = score("a.py", "--baseline", baseline, "--fail-above", 0.1)
        assert result.code == 4
        (error,) = errors(result.stderr)
        assert " a perplexity above 0.1, " in error
        assert "; 1 of 1 text has over 5 % more bits per byte " in error

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "base has no scores"),
            ("nonsense", "base:1: not JSON"),
            ("[1]", "base:1: no score of a text"),
            ("{}", "base:1: no score of a text"),
            ('{"comparison": true}', "base compares models"),
            ('{"total": true}', "base has no scores"),
        ],
    )
    def test_what_is_no_baseline_is_refused_before_a_model_is_loaded(
        self, program: Program, text: str, error: str
    ) -> None:
        Path("base").write_text(text)
        result = program("score", "-m", "no/such/model", "a.py", "--baseline", "base")
        assert refusal(result).startswith(error)

    @pytest.mark.parametrize(
        "change",
        [
            {"bits_per_byte": "1"}, {"bits_per_byte": True}, {"context": 1.5}, {"stride": None},
            {"bos": 1}, {"path": 3}, {"model": None},
        ],
    )  # fmt: skip
    def test_so_is_a_line_with_a_field_of_another_type(
        self, score: Score, baseline: Path, change: dict[str, Any]
    ) -> None:
        lines = baseline.read_text().splitlines()
        lines[1] = json.dumps({**json.loads(lines[1]), **change})
        baseline.write_text("\n".join(lines))
        assert refusal(score("a.py", "--baseline", baseline)) == "base:2: no score of a text"

    @pytest.mark.parametrize("change", [{"model": "b"}, {"context": 9}])
    def test_so_is_a_mixture(self, score: Score, baseline: Path, change: dict[str, Any]) -> None:
        lines = baseline.read_text().splitlines()
        lines[1] = json.dumps({**json.loads(lines[1]), **change})
        baseline.write_text("\n".join(lines))
        assert refusal(score("a.py", "--baseline", baseline)).startswith(
            "base holds scores of several"
        )

    def test_a_missing_one_is_an_error(self, score: Score) -> None:
        assert refusal(score("a.py", "--baseline", "gone")) == "no such file: gone"


def test_shares_are_per_cent() -> None:
    assert [parse_percent(text) for text in ("5", "5%", " 2.5 %", 3, "0")] == [5, 5, 2.5, 3, 0]
    for text in ("", "x", "-1", "nan", "inf", "5%%", True):
        with pytest.raises(UsageError, match="per cent"):
            parse_percent(text)
