"""Which shapes cuDNN may plan: those that come again, and not too many."""

import pytest
import torch

from bigcode_cli.backends import plans
from bigcode_cli.backends.plans import AttentionPlans
from bigcode_cli.engine.protocol import Passage
from tests.backends.wide import wide_backend


def is_allowed() -> bool:
    return bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]


def uses(shapes: AttentionPlans, shape: tuple[int, int], times: int) -> list[bool]:
    allowed = []
    for _ in range(times):
        with shapes.using(shape):
            allowed.append(is_allowed())
        assert not is_allowed()
    return allowed


def test_a_shape_is_planned_when_it_comes_again_and_again() -> None:
    shapes = AttentionPlans()
    assert uses(shapes, (1, 7), 5) == [False, False, False, True, True]
    assert uses(shapes, (7, 1), 3) == [False, False, False]
    assert uses(shapes, (1, 7), 1) == [True]


def test_only_so_many_shapes_are_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MAX_PLANS", 2)
    shapes = AttentionPlans()
    last = [uses(shapes, (1, time), 9)[-1] for time in (3, 4, 5)]
    assert last == [True, True, False]
    assert uses(shapes, (1, 3), 1) == [True]


def test_planning_ends_with_a_pass_that_failed() -> None:
    shapes = AttentionPlans()
    uses(shapes, (1, 7), 9)
    with pytest.raises(KeyError), shapes.using((1, 7)):
        raise KeyError
    assert not is_allowed()


def test_scoring_plans_the_shapes_of_its_batches() -> None:
    backend, seen = wide_backend(), []
    backend._model.transformer.register_forward_pre_hook(lambda *_: seen.append(is_allowed()))
    for _ in range(plans.MIN_USES):
        backend.score([Passage((1, 2, 3), 1), Passage((4, 5), 1)])
    assert seen == [False] * (plans.MIN_USES - 1) + [True]
