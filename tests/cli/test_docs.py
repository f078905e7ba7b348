from bigcode_cli.cli.app import COMMANDS
from bigcode_cli.cli.docs import BLOCK, fill_blocks, help_page
from tests.cli.running import ROOT, Program

README = ROOT / "README.md"


def test_help_blocks_of_the_readme_are_current() -> None:
    text = README.read_text(encoding="utf-8")
    assert fill_blocks(text) == text, "run: python -m bigcode_cli.cli.docs"


def test_readme_shows_every_commands_help() -> None:
    shown = {block["command"].strip() for block in BLOCK.finditer(README.read_text("utf-8"))}
    assert {"", *COMMANDS} <= shown


def test_help_page_is_what_help_prints(program: Program) -> None:
    for names in ([], ["generate"], ["models"], ["models", "pull"], ["config"]):
        assert program(*names, "--help").stdout.decode() == help_page(*names) + "\n"


def test_help_is_no_wider_than_a_terminal() -> None:
    for names in ([], *([name] for name in COMMANDS)):
        assert max(map(len, help_page(*names).splitlines())) <= 80
