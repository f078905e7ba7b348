import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.errors import UsageError
from bigcode_cli.training.data.hold_out import HoldOut, draw

documents = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 100)), min_size=1, max_size=40)


@given(documents, st.floats(0.01, 0.99), st.integers(0, 9))
def test_a_group_is_held_out_as_a_whole_and_never_all_are(
    rows: list[tuple[int, int]], share: float, seed: int
) -> None:
    groups = [group for group, _ in rows]
    sizes = [size for _, size in rows]
    if len(set(groups)) == 1:
        with pytest.raises(UsageError):
            draw(groups, sizes, HoldOut(share))
        return
    aside = draw(groups, sizes, HoldOut(share, "package", seed))
    chosen = {groups[number] for number in aside}
    assert aside == {number for number, group in enumerate(groups) if group in chosen}
    assert 0 < len(chosen) < len(set(groups))
    assert aside == draw(groups, sizes, HoldOut(share, "package", seed))
    held, total = sum(sizes[number] for number in aside), sum(sizes)
    totals = {group: sum(s for g, s in rows if g == group) for group in set(groups)}
    assert held <= share * total or held == min(totals.values())
    left_in = [total for group, total in totals.items() if group not in chosen]
    # No group that would still have found room was passed over.
    assert held > share * total or all(held + more > share * total for more in left_in)


def test_another_seed_draws_others() -> None:
    groups, sizes = range(200), [1] * 200
    drawn = {draw(groups, sizes, HoldOut(0.1, "file", seed)) for seed in range(4)}
    assert len(drawn) == 4
    assert {len(one) for one in drawn} == {20}


def test_one_package_alone_may_be_split_by_file() -> None:
    with pytest.raises(UsageError) as caught:
        draw(["p", "p"], [1, 1], HoldOut(0.5))
    assert "--split file" in str(caught.value.hint)
    assert len(draw(range(2), [1, 1], HoldOut(0.5, "file"))) == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_a_share_is_between_none_and_all(share: float) -> None:
    with pytest.raises(UsageError):
        HoldOut(share)
