"""The graph backend with the Triton kernels: interpreted, or captured for real where a GPU is."""

from dataclasses import replace

import pytest
import torch

from bigcode_cli.backends.graph import GraphBackend, StepMaker, fused, plain
from bigcode_cli.backends.graph_rows import GraphRows
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.records import SamplingOptions
from tests.backends.wide import GREEDY, SAMPLED, VOCAB, ids_of, prompt, wide_model

pytestmark = pytest.mark.usefixtures("few_programs")

PENALISED = SamplingOptions(temperature=0.7, repetition_penalty=1.3, min_p=0.02)


def backends(
    device: torch.device, maker: StepMaker
) -> tuple[GraphBackend, TorchBackend, list[str]]:
    """The two of one model, and where the first one's notes go."""
    notes: list[str] = []

    class Notes:
        def note(self, text: str) -> None:
            notes.append(text)

        def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
            pass

    model, info = wide_model()
    model = model.to(device)
    info = replace(info, device=str(device))
    backend = GraphBackend(model, info, makers=[("what is tested", maker)])
    backend._report = Notes()
    return backend, TorchBackend(model, info), notes


@pytest.mark.parametrize("options", [GREEDY, PENALISED], ids=["greedy", "drawn"])
def test_fused_steps_give_the_tokens_of_the_reference(
    device: torch.device, options: SamplingOptions
) -> None:
    backend, reference, notes = backends(device, fused)
    steps = 128 if device.type == "cuda" else 5
    asked = [prompt(list(range(3, 40)), steps, options)]
    assert ids_of(backend, asked, steps) == ids_of(reference, asked, steps)
    assert notes == []


@pytest.mark.parametrize("options", [GREEDY, PENALISED], ids=["greedy", "drawn"])
def test_guesses_are_verified_between_fused_steps(
    device: torch.device, options: SamplingOptions
) -> None:
    backend, reference, notes = backends(device, fused)
    steps = 128 if device.type == "cuda" else 8
    asked = [prompt(list(range(3, 40)), steps + 8, options)]
    (expected,) = ids_of(reference, asked, steps)
    rows, got = backend.prefill(asked), list[int]()
    while len(got) < steps:
        at = len(got)
        wrong = [*expected[at : at + 2], -1 % VOCAB, 5] if at % 5 == 2 else []
        right = expected[at : at + 4] if at % 5 == 4 else []
        passes = [rows.step()] if at % 5 in {0, 1} else rows.verify([wrong or right])
        got += [token.id for token in passes[0]]
        if at % 7 == 6:
            rows.replace([len(got) - at], [expected[at : at + 1]])
            got[at:] = expected[at : at + 1]
    assert got[:steps] == expected
    assert notes == []


@pytest.mark.parametrize("maker", [fused, plain], ids=["fused", "plain"])
def test_a_batch_is_captured_and_shrinks(maker: StepMaker) -> None:
    if not torch.cuda.is_available():
        pytest.skip("nothing is captured without a GPU")
    backend, reference, notes = backends(torch.device("cuda", 0), maker)
    asked = [prompt([row, 1, 2], 90, GREEDY, SAMPLED, PENALISED) for row in range(8)]
    told = []
    for one in (backend, reference):
        rows, ids = one.prefill(asked), []
        for at in range(90):
            ids.append([token.id for token in rows.step()])
            if at % 9 == 8:
                rows.keep([row for row in range(len(rows)) if row % 5])
        told.append(ids)
    assert told[0] == told[1]
    assert notes == []


@pytest.mark.parametrize("maker", [fused, plain], ids=["fused", "plain"])
def test_rows_join_what_was_captured(maker: StepMaker) -> None:
    """Eight places, whose rows are followed by others as they end: one graph does for all."""
    if not torch.cuda.is_available():
        pytest.skip("nothing is captured without a GPU")
    backend, reference, notes = backends(torch.device("cuda", 0), maker)
    kinds = (GREEDY, SAMPLED, PENALISED)
    asked = [prompt([row, 1, 2] * (1 + row % 4), 20 + row, kinds[row % 3]) for row in range(40)]
    expected = [ids_of(reference, [one], one.max_new_tokens)[0] for one in asked]
    got: list[list[int]] = [[] for _ in asked]
    rows, live = backend.prefill(asked[:8]), list(range(8))
    assert isinstance(rows, GraphRows)
    seats = set()
    for waiting in range(8, len(asked) + 1):
        while not any(len(got[one]) == asked[one].max_new_tokens for one in live):
            for one, token in zip(live, rows.step(), strict=True):
                got[one].append(token.id)
            seats.add(rows._seat)
        stay = [at for at, one in enumerate(live) if len(got[one]) < asked[one].max_new_tokens]
        rows.keep(stay)
        live = [live[at] for at in stay]
        if waiting < len(asked):
            others = backend.prefill([asked[waiting]])
            assert isinstance(others, GraphRows)
            got[waiting].append(others.step()[0].id)
            rows.join(others)
            live.append(waiting)
    assert got[:30] == expected[:30]
    assert all(ours == alone[: len(ours)] for ours, alone in zip(got, expected, strict=True))
    assert len(seats - {None}) == 1
    assert notes == []
