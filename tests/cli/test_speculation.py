"""``--lookup`` and ``--draft``: the same text, and what is told of the guesses."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli.cli.answers import timing_object, usage_object
from bigcode_cli.cli.stats import stats_lines
from bigcode_cli.engine.pace import Pace
from bigcode_cli.records import Completion, Passes, Timing
from tests.cli.running import Program
from tests.tokenizers import tiny_json

PROMPT = "def foo():\n" * 3
SAMPLED = ("-t", "0.9", "--top-p", "0.9", "--seed", 5, "--num-samples", 2)


@pytest.fixture(autouse=True)
def _guesses_whatever_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    def width(_: Pace, chances: Sequence[Sequence[float]], *_left: object, **_s: float) -> int:
        return 1 + max(map(len, chances))

    monkeypatch.setattr(Pace, "width", width)


def parsed(stdout: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.decode().splitlines()]


@pytest.mark.parametrize("how", ["--lookup", "--draft"])
@pytest.mark.parametrize("options", [(), SAMPLED])
def test_the_text_is_that_without_guesses(
    program: Program, model_folder: Path, how: str, options: tuple[object, ...]
) -> None:
    command = ("generate", "-m", model_folder, "-n", 40, "-q", PROMPT, *options)
    guessing = [how, model_folder][: 2 if how == "--draft" else 1]
    expected, got = program(*command), program(*command, *guessing)
    assert (got.code, got.stdout) == (0, expected.stdout)
    for one in parsed(program(*command, *guessing, "--json").stdout):
        usage, timing = one["usage"], one["timing"]
        assert 0 < usage["passes"] <= 39
        assert usage["guessed_tokens"] >= usage["accepted_tokens"]
        held = sum(n * times for n, times in enumerate(usage["accepted_histogram"]))
        assert held == usage["accepted_tokens"]
        assert timing["tokens_per_pass"] == 1 + held / usage["passes"]
        if how == "--draft":  # the model itself: every guess holds
            assert usage["guessed_tokens"] == usage["accepted_tokens"]
    for one in parsed(program(*command, "--json").stdout):
        assert list(one["usage"]) == ["prompt_tokens", "completion_tokens"]
        assert "tokens_per_pass" not in one["timing"]


@pytest.mark.parametrize("how", ["--lookup", "--draft"])
def test_middles_are_those_without_guesses(program: Program, model_folder: Path, how: str) -> None:
    Path("a.py").write_text("a = 1\nb = 2\na = 1\nb = \na = 1\n")
    command = ("infill", "-m", model_folder, "-n", 30, "a.py:4", "--candidates", 3, "--seed", 1)
    guessing = [how, model_folder][: 2 if how == "--draft" else 1]
    expected, got = program(*command), program(*command, *guessing, "--stats")
    assert (got.code, got.stdout) == (0, expected.stdout)
    assert re.search(r"^\d+\.\d\d tokens a pass, ", got.stderr, re.MULTILINE)
    (one,) = parsed(program(*command, *guessing, "--json").stdout)
    assert one["usage"]["passes"] > 0


def test_one_guesses_or_the_other(program: Program) -> None:
    refused = program("generate", "x", "--lookup", "--draft", "mini")
    assert (refused.code, refused.stdout) == (2, b"")
    assert refused.stderr.startswith("error: --lookup and --draft do not go together\nhint: ")


def test_a_draft_with_another_vocabulary_is_refused(
    program: Program, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "draft"
    folder.mkdir()
    for file in model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    other = tiny_json().replace("<gh_stars>", "<gh_moons>")
    (folder / "tokenizer.json").write_text(other)
    refused = program("generate", "-m", model_folder, "x", "--draft", folder)
    assert (refused.code, refused.stdout) == (2, b"")
    assert "cannot draft for" in refused.stderr
    assert "token 6 is b'<gh_moons>', not b'<gh_stars>'" in refused.stderr
    assert "hint: a draft is a smaller model of the same family" in refused.stderr


def test_a_draft_that_is_not_there_is_an_error_of_the_model(
    program: Program, model_folder: Path
) -> None:
    assert program("generate", "-m", model_folder, "x", "--draft", "./nothing").code == 3


def told(passes: Passes | None) -> list[str]:
    timing = Timing(
        load_s=0, first_token_s=None, prefill_tokens_per_s=None, decode_tokens_per_s=None,
        passes=passes,
    )  # fmt: skip
    done = Completion(
        request=0, sample=0, id=None, model="", prompt="", text="", finish_reason="eos", stop=None,
        prompt_tokens=0, completion_tokens=0, timing=timing, seed=None,
    )  # fmt: skip
    assert ("passes" in usage_object(1, 2, timing)) == (passes is not None)
    assert ("tokens_per_pass" in timing_object(timing)) == (passes is not None)
    return stats_lines("x", done, 0, "eos")[2:]


def test_the_histogram_is_told_on_one_line() -> None:
    assert told(None) == []
    assert told(Passes()) == ["x: no pass, nothing guessed"]
    assert told(Passes(without=3)) == ["x: 1.00 tokens a pass, nothing guessed"]
    assert told(Passes(without=2, held=(1, 0, 3), guessed=1200)) == [
        "x: 2.00 tokens a pass, 6 of 1,200 guesses held: 0×1 2×3, no guess×2"
    ]
