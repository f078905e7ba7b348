"""Where the program keeps files of its own."""

from pathlib import Path

import pytest

from bigcode_cli.homes import cache_folder, data_folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("BIGCODE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_the_folders_are_those_of_the_system(tmp_path: Path) -> None:
    assert data_folder() == tmp_path / ".local" / "share" / "bigcode"
    assert cache_folder() == tmp_path / ".cache" / "bigcode"


def test_the_specification_s_variables_count_if_they_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert data_folder() == Path("/data/bigcode")
    assert cache_folder() == tmp_path / ".cache" / "bigcode"


def test_one_variable_names_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("BIGCODE_HOME", "/own")
    assert data_folder() == cache_folder() == Path("/own")
