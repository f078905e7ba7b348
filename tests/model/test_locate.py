from collections.abc import Iterator
from pathlib import Path

import pytest

from bigcode_cli.errors import ModelNotFoundError, UsageError
from bigcode_cli.model.locate import Finder, locate, set_finder


@pytest.fixture
def installed() -> Iterator[Finder | None]:
    """What the package installed, put back afterwards."""
    before = set_finder(None)
    yield before
    set_finder(before)


def test_a_folder_is_its_own_place(installed: Finder | None, tmp_path: Path) -> None:
    assert installed is not None
    assert locate(tmp_path) == tmp_path


def test_a_folder_that_is_none_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ModelNotFoundError, match="no model folder"):
            locate(path)


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a revision is for models on the Hub"):
        locate(tmp_path, revision="main")


@pytest.mark.usefixtures("installed")
def test_without_a_finder_no_name_is_found() -> None:
    with pytest.raises(ModelNotFoundError, match=r"no finder .* 'mini'"):
        locate("mini")


@pytest.mark.usefixtures("installed")
def test_names_are_for_the_finder(tmp_path: Path) -> None:
    asked: list[tuple[object, ...]] = []

    def find(name: str, *, revision: str | None, local_files_only: bool, config_only: bool) -> Path:
        asked.append((name, revision, local_files_only, config_only))
        return tmp_path

    assert set_finder(find) is None
    assert locate("owner/model") == tmp_path
    assert locate("x", revision="v1", local_files_only=True, config_only=True) == tmp_path
    assert asked == [("owner/model", None, False, False), ("x", "v1", True, True)]
