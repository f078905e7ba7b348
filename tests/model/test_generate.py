import pytest
import torch
from torch import Tensor

from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import BackendInfo, Prompt, Sampler
from bigcode_cli.errors import UsageError
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import SamplingOptions
from tests.model.models import random_ids, small_config, wide_model

NEW = 12
LENGTHS = (7, 1, 4)


def a_model(attention: str = "sdpa", **changes: object) -> GPTBigCodeForCausalLM:
    return wide_model(small_config(**{"eos_token_id": None, **changes}), attention)


def prompts_of(config: GPTBigCodeConfig) -> list[Tensor]:
    return [random_ids(config, 1, length, seed=length) for length in LENGTHS]


def left_padded(prompts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One batch, and the mask that tells its padding."""
    longest = max(prompt.shape[1] for prompt in prompts)
    rows = [torch.nn.functional.pad(row, (longest - row.shape[1], 0), value=7) for row in prompts]
    marks = [torch.ones_like(row) for row in prompts]
    marks = [torch.nn.functional.pad(row, (longest - row.shape[1], 0)) for row in marks]
    return torch.cat(rows), torch.cat(marks)


@torch.no_grad()
def by_full_passes(model: GPTBigCodeForCausalLM, prompt: Tensor, new: int) -> list[int]:
    """The most likely token after all that is there, over and over."""
    ids = prompt
    for _ in range(new):
        following = model(ids, use_cache=False).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, following], dim=1)
    told: list[int] = ids[0, prompt.shape[1] :].tolist()
    return told


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_greedy_decoding_equals_the_argmax_of_full_passes(
    attention: str, *, multi_query: bool
) -> None:
    model = a_model(attention, multi_query=multi_query)
    for prompt in prompts_of(model.config):
        ids = model.generate(prompt, max_new_tokens=NEW)
        assert torch.equal(ids[:, : prompt.shape[1]], prompt)
        assert ids[0, prompt.shape[1] :].tolist() == by_full_passes(model, prompt, NEW)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("multi_query", [True, False])
def test_a_batch_padded_on_the_left_equals_its_rows_alone(
    attention: str, *, multi_query: bool
) -> None:
    model = a_model(attention, multi_query=multi_query)
    prompts = prompts_of(model.config)
    ids, mask = left_padded(prompts)
    for marks in (mask, mask.bool()):
        told = model.generate(ids, marks, max_new_tokens=NEW)
        assert torch.equal(told[:, : ids.shape[1]], ids)
        for row, prompt in enumerate(prompts):
            assert told[row, ids.shape[1] :].tolist() == by_full_passes(model, prompt, NEW)


@pytest.mark.parametrize("from_config", [True, False])
def test_the_end_of_text_ends_a_row_and_fills_it(*, from_config: bool) -> None:
    plain = a_model()
    prompts = prompts_of(plain.config)
    ids, mask = left_padded(prompts)
    free = [by_full_passes(plain, prompt, NEW) for prompt in prompts]
    for eos in {token for row in free for token in row}:
        ends = [row.index(eos) if eos in row else NEW for row in free]
        new = min(max(ends) + 1, NEW)
        expected = [(row[:end] + [eos] * NEW)[:new] for row, end in zip(free, ends, strict=True)]
        if from_config:
            model = a_model(eos_token_id=eos)
            told = model.generate(ids, mask, max_new_tokens=NEW)
        else:
            told = plain.generate(ids, mask, max_new_tokens=NEW, eos_token_id=eos)
        assert told[:, ids.shape[1] :].tolist() == expected


def test_an_end_of_text_in_the_prompt_ends_nothing() -> None:
    model = a_model()
    prompt = random_ids(model.config, 1, 6)
    free = by_full_passes(model, prompt, NEW)
    (eos, *_) = (token for token in prompt[0].tolist() if token not in free)
    told = model.generate(prompt, max_new_tokens=NEW, eos_token_id=eos)
    assert told[0, 6:].tolist() == free


def test_padding_counts_for_no_position() -> None:
    """Real tokens alone have to fit into the model's positions, whatever padding is beside."""
    model = a_model(n_positions=16)
    prompt = random_ids(model.config, 1, 4)
    padded = torch.cat([torch.full((1, 20), 7), prompt], dim=1)
    mask = torch.cat([torch.zeros(1, 20), torch.ones(1, 4)], dim=1)
    told = model.generate(padded, mask, max_new_tokens=NEW)
    assert told[0, 24:].tolist() == by_full_passes(model, prompt, NEW)
    with pytest.raises(UsageError, match="17 tokens exceed the model's 16 positions"):
        model.generate(padded, mask, max_new_tokens=NEW + 1)
    with pytest.raises(UsageError, match="17 tokens exceed the model's 16 positions"):
        model.generate(prompt, max_new_tokens=NEW + 1)


def test_prompts_that_end_in_padding_are_refused() -> None:
    model = a_model()
    ids = random_ids(model.config, 2, 4)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with pytest.raises(UsageError, match="padded on the left, and these end in padding"):
        model.generate(ids, mask, max_new_tokens=2)


def test_ids_and_mask_of_another_shape_are_refused() -> None:
    model = a_model()
    ids = random_ids(model.config, 2, 4)
    for shape in ((2, 3), (1, 4), (4,)):
        with pytest.raises(UsageError, match=r"^attention_mask is of shape \(2, 4\), not"):
            model.generate(ids, torch.ones(shape), max_new_tokens=2)
    for bad in (ids[0], ids[:, :0], ids[:0]):
        with pytest.raises(UsageError, match=r"^input_ids is of shape \(any, any\), not"):
            model.generate(bad, max_new_tokens=2)


def test_nothing_new_is_the_prompt() -> None:
    model = a_model()
    ids = random_ids(model.config, 2, 4)
    assert torch.equal(model.generate(ids, max_new_tokens=0), ids)


def test_generation_neither_records_gradients_nor_changes_the_mode() -> None:
    model = a_model(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0).train()
    ids = random_ids(model.config, 1, 4)
    told = model.generate(ids, max_new_tokens=3)
    assert model.training
    assert torch.equal(told, model.eval().generate(ids, max_new_tokens=3))


def test_the_backend_decodes_the_same_greedily() -> None:
    model = a_model(tie_word_embeddings=False)
    info = BackendInfo(
        name="torch",
        device="cpu",
        dtype="float32",
        weights="float32",
        n_positions=model.config.n_positions,
        batch_tokens=2048,
        prefill_tokens=512,
        max_rows=16,
        vocab_size=model.config.vocab_size,
        weight_bytes=0,
    )
    prompts = prompts_of(model.config)
    ids, mask = left_padded(prompts)
    expected = model.generate(ids, mask, max_new_tokens=NEW)[:, ids.shape[1] :].tolist()
    greedy = Sampler(options=SamplingOptions(temperature=0.0), seed=0)
    rows = TorchBackend(model, info).prefill(
        [
            Prompt(ids=tuple(prompt[0].tolist()), samplers=(greedy,), max_new_tokens=NEW)
            for prompt in prompts
        ]
    )
    told = [[token.id for token in rows.step()] for _ in range(NEW)]
    assert [list(row) for row in zip(*told, strict=True)] == expected
