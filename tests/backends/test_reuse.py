"""Prompts that begin like the last one: nothing but the time they take may differ."""

import dataclasses
from typing import Protocol

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.backends import native as native_module
from bigcode_cli.backends import torch as backend_module
from bigcode_cli.backends.native import NativeBackend
from bigcode_cli.backends.reuse import MIN_REUSED
from bigcode_cli.backends.torch import TorchBackend
from bigcode_cli.engine.protocol import Backend
from bigcode_cli.errors import ModelTooLargeError
from tests.backends.wide import (
    NATIVE,
    SAMPLED,
    VOCAB,
    ids_of,
    native_backend,
    needs_engine,
    prompt,
    wide_backend,
)

LONG = [(7 * i) % 50 for i in range(80)]
STEPS = 6

ids = st.integers(0, VOCAB - 1)


@st.composite
def edited(draw: st.DrawFn, prompts: list[list[int]]) -> list[int]:
    """A prompt as the next keystroke leaves it: a run of ids replaced, anywhere, by another."""
    last = prompts[-1]
    start = draw(st.integers(0, len(last)))
    stop = draw(st.integers(start, len(last)))
    new = draw(st.lists(ids, max_size=12))
    return (last[:start] + new + last[stop:])[:150] or [1]


either = pytest.mark.parametrize("opened", [pytest.param(wide_backend, id="torch"), NATIVE])


class Opener(Protocol):
    """How a backend before ``wide_model`` is made."""

    def __call__(self, *, multi_query: bool = True) -> Backend: ...


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((True, wide_backend), id="multi-query"),
        pytest.param((False, wide_backend), id="multi-head"),
        pytest.param((True, native_backend), id="multi-query-native", marks=needs_engine),
        pytest.param((False, native_backend), id="multi-head-native", marks=needs_engine),
    ],
)
def model(request: pytest.FixtureRequest) -> Backend:
    multi_query, opened = request.param
    backend: Backend = opened(multi_query=multi_query)
    return backend


def fresh(backend: Backend) -> Backend:
    """The same model with nothing kept."""
    if isinstance(backend, NativeBackend):
        return NativeBackend(backend._engine, backend.info)
    assert isinstance(backend, TorchBackend)
    return TorchBackend(backend._model, backend.info)


@settings(max_examples=20)
@given(st.data())
def test_edited_prompts_give_what_a_fresh_prefill_gives(
    model: Backend, data: st.DataObject
) -> None:
    backend = fresh(model)
    prompts = [list(LONG)]
    for _ in range(5):
        asked = dataclasses.replace(prompt(prompts[-1], STEPS), logprobs=VOCAB)
        rows, expected = backend.prefill([asked]), fresh(model).prefill([asked])
        assert expected.reused == 0
        sampled: list[int] = []
        for _ in range(data.draw(st.integers(1, STEPS))):
            (token,), (wanted,) = rows.step(), expected.step()
            assert token.id == wanted.id
            assert dict(token.top) == pytest.approx(dict(wanted.top), rel=1e-5, abs=1e-5)
            sampled.append(token.id)
        accepted = data.draw(st.integers(0, len(sampled)))
        prompts.append(data.draw(edited([prompts[-1] + sampled[:accepted]])))


def reused(backend: Backend, ids: list[int]) -> int:
    return backend.prefill([prompt(ids, STEPS)]).reused


@either
def test_only_what_follows_the_first_difference_is_fed(opened: Opener) -> None:
    backend = opened()
    assert reused(backend, LONG) == 0
    assert reused(backend, [*LONG, 90, 91]) == len(LONG)
    assert reused(backend, [*LONG[:40], 92, *LONG[40:]]) == 40
    assert reused(backend, LONG[:30]) == 29  # the last token's state is read
    assert reused(backend, [93, *LONG]) == 0
    assert reused(backend, [93, *LONG]) == len(LONG)


@either
def test_tokens_that_were_generated_are_reused_once_they_were_fed(opened: Opener) -> None:
    backend = opened()
    rows = backend.prefill([prompt(LONG, STEPS)])
    sampled = [token.id for _ in range(4) for token in rows.step()]
    assert reused(backend, [*LONG, *sampled, 90]) == len(LONG) + 3


