"""The help and speeds in README.md, made anew: ``python -m bigcode_cli.cli.docs [FILE]``.

What stands between ``<!-- help: models pull -->`` and ``<!-- end help -->`` is what ``bigcode
models pull --help`` prints, 80 columns wide; between ``<!-- speed: tests/benchmarks/speed-*.json
-->`` and ``<!-- end speed -->`` a table of those answers of ``bigcode bench --save``; between
``<!-- guesses: tests/benchmarks/lookup-*.json -->`` and ``<!-- end guesses -->`` one of those that
were asked for with ``--lookup`` or ``--draft``.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from bigcode_cli.cli.app import PROGRAM, LazyCommand, app

WIDTH = 78
"""What a page takes of 80 columns."""
BLOCK = re.compile(r"(<!-- help:(?P<command>[^>]*)-->\n).*?(<!-- end help -->)", re.DOTALL)

TABLES = re.compile(
    r"(<!-- (?P<kind>speed|guesses):(?P<files>[^>]*)-->\n).*?(<!-- end (?P=kind) -->)", re.DOTALL
)


def help_page(*names: str) -> str:
    """What ``bigcode NAMES… --help`` prints, without colour and whatever the settings."""
    program: Any = get_command(app)
    context = program.make_context(
        PROGRAM, [], resilient_parsing=True, terminal_width=WIDTH, color=False
    )
    for name in names:
        command = context.command.commands[name]
        if isinstance(command, LazyCommand):
            command = command.load()
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    page: str = context.command.get_help(context)
    return page


def fill_blocks(text: str) -> str:
    """The text with every help block as it should be."""

    def filled(block: re.Match[str]) -> str:
        names = block["command"].split()
        line = " ".join(["bigcode", *names, "--help"])
        return f"{block[1]}\n```console\n$ {line}\n{help_page(*names)}\n```\n\n{block[3]}"

    return BLOCK.sub(filled, text)


def fill_tables(text: str, folder: Path) -> str:
    """The text with every table of what was measured as it should be.

    Args:
        folder: where the patterns of files begin.
    """

    def filled(block: re.Match[str]) -> str:
        from bigcode_cli.bench.guess_report import guess_markdown
        from bigcode_cli.bench.speed_readme import table

        files = sorted(path for part in block["files"].split() for path in folder.glob(part))
        answers = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        made = guess_markdown(answers) if block["kind"] == "guesses" else table(answers)
        return f"{block[1]}\n{made}\n{block[4]}" if made else f"{block[1]}{block[4]}"

    return TABLES.sub(filled, text)


def main(file: Path) -> None:
    """Bring a file up to date."""
    text = fill_tables(fill_blocks(file.read_text(encoding="utf-8")), file.parent)
    file.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "README.md"))
