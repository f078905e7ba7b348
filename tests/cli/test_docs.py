import json
from pathlib import Path

from bigcode_cli.cli.app import COMMANDS
from bigcode_cli.cli.docs import BLOCK, fill_blocks, fill_tables, help_page
from tests.cli.running import ROOT, Program

README = ROOT / "README.md"


def test_help_blocks_of_the_readme_are_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill_blocks(text) == text, "run: python -m bigcode_cli.cli.docs"


def test_speeds_of_the_readme_are_those_of_the_committed_answers() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill_tables(text, ROOT) == text, "run: python -m bigcode_cli.cli.docs"


def test_a_table_of_speeds_is_made_of_every_file_that_is_named(tmp_path: Path) -> None:
    for name, speed in (("speed-b", 5.0), ("speed-a", 4000.0), ("other", 1.0)):
        answer = {
            "environment": {"gpu": "A GPU", "model": name, "weights": "int8"},
            "results": [{"test": "tg8", "engine": "bigcode", "median_ts": speed}],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(answer))
    text = "before\n<!-- speed: speed-*.json -->\nold\n<!-- end speed -->\nafter\n"
    filled = fill_tables(text, tmp_path)
    assert filled.splitlines()[3:7] == [
        "| hardware | model | weights | test | ours |",
        "| --- | --- | --- | --- | ---: |",
        "| A GPU | speed-a | int8 | tg8 | 4,000 |",
        "| A GPU | speed-b | int8 | tg8 | 5.0 |",
    ]
    assert fill_tables(filled, tmp_path) == filled


def test_tables_without_an_answer_are_empty_and_stand_beside_each_other(tmp_path: Path) -> None:
    text = (
        "<!-- speed: a-*.json -->\n<!-- end speed -->\nbetween\n"
        "<!-- guesses: b-*.json -->\nold\n<!-- end guesses -->\nafter\n"
    )
    assert fill_tables(text, tmp_path) == text.replace("old\n", "")


def test_readme_shows_every_commands_help() -> None:
    shown = {block["command"].strip() for block in BLOCK.finditer(README.read_text("utf-8"))}
    assert {"", *COMMANDS} <= shown


def test_help_page_is_what_help_prints(program: Program) -> None:
    for names in ([], ["generate"], ["models"], ["models", "pull"], ["config"]):
        assert program(*names, "--help").stdout.decode() == help_page(*names) + "\n"


def test_help_is_no_wider_than_a_terminal() -> None:
    for names in ([], *([name] for name in COMMANDS)):
        assert max(map(len, help_page(*names).splitlines())) <= 80
