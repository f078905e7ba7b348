"""One output, fed token by token."""

import pytest

from bigcode_cli.engine.output import Output
from bigcode_cli.engine.protocol import Token
from bigcode_cli.records import FinishReason, StopOptions
from tests.tokenizers import tiny_tokenizer

TEXT = "été = first + second\n"


def make_output(*, budget: int = 99, stops: tuple[str, ...] = (), healed: str = "") -> Output:
    return Output(
        request=0,
        sample=0,
        prompt="",
        tokenizer=tiny_tokenizer(),
        stops=StopOptions(texts=stops),
        budget=budget,
        healed=healed,
    )


def feed(output: Output, text: str) -> str:
    """Feed a text's tokens; the pieces taken after each."""
    taken = ""
    for id_ in tiny_tokenizer().encode(text):
        output.accept(Token(id_))
        taken += output.take()
    return taken


def test_the_pieces_taken_are_the_text_and_the_end_of_text_is_not_shown() -> None:
    output = make_output()
    taken = feed(output, TEXT)
    output.accept(Token(tiny_tokenizer().eos_id))
    assert taken + output.take() == output.text == TEXT
    assert output.finish_reason == "eos"
    assert output.tokens == len(tiny_tokenizer().encode(TEXT)) + 1


@pytest.mark.parametrize("reason", ["length", "interrupted"])
def test_what_was_held_back_for_a_stop_is_due_at_the_end(reason: FinishReason) -> None:
    output = make_output(stops=("second\n!",))
    taken = feed(output, TEXT)
    assert taken == TEXT.removesuffix("second\n")
    output.end(reason)
    assert output.take() == "second\n"
    assert (output.text, output.finish_reason, output.stop) == (TEXT, reason, None)


def test_the_budget_ends_an_output_with_all_its_text() -> None:
    count = len(tiny_tokenizer().encode(TEXT))
    output = make_output(budget=count, stops=("\n!",))
    assert feed(output, TEXT) == TEXT
    assert output.finish_reason == "length"


def test_half_a_character_at_the_end_is_marked() -> None:
    output = make_output()
    first, *_ = tiny_tokenizer().encode("🙂")
    output.accept(Token(first))
    assert output.take() == ""
    output.end("interrupted")
    assert output.take() == "\ufffd"


def test_a_stop_ends_the_text_before_it() -> None:
    output = make_output(stops=("first",))
    assert feed(output, "été = fi") == "été = "
    assert feed(output, "rst") == ""
    assert (output.text, output.finish_reason, output.stop) == ("été = ", "stop", "first")


def test_what_the_prompt_holds_already_is_not_said_again() -> None:
    output = make_output(healed="été = fi")
    assert feed(output, TEXT) == "rst + second\n"
