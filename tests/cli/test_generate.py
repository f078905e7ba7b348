import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli.engine.session import Session
from bigcode_cli.records import Completion, GenerateRequest, SamplingOptions, StopOptions
from tests.cli.conftest import N_POSITIONS
from tests.cli.running import Program, Result

PROMPT = "def foo():"
Generate = Callable[..., Result]
PROMPTS = ("def foo():", "x", "class A:\n    def")


def complete(session: Session, **request: object) -> list[Completion]:
    """What the session makes of a request."""
    asked = GenerateRequest(**{"prompt": PROMPT, "max_new_tokens": 20, "heal": True, **request})  # type: ignore[arg-type]
    done = [event for event in session.generate([asked]) if isinstance(event, Completion)]
    return sorted(done, key=lambda completion: completion.sample)


def objects(stdout: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.decode("ascii").splitlines()]


@pytest.fixture
def generate(program: Program, model_folder: Path) -> Generate:
    """``bigcode generate -m MODEL -n 20 …``."""
    return partial(program, "generate", "-m", model_folder, "-n", 20)


def test_pipe_gets_the_completion_and_nothing_else(generate: Generate, session: Session) -> None:
    result = generate(PROMPT)
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout == complete(session)[0].text.encode()


def test_echo_puts_the_prompt_before_it(generate: Generate, session: Session) -> None:
    text = complete(session)[0].text
    assert generate(PROMPT, "--echo").stdout == (PROMPT + text).encode()


@pytest.mark.parametrize("name", ["--max-new-tokens", "--max-tokens", "-n"])
def test_budget_has_three_names(
    program: Program, model_folder: Path, session: Session, name: str
) -> None:
    result = program("generate", "-m", model_folder, PROMPT, name, 3)
    assert result.stdout == complete(session, max_new_tokens=3)[0].text.encode()


def test_flags_become_the_request(generate: Generate, session: Session) -> None:
    sampling = SamplingOptions(
        temperature=1.5, top_k=50, top_p=0.95, min_p=0.01, repetition_penalty=1.1, seed=7
    )
    flags = "-t 1.5 --top-k 50 --top-p 0.95 --min-p 0.01 --repetition-penalty 1.1 --seed 7"
    for stops, more in [
        (StopOptions(), []),
        (StopOptions(texts=("fi", "\n")), ["--stop", "fi", "--stop", "\n"]),
        (StopOptions(at="line"), ["--stop-at", "line"]),
    ]:
        expected = complete(session, sampling=sampling, stops=stops, heal=False)[0].text
        assert generate(PROMPT, *flags.split(), *more, "--no-heal").stdout == expected.encode()


def test_stop_text_is_never_printed(generate: Generate, session: Session) -> None:
    text = complete(session)[0].text
    stop = text[3:5]
    (done,) = objects(generate(PROMPT, "--stop", stop, "--json").stdout)
    assert done["completion"] == text[: text.index(stop)]
    assert (done["finish_reason"], done["stop"]) == ("stop", stop)


def test_json_has_the_promised_fields(
    generate: Generate, session: Session, model_folder: Path
) -> None:
    result = generate(PROMPT, "--json")
    (done,) = objects(result.stdout)
    expected = complete(session)[0]
    timing = done.pop("timing")
    assert done == {
        "id": None,
        "index": 0,
        "model": str(model_folder),
        "prompt": PROMPT,
        "completion": expected.text,
        "finish_reason": "length",
        "stop": None,
        "usage": {"prompt_tokens": expected.prompt_tokens, "completion_tokens": 20},
        "seed": None,
    }
    assert set(timing) == {
        "load_s", "first_token_s", "prefill_tokens_per_s", "decode_tokens_per_s"
    }  # fmt: skip
    assert all(value > 0 for value in timing.values())
    assert result.stderr == ""


def test_rate_of_a_single_token_is_null(generate: Generate) -> None:
    (done,) = objects(generate(PROMPT, "--json", "-n", 1).stdout)
    assert done["timing"]["decode_tokens_per_s"] is None


def test_logprobs_are_those_of_the_session(generate: Generate, session: Session) -> None:
    (done,) = objects(generate(PROMPT, "--json", "--logprobs", 2, "--no-heal").stdout)
    expected = complete(session, logprobs=2, heal=False)[0].logprobs
    assert expected is not None
    assert [token["id"] for token in done["logprobs"]] == [token.id for token in expected]
    first = done["logprobs"][0]
    assert first["logprob"] == pytest.approx(expected[0].logprob)
    assert len(first["top"]) == 2
    assert first["top"][0] == {key: first[key] for key in ("id", "text", "logprob")}


def test_drawn_seed_is_told_and_repeats_the_result(generate: Generate) -> None:
    (drawn,) = objects(generate(PROMPT, "--json", "-t", 1).stdout)
    (again,) = objects(generate(PROMPT, "--json", "-t", 1, "--seed", drawn["seed"]).stdout)
    assert again["completion"] == drawn["completion"]
    assert again["seed"] == drawn["seed"]


