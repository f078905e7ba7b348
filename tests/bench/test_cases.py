import pytest

from bigcode_cli.bench.cases import Case, borders, plan
from bigcode_cli.errors import UsageError


def planned(n_positions: int = 8192, **sizes: list[int]) -> list[str]:
    lists = {"prompts": [512], "gens": [128], "depths": [0], "batches": [1], "scores": [0]}
    cases = plan(
        **{**lists, **sizes}, end_to_end=True, n_positions=n_positions, one_at_a_time=False
    )
    return [case.label for case in cases]


def test_cases_are_named_as_llama_bench_names_them() -> None:
    assert planned() == ["pp512", "tg128", "e2e512+128"]
    assert planned(depths=[0, 512], batches=[1, 8], gens=[16], scores=[2048]) == [
        "pp512", "pp512 @ d512", "pp512 b8",
        "tg16", "tg16 @ d512", "tg16 b8", "tg16 @ d512 b8",
        "sc2048", "sc2048 b8",
        "e2e512+16",
    ]  # fmt: skip


def test_a_size_of_0_leaves_its_kind_out() -> None:
    assert planned(prompts=[0]) == ["tg128"]
    assert planned(gens=[0]) == ["pp512"]
    with pytest.raises(UsageError, match="nothing to measure"):
        planned(prompts=[0], gens=[0])


def test_a_case_longer_than_the_model_is_refused_but_for_the_request_nobody_asked_for() -> None:
    assert planned(n_positions=512) == ["pp512", "tg128"]
    assert planned(n_positions=129, prompts=[0]) == ["tg128"]
    with pytest.raises(UsageError, match=r"tg128 takes 129 positions where the model has 128"):
        planned(n_positions=128, prompts=[0])
    with pytest.raises(UsageError, match=r"pp512 @ d1 takes 513 positions"):
        planned(n_positions=512, depths=[1])


@pytest.mark.parametrize(
    ("case", "tokens"),
    [
        (Case(kind="pp", n_prompt=512, n_depth=64, batch_size=4), 2048),
        (Case(kind="tg", n_gen=128, n_depth=64, batch_size=4), 512),
        (Case(kind="sc", n_prompt=100, batch_size=2), 198),
    ],
)
def test_tokens_are_those_that_the_time_is_for(case: Case, tokens: int) -> None:
    assert case.tokens == tokens


def test_ids_are_the_same_each_time_and_other_ones_in_each_sequence() -> None:
    case = Case(kind="pp", n_prompt=9, n_depth=4, batch_size=2)
    first, second = case.ids(50)
    assert [first, second] == case.ids(50)
    assert len(first) == len(second) == 13
    assert first != second
    assert set(first + second) <= set(range(50))


def test_borders_are_powers_of_two_with_what_lies_around_them() -> None:
    assert borders(40, first=8) == [7, 8, 9, 15, 16, 17, 31, 32, 33, 40]
    assert borders(9, first=2) == [1, 2, 3, 4, 5, 7, 8, 9]
    assert borders(100, first=64, clear=17) == [47, 64, 65, 100]
    assert borders(8, first=8) == [7, 8]


def test_one_size_at_a_time_makes_lines_and_no_product() -> None:
    cases = plan(
        prompts=[16, 32], gens=[4], scores=[8], depths=[5, 0, 9], batches=[1, 2, 3],
        end_to_end=False, n_positions=64, one_at_a_time=True,
    )  # fmt: skip
    assert [case.label for case in cases] == [
        "pp16", "pp32", "tg4 @ d5", "tg4", "tg4 @ d9", "tg4 @ d5 b2", "tg4 @ d5 b3", "sc8",
    ]  # fmt: skip
