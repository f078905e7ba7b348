"""Planted mistakes: brute force must see each of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from torch import Tensor

from bigcode_cli.backends import likelihood
from bigcode_cli.backends import torch as backend_module
from bigcode_cli.engine import scoring
from bigcode_cli.engine import windows as windows_module
from bigcode_cli.engine.protocol import Passage
from bigcode_cli.engine.scoring import Scorer
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import UsageError
from tests.engine.scoring_cases import OPTIONS, TEXTS, Expected, faults, score

Plant = Callable[[pytest.MonkeyPatch], None]


def planted_windows(change: Callable[[Iterator[Passage]], Iterable[Passage]]) -> Plant:
    """The windows as if a line of theirs were wrong."""
    real = windows_module.windows

    def windows(chunks: Iterable[Sequence[int]], **options: Any) -> Iterator[Passage]:
        yield from change(real(chunks, **options))

    return lambda patch: patch.setattr(scoring, "windows", windows)


def planted_options(**changes: Callable[[int], int]) -> Plant:
    real = windows_module.windows

    def windows(chunks: Iterable[Sequence[int]], **options: int) -> Iterator[Passage]:
        changed = {name: change(options[name]) for name, change in changes.items()}
        return real(chunks, **{**options, **changed})

    return lambda patch: patch.setattr(scoring, "windows", windows)


def later(some: Iterator[Passage]) -> Iterator[Passage]:
    """Each window but the first begins one token too late."""
    for number, one in enumerate(some):
        yield one if not number or one.counted < 2 else Passage(one.ids[1:], one.counted - 1)


def overlapping(some: Iterator[Passage]) -> Iterator[Passage]:
    """The last token of each window counts again in the next."""
    for number, one in enumerate(some):
        yield Passage(one.ids, one.counted - 1) if number and one.counted > 1 else one


def without_context(some: Iterator[Passage]) -> Iterator[Passage]:
    """A window shows its own tokens the one before them, and no more."""
    for one in some:
        start = max(0, one.counted - 1)
        yield Passage(one.ids[start:], one.counted - start)


def without_the_last(some: Iterator[Passage]) -> Iterator[Passage]:
    """The rest that does not fill a window is forgotten."""
    held: list[Passage] = []
    for one in some:
        yield from held
        held = [one]
    yield from held if len(held) == 1 and held[0].counted < 2 else ()


def shift_targets(patch: pytest.MonkeyPatch) -> None:
    """Each token is held against the logits of its own position."""
    real = likelihood.likelihoods

    def likelihoods(head: Any, states: Any, targets: Any, **options: Any) -> Tensor:
        return real(head, states.roll(-1, 0), targets, **options)

    patch.setattr(backend_module, "likelihoods", likelihoods)


def mean_of_means(patch: pytest.MonkeyPatch) -> None:
    """The recipe often copied: windows weigh the same, however many tokens count in them."""
    real = Scorer._end

    def end(self: Scorer, sheet: Any) -> Any:
        if sheet.nll_sums and not sheet.error:
            sheet.nll_sums[:] = [sheet.scored * sum(sheet.nll_sums) / len(sheet.nll_sums) / 9]
        return real(self, sheet)

    patch.setattr(Scorer, "_end", end)


def logits_in_half(patch: pytest.MonkeyPatch) -> None:
    """The softmax of bfloat16."""
    real = likelihood.likelihoods

    def likelihoods(head: Any, states: Any, targets: Any, **options: Any) -> Tensor:
        return real(lambda some: head(some).bfloat16(), states, targets, **options)

    patch.setattr(backend_module, "likelihoods", likelihoods)


def lead_counts(patch: pytest.MonkeyPatch) -> None:
    """The first token's bytes are counted, though nothing scores it."""
    real = Scorer._count

    def count(self: Scorer, part: Any, scores: Any) -> None:
        real(self, part, scores)
        part.sheet.n_bytes += sum(
            self._tokenizer.byte_lengths[id_] for id_ in part.ids[: part.lead]
        )

    patch.setattr(Scorer, "_count", count)


def unsorted_results(patch: pytest.MonkeyPatch) -> None:
    """Results of a batch are handed back as they were run, the longest first."""
    real = windows_module.run_batched

    def run_batched(items: Any, begin: Any, batch_tokens: int) -> Any:
        def reversed_run(some: Sequence[Passage]) -> Any:
            return windows_module.Done(begin(some).wait()[::-1])

        return real(items, reversed_run, batch_tokens)

    patch.setattr(scoring, "run_batched", run_batched)


MUTANTS: dict[str, Plant] = {
    "windows begin one token late": planted_windows(later),
    "an overlap counts twice": planted_windows(overlapping),
    "windows without left context": planted_windows(without_context),
    "the last window is forgotten": planted_windows(without_the_last),
    "the first token is dropped": planted_options(first=lambda first: first + 1),
    "a stride too long by one": planted_options(
        context=lambda context: context + 1, stride=lambda stride: stride + 1
    ),
    "a context too short by one": planted_options(context=lambda context: max(2, context - 1)),
    "targets shifted by one": shift_targets,
    "windows weigh the same": mean_of_means,
    "softmax in half precision": logits_in_half,
    "bytes of what does not count": lead_counts,
    "results in the order they were run": unsorted_results,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_brute_force_sees_every_planted_mistake(
    mutant: str,
    session: Session,
    expected: list[list[Expected]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    MUTANTS[mutant](monkeypatch)
    seen = False
    for options, wanted in zip(OPTIONS, expected, strict=True):
        try:
            seen = seen or bool(faults(score(session, TEXTS, options), wanted))
        except (UsageError, ValueError, IndexError, AssertionError):
            seen = True
    assert seen