class TestSeveral:
    def test_samples_are_warm_unless_told_otherwise(
        self, generate: Generate, session: Session
    ) -> None:
        result = generate(PROMPT, "--num-samples", 3, "--seed", 1, "--json")
        assert result.stderr == "note: several samples are drawn at temperature 0.8\n"
        warm = SamplingOptions(temperature=0.8, seed=1)
        expected = complete(session, sampling=warm, num_samples=3)
        done = objects(result.stdout)
        assert [one["completion"] for one in done] == [one.text for one in expected]
        assert [one["index"] for one in done] == [0, 1, 2]
        assert generate(PROMPT, "--num-samples", 2, "-t", 1).stderr.startswith("==>")
        assert generate(PROMPT, "--num-samples", 2, "--quiet").stderr == ""

    def test_greedy_samples_make_no_sense(self, generate: Generate) -> None:
        result = generate(PROMPT, "--num-samples", 2, "-t", 0)
        assert (result.code, result.stdout) == (2, b"")

    def test_text_is_set_off_by_a_blank_line_and_named_on_stderr(
        self, generate: Generate, session: Session
    ) -> None:
        lines = [json.dumps({"id": f"p{i}", "prompt": text}) for i, text in enumerate(PROMPTS)]
        Path("prompts").write_text("\n".join(lines))
        result = generate("--jsonl", "prompts")
        texts = [complete(session, prompt=text)[0].text for text in PROMPTS]
        ended = [text if text.endswith("\n") else f"{text}\n" for text in texts[:-1]]
        assert result.stdout.decode() == "\n".join([*ended, texts[-1]])
        assert result.stderr == "==> p0 <==\n==> p1 <==\n==> p2 <==\n"

    def test_ids_come_back_unchanged_in_the_order_of_the_lines(self, generate: Generate) -> None:
        ids = ["a", 7, None, ""]
        lines = [json.dumps({"id": id_, "prompt": "x"}) for id_ in ids]
        result = generate("--jsonl", "-", "--json", stdin="\n".join(lines).encode())
        assert [one["id"] for one in objects(result.stdout)] == ids

    def test_batch_equals_the_prompts_one_by_one(
        self, generate: Generate, session: Session
    ) -> None:
        lines = [json.dumps({"prompt": text}) for text in PROMPTS]
        result = generate("--jsonl", "-", "--json", stdin="\n".join(lines).encode())
        assert [one["completion"] for one in objects(result.stdout)] == [
            complete(session, prompt=text)[0].text for text in PROMPTS
        ]

    def test_one_that_fails_leaves_the_others(self, generate: Generate) -> None:
        long = "x " * N_POSITIONS
        lines = [json.dumps({"id": i, "prompt": text}) for i, text in enumerate(["a", long, "b"])]
        data = "\n".join([*lines, "nonsense"]).encode()
        result = generate("--jsonl", "-", "--json", stdin=data)
        assert result.code == 1
        assert [one["id"] for one in objects(result.stdout)] == [0, 2]
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert errors[0] == "error: stdin:4: not JSON: Expecting value"
        assert errors[1].startswith("error: stdin:2: ")
        assert len(errors) == 2

    def test_none_left_loads_no_model(self, program: Program) -> None:
        result = program("generate", "-m", "no/such/model", "--jsonl", "-", stdin=b"nonsense")
        assert (result.code, result.stderr.count("\n")) == (1, 1)


class TestRoom:
    def test_prompt_without_room_is_an_error(self, generate: Generate) -> None:
        result = generate(stdin=b"x " * N_POSITIONS)
        assert (result.code, result.stdout) == (2, b"")
        assert result.stderr.startswith("error: ")
        assert "--truncate" in result.stderr

    def test_truncate_drops_its_start(self, generate: Generate) -> None:
        result = generate("--truncate", "--json", stdin=b"x " * N_POSITIONS)
        (done,) = objects(result.stdout)
        assert result.code == 0
        assert done["usage"]["prompt_tokens"] + 20 <= N_POSITIONS


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["--temperature", "-1"], 2, "--temperature must be 0 or more, not -1"),
        (["--top-p", "2"], 2, "--top-p must be above 0 and at most 1, not 2"),
        (["-n", "0"], 2, "--max-new-tokens must be at least 1, not 0"),
        (["--top-k", "-1"], 2, "--top-k must be 0 or more, not -1"),
        (["--stop", ""], 2, "--stop must not be empty"),
        (["--seed", "-1"], 2, "--seed must be between 0 and"),
        (["--num-samples", "0"], 2, "--num-samples must be at least 1, not 0"),
        (["--threads", "0"], 2, "--threads must be at least 1, not 0"),
        (["--device", "toaster"], 2, "unknown device 'toaster'"),
        (["--logprobs", "1"], 2, "--logprobs needs --json"),
        (["--echo", "--json"], 2, "--echo and --json do not go together"),
        (["-m", "no/such/folder/here"], 3, ""),
        (["-m", "./missing"], 3, ""),
    ],
)
def test_bad_flag_is_one_clear_line(
    program: Program, args: list[str], code: int, error: str
) -> None:
    result = program("generate", "x", "--offline", *args)
    lines = result.stderr.splitlines()
    assert (result.code, result.stdout) == (code, b"")
    assert lines[0].startswith(f"error: {error}")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))


def test_bad_flag_is_told_before_input_is_waited_for(program: Program) -> None:
    assert program("generate", "-n", 0, stdin=None).stderr.startswith("error: --max-new-tokens")


def test_stats_go_to_stderr_even_when_quiet(generate: Generate, session: Session) -> None:
    result = generate(PROMPT, "--stats", "--quiet")
    assert result.stdout == complete(session)[0].text.encode()
    prompt, output = result.stderr.splitlines()
    assert re.fullmatch(r"prompt \d+ tokens at .* tokens/s, first token after .* s", prompt)
    assert re.fullmatch(r"output 20 tokens at .* tokens/s, ended by length", output)
