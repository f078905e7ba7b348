"""Rows and tables against figures made by hand."""

import json
from collections.abc import Sequence

import pytest

from bigcode_cli.bench.infill_report import raw, rows, settings, table
from bigcode_cli.bench.infill_run import BASE, Latency, Measured, Outcome, Variant
from bigcode_cli.bench.infill_tasks import InfillTask, digest
from bigcode_cli.bench.intervals import bootstrap_mean, paired_shares, wilson
from bigcode_cli.records import InfillRequest

REQUEST = InfillRequest(prefix="", suffix="")


def way(
    name: str, similarities: Sequence[float], verdicts: Sequence[str | None], group: str = "line"
) -> Measured:
    outcomes = [
        Outcome(
            task=str(n),
            group=group,
            middle="x",
            exact=similarity == 1,
            similarity=similarity,
            finish_reason="stop" if n else "length",
            tokens=n,
            verdict=verdict,
        )
        for n, (similarity, verdict) in enumerate(zip(similarities, verdicts, strict=True))
    ]
    latencies = [
        Latency(
            task=str(n),
            group=group,
            first_token_s=0.1 * (n + 1),
            whole_s=0.2 * (n + 1),
        )
        for n in range(10)
    ]
    return Measured(
        variant=Variant(name, REQUEST),
        outcomes=tuple(outcomes),
        latencies=tuple(latencies),
        seconds=1.0,
    )


BASIC = way(BASE, [1, 0.5, 0, 1], ["pass", "fail", "timeout", "pass"])
OTHER = way("other", [1, 1, 0.5, 0], ["pass", "pass", "fail", "memory"])


def test_a_row_sums_up_one_way() -> None:
    (row,) = rows([BASIC])
    assert (row["tasks"], row["variant"], row["n"]) == ("line", "base", 4)
    assert row["exact_match"] == 0.5
    assert row["exact_match_interval"] == wilson(2, 4)
    assert row["edit_similarity"] == pytest.approx(0.625)
    assert row["edit_similarity_interval"] == bootstrap_mean([1, 0.5, 0, 1])
    assert row["pass_at_1"] == 0.5
    assert row["pass_at_1_interval"] == wilson(2, 4)
    assert row["verdicts"] == {"pass": 2, "fail": 1, "timeout": 1}
    assert row["finish_reasons"] == {"stop": 3, "length": 1}
    assert row["mean_tokens"] == 1.5
    assert row["latency"]["n"] == 10
    assert row["latency"]["first_token_s"] == pytest.approx({"median": 0.5, "p90": 0.9})
    assert row["latency"]["whole_s"] == pytest.approx({"median": 1.0, "p90": 1.8})
    assert "difference" not in row


def test_another_way_is_compared_with_the_base_task_by_task() -> None:
    _, row = rows([BASIC, OTHER])
    assert row["variant"] == "other"
    difference = row["difference"]
    assert difference["exact_match"] == 0
    assert difference["exact_match_interval"] == paired_shares(
        [(True, True), (True, False), (False, False), (False, True)]
    )
    assert difference["edit_similarity"] == 0
    assert difference["edit_similarity_interval"] == bootstrap_mean([0, 0.5, 0.5, -1])
    better = rows([OTHER, way("better", [1, 1, 1, 1], ["pass"] * 4)])[1]["difference"]
    assert better["exact_match"] == 0.5
    assert better["pass_at_1"] == 0.5


def test_groups_are_reported_by_themselves() -> None:
    short = way(BASE, [1], [None], group="block")
    both = Measured(
        variant=BASIC.variant,
        outcomes=BASIC.outcomes + short.outcomes,
        latencies=BASIC.latencies,
        seconds=1.0,
    )
    first, second = rows([both])
    assert (first["tasks"], first["n"]) == ("line", 4)
    assert (second["tasks"], second["n"]) == ("block", 1)
    assert "pass_at_1" not in second
    assert second["latency"] == {"n": 0, "first_token_s": None, "whole_s": None}
    assert "pass@1" in table([first, second])
    assert "pass@1" not in table([second])


def test_the_table_lines_up() -> None:
    text = table(rows([BASIC, OTHER]))
    first, second, endings = text.split("\n\n")
    assert first.splitlines()[0].split("  ") != []
    assert [line.split()[:3] for line in first.splitlines()[1:]] == [
        ["line", "base", "4"],
        ["line", "other", "4"],
    ]
    place = first.splitlines()[0].index("exact match %")
    for line in first.splitlines()[1:]:
        assert line[place:].startswith("50.0 [15.0, 85.0]")
    assert "500 / 900" in first
    assert "1,000 / 1,800" in first
    assert second.splitlines()[0].startswith("tasks  against base  exact match %")
    assert second.splitlines()[1].startswith("line   other         +0.0 [")
    assert endings.splitlines()[0] == (
        "line, base: ended by stop 3, length 1; run to pass 2, fail 1, timeout 1"
    )


def test_one_way_needs_no_comparison() -> None:
    text = table(rows([BASIC]))
    assert "variant" not in text
    assert "against" not in text


def test_settings_name_the_tasks_and_the_first_way() -> None:
    tasks = [InfillTask(prefix="a", middle="b", suffix="c", group="line")]
    assert settings(tasks, [BASIC, OTHER]) == {
        "tasks": {"line": {"n": 1, "sha256": digest(tasks)}},
        "span": "auto",
        "order": "auto",
        "candidates": 1,
        "temperature": 0.0,
        "cut_overlap": True,
        "max_new_tokens": 128,
    }


def test_all_of_it_is_json() -> None:
    content = json.loads(json.dumps({"results": rows([BASIC, OTHER]), "raw": raw([BASIC, OTHER])}))
    assert [each["variant"] for each in content["raw"]] == ["base", "other"]
    assert content["raw"][0]["outcomes"][0]["middle"] == "x"
    assert content["raw"][1]["latencies"][9]["whole_s"] == pytest.approx(2.0)
