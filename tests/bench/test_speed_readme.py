from typing import Any

from bigcode_cli.bench.speed_readme import table


def row(test: str, engine: str, speed: float, **others: Any) -> dict[str, Any]:
    return {"test": test, "engine": engine, "median_ts": speed, **others}


def test_the_ratio_is_to_the_fastest_peer_of_the_case() -> None:
    slow = row("tg128", "transformers", 50, ratio={"median": 4.0, "interval": [3.9, 4.1]})
    fast = row("tg128", "compiled", 99.94, ratio={"median": 2.0, "interval": [1.9, 2.2]})
    answer = {
        "environment": {
            "gpu": None, "cpu": "A CPU", "threads": 2, "model": "mini", "weights": "float32",
        },
        "results": [
            row("pp512", "bigcode", 1234.5, compute_fraction=0.456, first_token_s=0.0123),
            row("tg128", "bigcode", 200, bandwidth_fraction=0.9),
            slow,
            fast,
            {"test": "tg9", "engine": "bigcode", "error": "no room"},
        ],
    }  # fmt: skip
    assert table([answer]).splitlines() == [
        "| hardware | model | weights | test | ours | transformers | compiled | ratio "
        "| first token, ms | of limit |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| 2 threads of A CPU | mini | float32 | pp512 | 1,234 |  |  |  | 12.3 | 46 % |",
        "| 2 threads of A CPU | mini | float32 | tg128 | 200 | 50.0 | 99.9 | 2.00 [1.90, 2.20] "
        "|  | 90 % |",
    ]
    assert table([]) == ""


def test_a_column_that_tells_nothing_is_left_out() -> None:
    told = {"gpu": None, "cpu": "A CPU", "threads": 1, "model": "33m", "weights": "int8"}
    answer = {"environment": told, "results": [row("tg128", "bigcode", 200)]}
    assert table([answer]).splitlines() == [
        "| hardware | model | weights | test | ours |",
        "| --- | --- | --- | --- | ---: |",
        "| 1 thread of A CPU | 33m | int8 | tg128 | 200 |",
    ]
