from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.errors import UsageError
from bigcode_cli.hub import cache
from bigcode_cli.hub.names import HubName, check_revision, is_commit, is_repo_id, parse_name

NASTY = st.text(alphabet="aZ09-_./\\~: \n\0é\x1b", max_size=12)


@pytest.mark.parametrize(
    "name",
    ["bigcode/starcoder", "bigcode/gpt_bigcode-santacoder", "ibm-granite/x.y", "a/b", "0/_1"],
)
def test_hub_ids_are_known(name: str) -> None:
    assert is_repo_id(name)
    assert parse_name(name) == HubName(name)


@given(NASTY)
def test_a_hub_id_stays_in_the_cache(name: str) -> None:
    if is_repo_id(name):
        folder = cache.repo_folder(name)
        assert folder.parent == cache.cache_folder()
        assert folder.name.removeprefix("models--").split("--") == name.split("/")


@given(NASTY)
def test_a_revision_stays_below_the_references(revision: str) -> None:
    refs = Path("/cache/refs")
    try:
        check_revision(revision)
    except UsageError:
        return
    assert (refs / revision).resolve().is_relative_to(refs)
    assert (refs / revision).resolve() != refs


@pytest.mark.parametrize(
    "revision", ["main", "v1.1", "refs/pr/7", "feature/x_y", "c" * 40, "a@b+c"]
)
def test_usual_revisions_are_taken(revision: str) -> None:
    check_revision(revision)


def test_a_commit_is_forty_hexadecimal_digits() -> None:
    assert is_commit("0123456789abcdef" * 2 + "01234567")
    assert not is_commit("c" * 39)
    assert not is_commit("g" * 40)
    assert not is_commit("c" * 40 + "\n")
