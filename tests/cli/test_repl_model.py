"""What the model is asked at a cursor, and what becomes of its answer."""

import pytest

from bigcode_cli.cli.repl_model import Options, Stats
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import UsageError
from bigcode_cli.records import Completion, GenerateRequest, InfillRequest, SamplingOptions

SAMPLING = SamplingOptions(temperature=0.5, top_k=3, seed=1)
OPTIONS = Options(sampling=SAMPLING, max_new_tokens=7, stop_texts=("END",))


def test_text_behind_the_cursor_makes_it_a_hole() -> None:
    question = OPTIONS.question("def f():\n    ", "\nx", "f.py")
    assert question.request == InfillRequest(
        prefix="def f():\n    ",
        suffix="\nx",
        path="f.py",
        max_new_tokens=7,
        sampling=SAMPLING,
        stop_texts=("END",),
    )
    assert question.ghost("a\r\nb \n\r") == "a\nb \n"


@pytest.mark.parametrize("after", ["", "\n", " \n\t"])
def test_blanks_behind_the_cursor_make_it_the_end(after: str) -> None:
    request = OPTIONS.question("x = ", after).request
    assert isinstance(request, GenerateRequest)
    assert (request.prompt, request.max_new_tokens, request.sampling) == ("x = ", 7, SAMPLING)
    assert (request.stops.texts, request.stops.at) == (("END",), "block")
    assert request.heal
    assert request.truncate


def test_indentation_is_left_to_the_model_and_taken_off_again() -> None:
    question = OPTIONS.question("def f():\n    ", "")
    assert isinstance(question.request, GenerateRequest)
    assert question.request.prompt == "def f():\n"
    assert question.ghost("    if a:\n        b\n\n") == "if a:\n        b"
    grown = ["", " ", "    ", "    \x1b", "    \x1b[2Jx\r"]
    assert [question.ghost(text) for text in grown] == ["", "", "", "\\x1b", "\\x1b[2Jx"]
    assert not any(question.is_over(text) for text in grown)
    assert question.is_over("\r\n  x")


def test_what_no_request_allows_is_no_question() -> None:
    with pytest.raises(UsageError):
        Options(sampling=SAMPLING, max_new_tokens=0).question("x", "")
    with pytest.raises(UsageError):
        Options(sampling=SAMPLING, max_new_tokens=1, stop_texts=("",)).question("x", "")


def test_stats_add_up(session: Session) -> None:
    stats = Stats()
    done = [
        event
        for prompt in ("value = ", "value = 1")
        for event in session.generate([GenerateRequest(prompt=prompt, max_new_tokens=3)])
        if isinstance(event, Completion)
    ]
    for completion in done:
        stats.add(completion)
    assert (stats.completions, stats.interrupted) == (2, 0)
    assert stats.prompt == sum(one.prompt_tokens for one in done)
    assert stats.new == sum(one.completion_tokens for one in done)
    assert stats.last is done[-1].timing
