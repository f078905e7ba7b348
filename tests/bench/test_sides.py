"""Real runs of a tiny model: how many passes there are, and on what."""

from collections.abc import Iterator

import pytest
import torch

from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.sides import DRAWN, BackendSide, SessionSide
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import BigcodeError
from tests.sessions import random_session


@pytest.fixture
def session() -> Session:
    return random_session()


@pytest.fixture
def passes(session: Session) -> Iterator[list[tuple[int, int]]]:
    """``(rows, time)`` of each pass through the model, in order."""
    seen: list[tuple[int, int]] = []
    model = session.backend._model.transformer  # type: ignore[attr-defined]

    def note(_: object, args: tuple[torch.Tensor, ...]) -> None:
        seen.append((args[0].shape[0], args[0].shape[1]))

    with model.register_forward_pre_hook(note):
        yield seen


def marks(side: BackendSide | SessionSide, case: Case, passes: list[tuple[int, int]]) -> list[str]:
    """Marks and passes, as they come."""
    told: list[str] = []
    for mark in side.run(case):
        told += [*(f"{rows}x{time}" for rows, time in passes), mark]
        passes.clear()
    return told


def test_a_prompt_is_one_pass_and_its_first_token_needs_no_other(
    session: Session, passes: list[tuple[int, int]]
) -> None:
    case = Case(kind="pp", n_prompt=20, batch_size=3)
    assert marks(BackendSide(session.backend), case, passes) == ["begun", "3x20", "ended", "first"]


def test_what_the_cache_holds_already_is_not_timed(
    session: Session, passes: list[tuple[int, int]]
) -> None:
    case = Case(kind="pp", n_prompt=20, n_depth=40)
    assert marks(BackendSide(session.backend), case, passes) == [
        "1x40", "begun", "1x20", "ended", "first",
    ]  # fmt: skip


def test_a_depth_that_is_run_anew_is_an_error(session: Session) -> None:
    with pytest.raises(BigcodeError, match="of 4 tokens held already, 0 were reused"):
        list(BackendSide(session.backend).run(Case(kind="pp", n_prompt=20, n_depth=4)))


@pytest.mark.parametrize("depth", [0, 30])
def test_each_token_that_is_timed_is_one_pass(
    session: Session, passes: list[tuple[int, int]], depth: int
) -> None:
    side = BackendSide(session.backend)
    case = Case(kind="tg", n_gen=4, n_depth=depth, batch_size=2)
    assert marks(side, case, passes) == [
        f"2x{depth + 1}", "begun", "2x1", "2x1", "2x1", "2x1", "ended",
    ]  # fmt: skip
    assert [len(row) for row in side.ids] == [5, 5]


def test_the_same_case_chooses_the_same_ids_again(session: Session) -> None:
    side = BackendSide(session.backend)
    case = Case(kind="tg", n_gen=6)
    list(side.run(case))
    first = side.ids
    side.release()
    list(side.run(case))
    assert side.ids == first


def test_scoring_is_one_pass(session: Session, passes: list[tuple[int, int]]) -> None:
    case = Case(kind="sc", n_prompt=20, batch_size=2)
    assert marks(BackendSide(session.backend), case, passes) == ["begun", "2x20", "ended"]


def test_a_request_is_timed_from_text_to_its_last_token(session: Session) -> None:
    side = SessionSide(session)
    case = Case(kind="e2e", n_prompt=20, n_gen=10)
    assert list(side.run(case)) == ["begun", "first", "ended"]
    assert 1 <= side.tokens(case) <= 10
    assert not DRAWN.greedy
    assert [side.can(each) for each in (case, Case(kind="tg", n_gen=1))] == [True, False]
    assert not BackendSide(session.backend).can(case)
