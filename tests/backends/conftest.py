"""What several tests of backends need."""

import pytest

from bigcode_cli.backends import graph


@pytest.fixture
def small_seats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seats of several lengths, as a large model has them."""
    monkeypatch.setattr(graph, "WHOLE_BYTES", 0)
    monkeypatch.setattr(graph, "SHORTEST", 16)
