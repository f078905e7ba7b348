"""What a request's text becomes."""

import pytest

from bigcode_cli.engine.prompts import plan
from bigcode_cli.errors import UsageError
from bigcode_cli.records import GenerateRequest, SamplingOptions
from tests.tokenizers import starcoder_tokenizer, tiny_tokenizer

CONTEXT = 64
LONG = "first + second\n" * 40


def test_a_prompt_is_its_text_and_nothing_more() -> None:
    planned = plan(GenerateRequest(prompt="<fim_middle>x"), tiny_tokenizer(), CONTEXT)
    assert list(planned.prompt.ids) == tiny_tokenizer().encode("<fim_middle>x")
    assert tiny_tokenizer().control_ids.isdisjoint(planned.prompt.ids)
    assert (planned.healed, planned.prompt.first_ids, planned.seed) == ("", None, None)


def test_healing_takes_the_last_token_back_and_binds_the_first_new_one() -> None:
    """A line end of its own: StarCoder spells an indented next line with one token for both."""
    tokenizer = starcoder_tokenizer()
    planned = plan(GenerateRequest(prompt="def f():\n", heal=True), tokenizer, CONTEXT)
    assert list(planned.prompt.ids) == tokenizer.encode("def f():\n")[:-1]
    last = tokenizer.encode("def f():\n")[-1]
    assert planned.healed.encode() == tokenizer.token_bytes(last)
    assert planned.prompt.first_ids is not None
    assert last in planned.prompt.first_ids
    for id_ in planned.prompt.first_ids:
        assert tokenizer.token_bytes(id_).startswith(planned.healed.encode())


@pytest.mark.parametrize("prompt", ["x", "x\u0378"])
def test_a_lone_token_and_half_a_character_are_not_healed(prompt: str) -> None:
    """U+0378 is no character of the tiny vocabulary: its last token is one byte of it."""
    tokenizer = tiny_tokenizer()
    planned = plan(GenerateRequest(prompt=prompt, heal=True), tokenizer, CONTEXT)
    assert list(planned.prompt.ids) == tokenizer.encode(prompt)
    assert (planned.healed, planned.prompt.first_ids) == ("", None)


@pytest.mark.parametrize(("wanted", "budget"), [(10, 10), (63, 63), (64, 63), (500, 63)])
def test_truncation_leaves_room_for_what_is_wanted_and_a_token_of_prompt(
    wanted: int, budget: int
) -> None:
    request = GenerateRequest(prompt=LONG, truncate=True, max_new_tokens=wanted)
    planned = plan(request, tiny_tokenizer(), CONTEXT)
    assert planned.prompt.max_new_tokens == budget
    assert len(planned.prompt.ids) == CONTEXT - budget
    ids = tiny_tokenizer().encode(LONG)
    assert list(planned.prompt.ids) == ids[-len(planned.prompt.ids) :]


def test_without_truncation_a_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match="no room"):
        plan(GenerateRequest(prompt=LONG), tiny_tokenizer(), CONTEXT)


def test_each_sample_has_a_stream_of_its_own_and_neighbouring_seeds_share_none() -> None:
    def seeds(seed: int) -> set[int]:
        sampling = SamplingOptions(temperature=1.0, seed=seed)
        request = GenerateRequest(prompt="x", sampling=sampling, num_samples=4)
        return {s.seed for s in plan(request, tiny_tokenizer(), CONTEXT).prompt.samplers}

    assert len(seeds(5)) == 4
    assert seeds(5) == seeds(5)
    assert seeds(5).isdisjoint(seeds(6))
