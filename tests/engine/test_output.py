"""One output, fed token by token."""

import pytest

from bigcode_cli.engine.output import Output
from bigcode_cli.engine.protocol import Token
from bigcode_cli.records import FinishReason, StopOptions
from bigcode_cli.text.stops import StopScanner
from tests.tokenizers import tiny_tokenizer

TEXT = "été = first + second\n"


def make_output(*, budget: int = 99, stops: tuple[str, ...] = (), healed: str = "") -> Output:
    return Output(
        request=0,
        sample=0,
        tokenizer=tiny_tokenizer(),
        scanner=StopScanner(StopOptions(texts=stops)),
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


def count_of(text: str) -> int:
    return len(tiny_tokenizer().encode(text))


def test_the_tokens_of_a_text_are_counted_to_the_one_that_ended_it() -> None:
    output = make_output()
    feed(output, TEXT)
    assert output.tokens_of_text == output.tokens == count_of(TEXT)
    output.accept(Token(tiny_tokenizer().eos_id))
    assert output.tokens_of_text == output.tokens == count_of(TEXT) + 1


def test_tokens_sampled_before_a_stop_was_known_are_not_of_the_text() -> None:
    output = make_output(stops=(" first + second",))
    feed(output, TEXT)
    assert output.text == "été ="
    assert output.tokens > output.tokens_of_text == count_of("été =") + 1
    nothing = make_output(stops=(TEXT,))
    feed(nothing, TEXT)
    assert (nothing.text, nothing.tokens_of_text) == ("", 1)


def test_a_token_that_a_stop_cuts_is_the_last_of_the_text() -> None:
    output = make_output(stops=("s",))
    feed(output, TEXT)
    whole = tiny_tokenizer().encode(TEXT)
    spelled = [tiny_tokenizer().token_bytes(id_).decode(errors="replace") for id_ in whole]
    first = next(rank for rank, text in enumerate(spelled) if "s" in text)
    assert spelled[first].index("s") > 0
    assert output.tokens_of_text == first + 1
