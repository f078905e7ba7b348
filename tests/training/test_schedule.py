"""Learning rates over a training."""

from dataclasses import replace

import pytest

from bigcode_cli.errors import UsageError
from bigcode_cli.training.recipe import TrainingSettings
from bigcode_cli.training.schedule import planned_factor, rate_factor


def test_the_rate_rises_then_falls_to_nothing() -> None:
    factors = [rate_factor(step / 100, 0.1) for step in range(101)]
    assert max(factors) == factors[10] == 1
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == 0


def test_a_warm_restart_is_a_training_of_its_own_at_its_rate() -> None:
    settings = TrainingSettings(steps=100, warm_up=0.1, restarts=(0.5, 0.75), restart_rate=0.5)
    for step in range(50):
        assert planned_factor(step / 100, settings) == rate_factor(step / 50, 0.1)
        restarted = 0.5 * rate_factor(step % 25 / 25, 0.1)
        assert planned_factor(0.5 + step / 100, settings) == pytest.approx(restarted)
    assert planned_factor(1.0, settings) == 0


@pytest.mark.parametrize("restarts", [(0.0,), (1.0,), (0.5, 0.5), (0.6, 0.4)])
def test_restarts_out_of_order_are_refused(restarts: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="ascending"):
        replace(TrainingSettings(steps=1), restarts=restarts)
