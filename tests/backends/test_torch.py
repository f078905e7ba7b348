"""Backends that run a model on a CPU, against full forward passes without a cache."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import pytest
import torch
from torch import Tensor

from bigcode_cli.backends import likelihood
from bigcode_cli.backends import native as native_module
from bigcode_cli.backends import torch as backend_module
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import Backend, Passage, PassageScores, Pending, Token
from bigcode_cli.errors import ModelCorruptError, ModelTooLargeError, UsageError
from bigcode_cli.records import SamplingOptions
from tests.backends.wide import GREEDY, NATIVE, SAMPLED, VOCAB, ids_of, prompt, wide_backend

either = pytest.mark.parametrize("opened", [pytest.param(wide_backend, id="torch"), NATIVE])


class Opener(Protocol):
    """How a backend before ``wide_model`` is made."""

    def __call__(self, *, multi_query: bool = True, sampled_vocab: int = VOCAB) -> Backend: ...


def assert_greedy_by_full_forward(
    backend: TorchBackend, ids: Sequence[int], got: Sequence[int]
) -> None:
    """The slow twin: each token is the best of a pass, without a cache, over all before it.

    One pass tells it for every token, as no position sees a later one.
    """
    with torch.inference_mode():
        logits = backend._model(torch.tensor([[*ids, *got]])).logits[0, len(ids) - 1 : -1]
    assert list(got) == logits[:, : backend.info.vocab_size].argmax(-1).tolist()


PROMPTS = ([1, 2, 3], [7], list(range(3, 60)), [9, 9, 4, 80, 33, 2, 1])


@either
@pytest.mark.parametrize("multi_query", [True, False])
def test_greedy_decoding_equals_full_forward(multi_query: bool, opened: Opener) -> None:
    backend, twin = opened(multi_query=multi_query), wide_backend(multi_query=multi_query)
    for ids in PROMPTS:
        (got,) = ids_of(backend, [prompt(ids, 128)], 128)
        assert_greedy_by_full_forward(twin, ids, got)
        assert len(set(got)) > 2


@either
@pytest.mark.parametrize("chunk", [512, 16, 1])
def test_mixed_lengths_in_one_batch_equal_full_forward(
    chunk: int, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk(chunk, monkeypatch)
    got = ids_of(opened(), [prompt(ids, 128) for ids in PROMPTS], 128)
    for ids, row in zip(PROMPTS, got, strict=True):
        assert_greedy_by_full_forward(wide_backend(), ids, row)


def set_chunk(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "PREFILL_CHUNK", tokens)
    monkeypatch.setattr(native_module, "CHUNK", tokens)


@either
def test_rows_that_leave_do_not_disturb_those_that_stay(opened: Opener) -> None:
    backend = opened()
    rows = backend.prefill([prompt(ids, 40) for ids in PROMPTS])
    first = [[token.id for token in rows.step()] for _ in range(10)]
    rows.keep([3, 1])
    assert len(rows) == 2
    last = [[token.id for token in rows.step()] for _ in range(30)]
    for place, row in enumerate([3, 1]):
        got = [step[row] for step in first] + [step[place] for step in last]
        assert_greedy_by_full_forward(wide_backend(), PROMPTS[row], got)


@either
def test_a_seed_repeats_its_row_whatever_stands_beside_it(opened: Opener) -> None:
    backend = opened()
    alone = ids_of(backend, [prompt([1, 2, 3], 50, SAMPLED, seeds=[8])], 50)[0]
    crowd = [prompt([4] * 30, 50, GREEDY, SAMPLED), prompt([1, 2, 3], 50, SAMPLED, seeds=[7, 8])]
    beside = ids_of(backend, crowd, 50)
    assert beside[3] == alone
    assert beside[2] != alone
    assert_greedy_by_full_forward(wide_backend(), [4] * 30, beside[0])


@either
def test_samples_share_one_prefill_and_differ(opened: Opener) -> None:
    backend = opened()
    shared = ids_of(backend, [prompt([5, 6], 30, SAMPLED, seeds=[1, 2, 3])], 30)
    apart = [ids_of(backend, [prompt([5, 6], 30, SAMPLED, seeds=[s])], 30)[0] for s in (1, 2, 3)]
    assert shared == apart
    assert len({tuple(row) for row in shared}) == 3


@either
def test_ids_beyond_the_tokenizer_are_never_sampled(opened: Opener) -> None:
    backend = opened(sampled_vocab=20)
    hot = SamplingOptions(temperature=50.0)
    rows = ids_of(backend, [prompt([1], 60, hot, GREEDY)], 60)
    assert max(id_ for row in rows for id_ in row) < 20


@either
def test_first_ids_bind_the_first_token_alone(opened: Opener) -> None:
    backend = opened()
    free = ids_of(backend, [prompt([1, 2], 12)], 12)[0]
    bound = dataclasses.replace(prompt([1, 2], 12), first_ids=(50, 60))
    got = ids_of(backend, [bound, prompt([1, 2], 12)], 12)
    assert got[0][0] in {50, 60}
    assert_greedy_by_full_forward(wide_backend(), [1, 2, got[0][0]], got[0][1:])
    assert got[1] == free


@either
def test_the_repetition_penalty_covers_prompt_and_output(opened: Opener) -> None:
    backend = opened()
    severe = SamplingOptions(repetition_penalty=1e6)
    (row,) = ids_of(backend, [prompt([1, 2, 3], 60, severe)], 60)
    assert len({1, 2, 3, *row}) == 63


@either
def test_logprobs_are_those_of_the_unfiltered_model(opened: Opener) -> None:
    backend = opened()
    twin = wide_backend()
    told = dataclasses.replace(prompt([1, 2, 3], 5, SAMPLED), logprobs=3)
    rows = backend.prefill([told, prompt([1, 2, 3], 5)])
    grown = [1, 2, 3]
    for _ in range(5):
        token, silent = rows.step()
        assert silent == Token(silent.id)
        logits = twin._model(torch.tensor([grown])).logits.detach()[0, -1]
        expected = logits.log_softmax(-1)
        assert token.logprob == pytest.approx(expected[token.id].item(), abs=1e-5)
        best = expected.topk(3)
        assert [id_ for id_, _ in token.top] == best.indices.tolist()
        assert [value for _, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-5)
        grown.append(token.id)


def log_softmax(backend: TorchBackend, ids: Sequence[int]) -> Tensor:
    """``(time - 1, vocab)``: over each id but the first, in one pass."""
    logits: Tensor = backend._model(torch.tensor([ids])).logits
    return logits.detach()[0, :-1].log_softmax(-1)


def drawn(length: int) -> tuple[int, ...]:
    return tuple(torch.randint(0, VOCAB, (length,), generator=torch.Generator().manual_seed(1)))


@either
@pytest.mark.parametrize("sampled_vocab", [VOCAB, 90])
@pytest.mark.parametrize(("length", "counted"), [(2, 1), (57, 1), (57, 56), (200, 83), (30, 30)])
def test_scores_equal_log_softmax_of_one_pass(
    length: int,
    counted: int,
    sampled_vocab: int,
    opened: Opener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(likelihood.LOGITS_BYTES, "cpu", 4 * VOCAB * 16)
    monkeypatch.setattr(native_module, "CHUNK", 48)
    ids = [int(id_) for id_ in drawn(length)]
    log_p = log_softmax(wide_backend(), ids)[counted - 1 :]
    [scores] = opened(sampled_vocab=sampled_vocab).score(
        [Passage(tuple(ids), counted)], detail=True
    )
    chosen = log_p[range(length - counted), ids[counted:]]
    assert scores.logprobs == pytest.approx(chosen.tolist(), abs=1e-5)
    assert scores.entropies == pytest.approx((-(log_p.exp() * log_p).sum(-1)).tolist(), abs=1e-5)
    order = log_p.sort(dim=-1, descending=True, stable=True).indices.tolist()
    assert scores.ranks == [
        row.index(id_) + 1 for row, id_ in zip(order, ids[counted:], strict=True)
    ]


def test_equals_rank_by_their_id() -> None:
    backend = wide_backend()
    with torch.no_grad():
        backend._model.lm_head.weight.zero_()
    [scores] = backend.score([Passage((3, 0, 5, 1), 1)], detail=True)
    assert scores.ranks == [1, 6, 2]


@either
def test_passages_side_by_side_score_as_they_do_alone(opened: Opener) -> None:
    backend = opened()
    passages = [
        Passage(tuple(int(id_) for id_ in drawn(length)), counted)
        for length, counted in [(5, 1), (90, 44), (2, 1), (33, 32)]
    ]
    for detail in (False, True):
        together = backend.score(passages, detail=detail)
        for passage, scores in zip(passages, together, strict=True):
            [alone] = backend.score([passage], detail=detail)
            assert scores.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
            assert scores.entropies == pytest.approx(alone.entropies, abs=1e-5)
            assert scores.ranks == alone.ranks
            assert bool(scores.ranks) is detail


def test_passages_that_do_not_fit_together_are_run_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = wide_backend()
    passages = [Passage(tuple(range(count)), 1) for count in (4, 9, 7)]
    expected = [scores.logprobs for scores in backend.score(passages)]
    real, room = backend._score, 1

    def cramped(some: Sequence[Passage], *, detail: bool) -> Pending[list[PassageScores]]:
        if len(some) > room:
            raise torch.OutOfMemoryError
        return real(some, detail=detail)

    monkeypatch.setattr(backend, "_score", cramped)
    for one, logprobs in zip(backend.score(passages), expected, strict=True):
        assert one.logprobs == pytest.approx(logprobs, abs=1e-5)
    room = 0
    with pytest.raises(ModelTooLargeError, match="no memory"):
        backend.score(passages)


@either
def test_prefill_tells_its_progress(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    set_chunk(16, monkeypatch)
    told = list(opened().prefilling([prompt(range(40), 1)]))
    assert told == [(16, 40), (32, 40), (40, 40)]


@either
@pytest.mark.parametrize("length", [0, 201])
def test_a_prompt_outside_the_context_is_refused(length: int, opened: Opener) -> None:
    with pytest.raises(UsageError, match=str(length)):
        opened().prefill([prompt([1] * length, 1)])


def test_logits_that_are_no_numbers_are_an_error() -> None:
    backend = wide_backend()
    with torch.no_grad():
        backend._model.transformer.ln_f.weight[3] = torch.nan
    rows = backend.prefill([prompt([1, 2], 5)])
    with pytest.raises(ModelCorruptError, match="not numbers"):
        rows.step()


@either
def test_a_cache_that_does_not_fit_is_refused_before_it_is_made(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "free_bytes", lambda _: 10_000)
    monkeypatch.setattr(native_module, "free_host_bytes", lambda: 10_000)
    with pytest.raises(ModelTooLargeError, match=r"KV cache .* needs .* free"):
        opened().prefill([prompt([1, 2], 150)])


@either
@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize("count", [1, 4])
def test_scores_of_tails_equal_those_of_the_whole(
    multi_query: bool, count: int, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_module, "CHUNK", 25)
    backend = opened(multi_query=multi_query)
    for ids in ([8], list(range(60))):
        tails = [[1, 2, 3, 4], list(range(50, 70)), [9] * 7]
        for tail, scores in zip(tails, backend.score_tails(ids, tails, count), strict=True):
            assert scores == pytest.approx(
                backend.score([Passage((*ids, *tail), 1)])[0].logprobs[-count:], abs=1e-4
            )


@either
def test_tails_beyond_the_context_are_refused(opened: Opener) -> None:
    with pytest.raises(UsageError, match="201"):
        opened().score_tails([1] * 190, [[1], [1] * 11], 1)
