"""The graph backend against the PyTorch backend: the same tokens, whatever happens to its rows.

Without a GPU nothing is captured: the same steps run one by one, over the same buffers.
"""

import dataclasses
import gc
import random
from pathlib import Path
from subprocess import CalledProcessError

import pytest
import torch

from bigcode_cli.backends import _torch_class, devices, graph, open_random
from bigcode_cli.backends.graph import GraphBackend, StepMaker, plain
from bigcode_cli.backends.graph_rows import GraphRows
from bigcode_cli.backends.loading import draw
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import Prompt, Token
from bigcode_cli.errors import ModelCorruptError
from bigcode_cli.kernels.step import Step
from bigcode_cli.kernels.weights import Weights
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model, save_model
from bigcode_cli.records import LoadOptions, Quantize, Reporter, SamplingOptions
from tests.backends.wide import (
    GREEDY,
    GREEDY_PENALISED,
    PENALISED,
    SAMPLED,
    VOCAB,
    graph_backend,
    ids_of,
    prompt,
    wide_backend,
    wide_model,
)

PROMPTS = ([1, 2, 3], [7], list(range(3, 60)), [9, 9, 4, 80, 33, 2, 1])


def told(notes: list[str]) -> Reporter:
    class Reporter:
        def note(self, text: str) -> None:
            notes.append(text)

        def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
            pass

    return Reporter()


@pytest.mark.parametrize("multi_query", [True, False])
@pytest.mark.parametrize(
    "options",
    [GREEDY, SAMPLED, PENALISED, GREEDY_PENALISED],
    ids=["greedy", "drawn", "both", "pen"],
)
def test_tokens_equal_those_of_the_torch_backend(
    multi_query: bool, options: SamplingOptions
) -> None:
    prompts = [prompt(ids, 40, options, seeds=[3, 4]) for ids in PROMPTS]
    expected = ids_of(wide_backend(multi_query=multi_query), prompts, 40)
    assert ids_of(graph_backend(multi_query=multi_query), prompts, 40) == expected


def test_a_row_alone_fills_the_whole_context() -> None:
    prompts = [prompt([5, 6], 198)]
    assert ids_of(graph_backend(), prompts, 198) == ids_of(wide_backend(), prompts, 198)


def test_rows_are_in_a_seat_from_the_second_token_on() -> None:
    rows = graph_backend().prefill([prompt([1, 2], 9)])
    assert isinstance(rows, GraphRows)
    rows.step()
    assert rows._seat is None
    rows.step()
    assert rows._seat is not None
    assert rows._flight is not None


def test_no_step_is_launched_beyond_what_was_asked_for() -> None:
    rows = graph_backend().prefill([prompt([1, 2], 5)])
    assert isinstance(rows, GraphRows)
    for _ in range(5):
        rows.step()
    assert rows._flight is None
    assert rows._cache.lengths == [6]


def walk(backend: TorchBackend, prompts: list[Prompt], seed: int) -> list[list[int]]:
    """Steps, and rows that leave now and then, in any order of those that stay."""
    drawn = random.Random(seed)
    rows, seen = backend.prefill(prompts), []
    for _ in range(24):
        seen.append([token.id for token in rows.step()])
        if len(rows) > 1 and drawn.random() < 0.3:
            rows.keep(drawn.sample(range(len(rows)), drawn.randint(1, len(rows))))
    return seen


@pytest.mark.usefixtures("small_seats")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("multi_query", [True, False])
def test_rows_that_leave_do_not_disturb_those_that_stay(seed: int, multi_query: bool) -> None:
    prompts = [
        prompt([1, 2, 3], 24, GREEDY, SAMPLED),
        prompt(list(range(40)), 24, PENALISED, SAMPLED, seeds=[8, 9]),
        prompt([4], 24, GREEDY_PENALISED),
    ]
    expected = walk(wide_backend(multi_query=multi_query), prompts, seed)
    assert walk(graph_backend(multi_query=multi_query), prompts, seed) == expected


