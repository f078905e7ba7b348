"""A Hub on loopback and an empty cache for every test of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.loopback import LoopbackHub, use_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The Hub that huggingface_hub talks to, with a cache and no token of its own."""
    with use_hub(tmp_path / "hf", monkeypatch) as server:
        yield server