@either
def test_few_tokens_in_common_are_computed_anew(opened: Opener) -> None:
    backend = opened()
    backend.prefill([prompt(LONG, STEPS)])
    assert reused(backend, [*LONG[: MIN_REUSED - 1], 90, 91]) == 0


@either
def test_rows_go_on_after_their_beginning_was_reused(opened: Opener) -> None:
    backend = opened()
    expected = ids_of(fresh(backend), [prompt(LONG, 20)], 20)[0]
    rows = backend.prefill([prompt(LONG, 20)])
    got = [token.id for _ in range(5) for token in rows.step()]
    other = backend.prefill([prompt([*LONG[:50], 3, 4], 20)])
    assert other.reused == 50
    for _ in range(15):
        got += [token.id for token in rows.step()]
        other.step()
    assert got == expected


@either
def test_candidates_share_what_was_kept_and_leave_their_prompt_behind(opened: Opener) -> None:
    backend = opened()
    backend.prefill([prompt(LONG, STEPS)])
    asked = prompt([*LONG, 8], 20, SAMPLED, seeds=[1, 2, 3])
    rows = backend.prefill([asked])
    assert rows.reused == len(LONG)
    got = [[token.id for token in rows.step()] for _ in range(20)]
    assert [list(row) for row in zip(*got, strict=True)] == ids_of(fresh(backend), [asked], 20)
    assert reused(backend, [*LONG, 8, 9]) == len(LONG) + 1


@either
def test_a_batch_of_prompts_neither_takes_nor_replaces_what_is_kept(opened: Opener) -> None:
    backend = opened()
    backend.prefill([prompt(LONG, STEPS)])
    assert backend.prefill([prompt(LONG, STEPS), prompt([1, 2], STEPS)]).reused == 0
    assert reused(backend, [*LONG, 4]) == len(LONG)


@either
def test_what_was_forgotten_is_not_reused(opened: Opener) -> None:
    backend = opened()
    backend.prefill([prompt(LONG, STEPS)])
    backend.forget()
    assert reused(backend, LONG) == 0


@either
def test_a_prefill_that_was_interrupted_is_reused_as_far_as_it_came(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "PREFILL_CHUNK", 20)
    monkeypatch.setattr(native_module, "CHUNK", 20)
    backend = opened()

    for done, _ in backend.prefilling([prompt(LONG, STEPS)]):
        if done == 60:
            break
    assert reused(backend, LONG) == 60
    assert ids_of(backend, [prompt(LONG, STEPS)], STEPS) == ids_of(
        fresh(backend), [prompt(LONG, STEPS)], STEPS
    )


def test_nothing_is_noted_behind_a_step_that_failed() -> None:
    backend = wide_backend()
    rows = backend.prefill([prompt(LONG, STEPS)])
    rows.step()
    weight = backend._model.transformer.ln_f.weight
    with torch.no_grad():
        kept, weight[3] = weight[3].clone(), torch.nan
        with pytest.raises(Exception, match="not numbers"):
            rows.step()
        weight[3] = kept
    more = [rows.step()[0].id for _ in range(3)]
    asked = [*LONG, *more, *more]
    assert reused(backend, asked) <= len(LONG) + 1


@either
def test_what_is_kept_gives_way_where_memory_is_short(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened()
    backend.prefill([prompt(LONG, STEPS)])
    room = iter([10_000, 10_000_000, 10_000_000])
    monkeypatch.setattr(backend_module, "free_bytes", lambda _: next(room))
    monkeypatch.setattr(native_module, "free_host_bytes", lambda: next(room))
    assert reused(backend, LONG) == 0
    assert reused(backend, LONG) == len(LONG) - 1
    monkeypatch.setattr(backend_module, "free_bytes", lambda _: 10_000)
    monkeypatch.setattr(native_module, "free_host_bytes", lambda: 10_000)
    with pytest.raises(ModelTooLargeError):
        backend.prefill([prompt(LONG, STEPS)])
