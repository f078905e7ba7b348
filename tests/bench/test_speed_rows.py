import math
import statistics

import pytest

from bigcode_cli.bench.cases import Case
from bigcode_cli.bench.limits import Limits
from bigcode_cli.bench.measure import Samples
from bigcode_cli.bench.speed_rows import (
    Change,
    Engine,
    Row,
    agreement,
    changes,
    differences,
    is_comparable,
    ratio,
    rows,
)
from bigcode_cli.model.config import GPTBigCodeConfig

CONFIG = GPTBigCodeConfig(
    vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
)
LIMITS = Limits(copy=1e9, read=2e9, flops=1e12, buffer_bytes=1)
OURS = Engine(name="bigcode", backend="torch", dtype="float32", weights="int8", weight_bytes=9)
THEIRS = Engine(name="peer", backend="other", dtype="float32", weights="float32", weight_bytes=9)
TG = Case(kind="tg", n_gen=10, batch_size=2)
PP = Case(kind="pp", n_prompt=100)


def samples(case: Case, side: str, *taken: int, tokens: int = 0) -> Samples:
    return Samples(case, side, samples_ns=list(taken), tokens=tokens or case.tokens)


def of(*done: Samples) -> list[Row]:
    return rows(done, {"bigcode": OURS, "peer": THEIRS}, CONFIG, LIMITS)


def test_a_row_has_llama_benchs_keys() -> None:
    one = samples(TG, "bigcode", 2_000_000, 4_000_000, 5_000_000)
    one.first_token_ns, one.peak_memory_bytes = [7, 9, 8], 11
    (row,) = of(one)
    assert (row["n_prompt"], row["n_gen"], row["n_depth"], row["batch_size"]) == (0, 10, 0, 2)
    assert (row["test"], row["engine"], row["backend"]) == ("tg10 b2", "bigcode", "torch")
    assert row["samples_ns"] == [2_000_000, 4_000_000, 5_000_000]
    assert row["samples_ts"] == [10_000, 5_000, 4_000]
    assert row["avg_ns"] == statistics.fmean(row["samples_ns"])
    assert row["stddev_ns"] == statistics.stdev(row["samples_ns"])
    assert row["avg_ts"] == pytest.approx(19_000 / 3)
    assert row["stddev_ts"] == statistics.stdev(row["samples_ts"])
    assert (row["median_ts"], row["median_ts_interval"]) == (5_000, [4_000, 10_000])
    assert (row["first_token_s"], row["peak_memory_bytes"]) == (8e-9, 11)


def test_a_fraction_is_of_the_limit_that_binds() -> None:
    fast, slow = of(samples(TG, "bigcode", 10_000), samples(TG, "peer", 10_000))
    # The peer moves four times as many bytes in the same time: it is nearer to the limit.
    assert slow["bandwidth_fraction"] > 2 * fast["bandwidth_fraction"] > 0
    (prompt,) = of(samples(PP, "bigcode", 10_000))
    assert prompt["compute_fraction"] > 0
    assert "bandwidth_fraction" not in prompt
    (request,) = of(samples(Case(kind="e2e", n_prompt=9, n_gen=9), "bigcode", 10_000))
    assert not {"compute_fraction", "bandwidth_fraction"} & set(request)


def test_one_sample_is_a_row_and_none_is_none() -> None:
    assert of(samples(TG, "bigcode")) == []
    (row,) = of(samples(TG, "bigcode", 5))
    assert (row["stddev_ns"], row["median_ns"]) == (0, 5)


def test_a_failure_is_a_row() -> None:
    failed = samples(TG, "bigcode")
    failed.error = "no room"
    (row,) = of(failed)
    assert row["error"] == "no room"
    assert "median_ts" not in row


def test_a_peers_ratio_is_its_time_over_ours_round_by_round() -> None:
    ours, theirs = of(samples(TG, "bigcode", 10, 20, 40), samples(TG, "peer", 15, 60, 80))
    assert "ratio" not in ours
    assert theirs["ratio"] == {"median": 2.0, "interval": [1.5, 3.0]}
    assert ratio([], [1]) is None


def test_a_slow_moment_of_both_leaves_the_ratio_alone() -> None:
    steady = ratio([10, 10, 10, 10, 10], [20, 20, 20, 20, 20])
    assert ratio([10, 10, 1000, 10, 10], [20, 20, 2000, 20, 20]) == steady


def test_agreement_is_up_to_the_first_difference() -> None:
    assert agreement([[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 0, 4], [5, 6, 7, 8]]) == 6 / 8
    ours, theirs = samples(TG, "bigcode", 1), samples(TG, "peer", 1)
    ours.ids, theirs.ids = [[1, 2]], [[1, 3]]
    assert of(ours, theirs)[1]["same_ids"] == 0.5


def test_changes_are_of_cases_that_both_have_and_of_our_engine() -> None:
    old = of(samples(TG, "bigcode", 100, 110, 90), samples(TG, "peer", 5, 5, 5))
    new = of(samples(TG, "bigcode", 200, 220, 180), samples(PP, "bigcode", 1))
    (change,) = changes(old, new)
    assert change.test == "tg10 b2"
    assert change.time_ratio == pytest.approx(2)
    assert change.interval[0] < 2 < change.interval[1]


def test_a_text_that_ended_elsewhere_is_compared_by_its_tokens() -> None:
    case = Case(kind="e2e", n_prompt=9, n_gen=9)
    old = of(samples(case, "bigcode", 90, 90, tokens=9))
    new = of(samples(case, "bigcode", 30, 30, tokens=3))
    (change,) = changes(old, new)
    assert change.time_ratio == pytest.approx(1)


@pytest.mark.parametrize(
    ("time_ratio", "interval", "slower"),
    [
        (1.10, (1.06, 1.14), True),
        (1.10, (1.01, 1.20), True),
        (1.10, (0.99, 1.25), False),  # runs scatter as much
        (1.04, (1.03, 1.05), False),  # less than what is put up with
        (0.50, (0.40, 0.60), False),
    ],
)
def test_slower_is_by_more_than_the_share_and_than_noise(
    time_ratio: float, interval: tuple[float, float], slower: bool
) -> None:
    assert Change("tg128", time_ratio, interval).is_slower(0.05) is slower


@pytest.mark.parametrize(
    "wrong",
    [
        {"engine": "peer"}, {"test": 5}, {"tokens": "9"}, {"tokens": 0}, {"samples_ns": []},
        {"samples_ns": None}, {"samples_ns": [1, "2"]}, {"samples_ns": [0]}, {"samples_ns": 7},
    ],
)  # fmt: skip
def test_a_row_of_a_file_is_looked_at_before_it_is_used(wrong: Row) -> None:
    good = {"engine": "bigcode", "test": "tg10", "tokens": 10, "samples_ns": [5, 6]}
    assert is_comparable(good)
    assert not is_comparable(good | wrong)


def test_what_bears_on_speed_and_differs_is_told() -> None:
    now = {"dtype": "float32", "cpu": "A", "date": "today"}
    assert differences({"dtype": "bfloat16", "cpu": "A", "date": "then"}, now) == [
        "dtype: bfloat16"
    ]
    assert differences(None, now) == []


def test_logs_make_halves_and_doubles_alike() -> None:
    old = of(samples(TG, "bigcode", 100))
    (up,) = changes(old, of(samples(TG, "bigcode", 200)))
    (down,) = changes(old, of(samples(TG, "bigcode", 50)))
    assert math.isclose(up.time_ratio * down.time_ratio, 1)
