"""One random session, and what brute force finds with it, for all tests of scores."""

import pytest
import torch

from bigcode_cli.engine.session import Session
from tests.engine.scoring_cases import OPTIONS, TEXTS, Expected, by_brute_force
from tests.sessions import random_session


@pytest.fixture(scope="session")
def session() -> Session:
    torch.set_num_threads(1)
    return random_session()


@pytest.fixture(scope="session")
def expected(session: Session) -> list[list[Expected]]:
    return [[by_brute_force(session, text, options) for text in TEXTS] for options in OPTIONS]
