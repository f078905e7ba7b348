import json
from pathlib import Path

from bigcode_cli.cli.app import COMMANDS
from bigcode_cli.cli.docs import BLOCK, fill_blocks, fill_speeds, help_page
from tests.cli.running import ROOT, Program

README = ROOT / "README.md"


def test_help_blocks_of_the_readme_are_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill_blocks(text) == text, "run: python -m bigcode_cli.cli.docs"


def test_speeds_of_the_readme_are_those_of_the_committed_answers() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill_speeds(text, ROOT) == text, "run: python -m bigcode_cli.cli.docs"


def test_a_table_of_speeds_is_made_of_every_file_that_is_named(tmp_path: Path) -> None:
    for name, speed in (("speed-b", 5.0), ("speed-a", 4000.0), ("other", 1.0)):
        answer = {
            "environment": {"gpu": "A GPU", "model": name, "weights": "int8"},
            "results": [{"test": "tg8", "engine": "bigcode", "median_ts": speed}],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(answer))
    text = "before\n<!-- speed: speed-*.json -->\nold\n<!-- end speed -->\nafter\n"
    filled = fill_speeds(text, tmp_path)
    assert filled.splitlines()[3:7] == [
        "| hardware | model | weights | test | ours | of limit |",
        "| --- | --- | --- | --- | ---: | ---: |",
        "| A GPU | speed-a | int8 | tg8 | 4,000 |  |",
        "| A GPU | speed-b | int8 | tg8 | 5.0 |  |",
    ]
    assert fill_speeds(filled, tmp_path) == filled


def test_readme_shows_every_commands_help() -> None:
    shown = {block["command"].strip() for block in BLOCK.finditer(README.read_text("utf-8"))}
    assert {"", *COMMANDS} <= shown


def test_help_page_is_what_help_prints(program: Program) -> None:
    for names in ([], ["generate"], ["models"], ["models", "pull"], ["config"]):
        assert program(*names, "--help").stdout.decode() == help_page(*names) + "\n"


def test_help_is_no_wider_than_a_terminal() -> None:
    for names in ([], *([name] for name in COMMANDS)):
        assert max(map(len, help_page(*names).splitlines())) <= 80
