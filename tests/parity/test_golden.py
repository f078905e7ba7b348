"""A share of the parity suite, without transformers: see ``tests.parity``."""

import pytest

from tests.parity import golden, ours
from tests.parity.cases import Case
from tests.parity.mutants import MUTANTS, hunt


@pytest.mark.parametrize("case", golden.cases(), ids=lambda case: str(case.plan.number))
def test_outputs_losses_and_gradients_are_those_of_transformers(case: Case) -> None:
    for attention in ("eager", case.plan.attention):
        assert golden.judge(case, ours.run(case, ours.build(case, attention))) is None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_seen(name: str) -> None:
    assert hunt(name, golden.cases(), golden.judge) is not None
