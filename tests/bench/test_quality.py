"""The quality measures against what they claim to count."""

import math

import pytest
import torch

from bigcode_cli.bench.card import PROMPT_LINES, RUN_ON_PROMPTS, prompts_from
from bigcode_cli.bench.infill_tasks import InfillTask
from bigcode_cli.bench.quality import bits_per_byte, complete, infill, parses, repeats_a_line
from bigcode_cli.engine.session import Session
from bigcode_cli.records import InfillOrder
from tests.sessions import random_session

TEXTS = ("def add(first, second):\n    return first + second\n", "x = 1\n", "", "été = '日本語'\n")


@pytest.fixture(scope="module")
def session() -> Session:
    return random_session(n_positions=64)


def brute_force_nats(session: Session, ids: list[int], context: int, stride: int) -> float:
    """One pass a token, each with exactly the left context that its window grants."""
    model = session.backend._model  # type: ignore[attr-defined]
    nll = 0.0
    for target in range(1, len(ids)):
        stop = context
        while stop <= target:
            stop += stride
        start = max(0, min(stop, len(ids)) - context)
        logits = model(torch.tensor([ids[start:target]])).logits.detach()[0, -1]
        nll -= logits.log_softmax(-1)[ids[target]].item()
    return nll


@pytest.mark.parametrize(("context", "stride"), [(64, 32), (16, 5), (9, 8)])
def test_bits_per_byte_equal_brute_force(session: Session, context: int, stride: int) -> None:
    measured = bits_per_byte(session, TEXTS, context=context, stride=stride)
    tokenizer = session.tokenizer
    nll = sum(
        brute_force_nats(session, [tokenizer.eos_id, *tokenizer.encode(text)], context, stride)
        for text in TEXTS
    )
    assert measured.files == 3
    assert measured.n_bytes == sum(len(text.encode()) for text in TEXTS)
    assert measured.nll == pytest.approx(nll, rel=1e-5)
    assert measured.value == pytest.approx(nll / math.log(2) / measured.n_bytes, rel=1e-5)


def test_first_tokens_count_their_own_bytes_alone(session: Session) -> None:
    measured = bits_per_byte(session, TEXTS[:1], context=64, stride=32, first_tokens=3)
    ids = session.tokenizer.encode(TEXTS[0])[:3]
    assert measured.n_bytes == len(session.tokenizer.decode(ids).encode())


@pytest.mark.parametrize("order", ["psm", "spm"])
def test_infill_gives_one_line_a_task_in_order(order: InfillOrder) -> None:
    session = random_session(n_positions=160)  # so that the longer tasks are cut
    tasks = [
        InfillTask(prefix="a = 1\n" * n, suffix="c = 3\n" * n, middle="b = 2\n")
        for n in range(1, 40)
    ]
    middles = infill(session, tasks, order=order)
    assert len(middles) == len(tasks)
    assert all("\n" not in middle.lstrip("\r\n") for middle in middles)
    assert middles[5] == infill(session, tasks[5:6], order=order)[0]


def test_completions_come_in_the_order_of_their_prompts(session: Session) -> None:
    prompts = ["a = ", "def f(", "import os\n"]
    assert complete(session, prompts)[1] == complete(session, prompts[1:2])[0]


PROMPT = 'def f(x):\n    """Doc."""\n'


@pytest.mark.parametrize(
    ("completion", "counts"),
    [
        ("    return x\n", True),
        ("    return x\n\n\ndef g(", True),
        ("    return x", False),
        ("    pass\n", False),
        ("    ...\n", False),
        ("    pass\n    return 1\n", True),
        ("    return (x\n", False),
        ("", False),
        ("    x = '\0'\n", False),
    ],
)
def test_parses_asks_for_a_body_in_whole_lines(completion: str, counts: bool) -> None:
    assert parses(PROMPT, completion, "f") is counts


def test_parses_looks_at_the_function_asked_for() -> None:
    assert parses("def g(x):\n    return x\n\n\n" + PROMPT, "    return x\n", "f")
    assert not parses("def g(x):\n    return x\n\n\n" + PROMPT, "    pass\n", "f")


@pytest.mark.parametrize(
    ("completion", "counts"),
    [
        ("    x = 1\n" * 4, True),
        ("    x = 1\n" * 3, False),
        ("    x = 1\n\n" * 4, True),
        ("    x = 1\n    y = 2\n" * 4, False),
        ("    x = 1\n" * 3 + "x = 1\n", False),
        ("\n" * 9, False),
        ("a\nb\n" + "c\n" * 3 + "c", True),
    ],
)
def test_a_line_four_times_in_a_row_is_a_circle(completion: str, counts: bool) -> None:
    assert repeats_a_line(completion) is counts


def test_texts_to_go_on_from_end_in_a_whole_line_of_a_held_out_file() -> None:
    files = [[f"{package}{line}\n" * 50 for line in range(30)] for package in "abc"]
    prompts = prompts_from(files)
    assert len(prompts) == RUN_ON_PROMPTS
    assert {prompt[0] for prompt in prompts} == set("abc")
    for prompt in prompts:
        lines = prompt.split("\n")
        assert len(set(lines)) == 1, "of one file"
        assert 10 < len(lines) <= PROMPT_LINES
    assert len({prompt.split("\n")[0] for prompt in prompts}) == 90