@pytest.mark.usefixtures("small_seats")
@pytest.mark.parametrize("options", [GREEDY, PENALISED], ids=["greedy", "drawn"])
def test_rows_that_take_turns_in_one_seat_do_not_disturb_each_other(
    options: SamplingOptions,
) -> None:
    prompts = [prompt(ids, 30, options, seeds=[2]) for ids in ([1, 2, 3], [9, 8])]
    expected = [ids_of(wide_backend(), [one], 30)[0] for one in prompts]
    backend = graph_backend()
    turns = [backend.prefill([one]) for one in prompts]
    got: list[list[int]] = [[], []]
    for at in range(60):
        which = at % 2 if at < 20 else (at // 5) % 2
        if len(got[which]) < 30:
            got[which] += [token.id for token in turns[which].step()]
    for which in (0, 1):
        while len(got[which]) < 30:
            got[which] += [token.id for token in turns[which].step()]
    assert got == expected


def test_a_prompt_that_goes_on_from_the_last_one_is_reused() -> None:
    backend, ids = graph_backend(), list(range(50))
    rows = backend.prefill([prompt(ids, 20)])
    ids += [rows.step()[0].id for _ in range(20)]
    del rows
    gc.collect()
    again = backend.prefill([prompt([*ids, 3], 20)])
    assert again.reused >= 69
    got = [again.step()[0].id for _ in range(20)]
    assert got == ids_of(wide_backend(), [prompt([*ids, 3], 20)], 20)[0]


def test_what_was_kept_survives_a_batch_in_its_seat() -> None:
    backend, ids = graph_backend(), list(range(50))
    ids_of(backend, [prompt(ids, 20)], 20)
    ids_of(backend, [prompt([2], 9), prompt([3, 4], 9)], 9)
    again = backend.prefill([prompt([*ids, 60], 20)])
    assert again.reused == 50
    got = [again.step()[0].id for _ in range(20)]
    assert got == ids_of(wide_backend(), [prompt([*ids, 60], 20)], 20)[0]


def test_log_probabilities_are_told() -> None:
    asked = [dataclasses.replace(prompt([1, 2, 3], 9, SAMPLED), logprobs=3), prompt([5], 9)]
    got, expected = graph_backend().prefill(asked), wide_backend().prefill(asked)
    for _ in range(9):
        for token, other in zip(got.step(), expected.step(), strict=True):
            assert (token.id, [i for i, _ in token.top]) == (other.id, [i for i, _ in other.top])
            if other.logprob is None:
                assert token == Token(other.id)
            else:
                assert token.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_ids_beyond_the_tokenizer_are_never_sampled() -> None:
    backend = graph_backend(sampled_vocab=20)
    hot = SamplingOptions(temperature=50.0)
    rows = ids_of(backend, [prompt([1], 60, hot, GREEDY)], 60)
    assert max(id_ for row in rows for id_ in row) < 20


def test_logits_that_are_no_numbers_are_an_error() -> None:
    backend = graph_backend()
    rows = backend.prefill([prompt([1, 2], 9)])
    for _ in range(3):
        rows.step()
    with torch.no_grad():
        backend._model.transformer.ln_f.weight[3] = torch.nan
    # One step was under way already.
    rows.step()
    with pytest.raises(ModelCorruptError, match="not numbers"):
        rows.step()


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_quantised_weights_are_read_where_they_lie(bits: Quantize, tmp_path: Path) -> None:
    model, info = wide_model()
    save_model(model, model.config, tmp_path, storage="float32")
    model = load_model(
        GPTBigCodeForCausalLM, tmp_path, device="cpu", dtype=torch.float32, quantize=bits
    )
    prompts = [prompt(ids, 30) for ids in PROMPTS]
    expected = ids_of(TorchBackend(model, info), prompts, 30)
    got = GraphBackend(model, info, makers=[("plain steps", plain)])
    assert ids_of(got, prompts, 30) == expected


def broken(weights: Weights, rows: int, device: torch.device) -> Step:  # noqa: ARG001
    raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")


@pytest.mark.parametrize("rest", [(), (("plain steps", plain),)], ids=["torch", "plain"])
def test_what_fails_is_told_once_and_decoding_goes_on(
    rest: tuple[tuple[str, StepMaker], ...],
) -> None:
    backend = graph_backend(makers=(("Triton kernels", broken), *rest))
    notes: list[str] = []
    backend._report = told(notes)
    for _ in range(2):
        got = ids_of(backend, [prompt([1, 2, 3], 20)], 20)
        assert got == ids_of(wide_backend(), [prompt([1, 2, 3], 20)], 20)
    assert notes == ["decoding goes on without Triton kernels: Failed to find C compiler."]


def test_a_cause_is_told_once_whatever_fails_for_it() -> None:
    """Triton compiles in a new folder each time, and names it."""

    def failing(weights: Weights, rows: int, device: torch.device) -> Step:  # noqa: ARG001
        folders.append(f"/tmp/{len(folders)}")
        raise CalledProcessError(1, ["false", f"{folders[-1]}/cuda_utils.c"])

    folders: list[str] = []
    notes: list[str] = []
    backend = graph_backend(makers=(("Triton kernels", failing), ("a graph", failing)))
    backend._report = told(notes)
    assert ids_of(backend, [prompt([1, 2], 5)], 5) == ids_of(wide_backend(), [prompt([1, 2], 5)], 5)
    assert len(folders) == 2
    assert notes == ["decoding goes on without Triton kernels: false, the C compiler, fails"]


def test_a_model_of_random_weights_tells_what_it_goes_on_without() -> None:
    """The kernels, even where Triton is: their heads are narrower."""
    config = dataclasses.replace(wide_model()[0].config, n_embd=520, n_head=2, n_layer=1)
    options, notes = LoadOptions(device="cpu"), list[str]()
    report = told(notes)
    backend = GraphBackend.of(draw("a shape", config, options), VOCAB, report=report)
    plain = dataclasses.replace(options, backend="torch")
    expected = open_random("a shape", config, plain, report=report)
    assert isinstance(expected, TorchBackend)
    asked = [prompt([1, 2, 3], 20)]
    assert ids_of(backend, asked, 20) == ids_of(expected, asked, 20)
    assert [note.partition(":")[0] for note in notes] == ["decoding goes on without Triton kernels"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LoadOptions(device="cpu"), TorchBackend),
        (LoadOptions(device="cuda"), GraphBackend),
        (LoadOptions(device="cuda", attention="sdpa"), GraphBackend),
        (LoadOptions(device="cuda", attention="eager"), TorchBackend),
        (LoadOptions(device="cuda", backend="torch"), TorchBackend),
    ],
)
def test_steps_are_captured_on_gpus_unless_asked_otherwise(
    options: LoadOptions, expected: type[TorchBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "choose_device", torch.device)
    assert _torch_class(options) is expected


def test_random_weights_are_captured_as_loaded_ones_are() -> None:
    if not torch.cuda.is_available():
        pytest.skip("nothing is captured without a GPU")
    notes: list[str] = []
    config = wide_model()[0].config
    backend = open_random("a shape", config, LoadOptions(device="cuda"), report=told(notes))
    assert backend.info.name == "graph"
    rows = backend.prefill([prompt([1, 2], 5)])
    for _ in range(3):
        rows.step()
    assert isinstance(rows, GraphRows)
    assert rows._seat is not None


def test_no_memory_for_a_seat_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = graph_backend()
    monkeypatch.setattr(graph, "free_bytes", lambda _: 0)
    got = ids_of(backend, [prompt([1, 2, 3], 20)], 20)
    assert got == ids_of(wide_backend(), [prompt([1, 2, 3], 20)], 20)


def test_seats_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_SEATS", 2)
    backend = graph_backend()
    for count in (1, 2, 3, 5, 9, 1):
        prompts = [prompt([count, row], 3) for row in range(count)]
        assert ids_of(backend, prompts, 3) == ids_of(wide_backend(), prompts, 3)
        assert len(backend._seats) <= 2
