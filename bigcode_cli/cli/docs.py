"""The help blocks of README.md, made from the app: ``python -m bigcode_cli.cli.docs [FILE]``.

A block stands between ``<!-- help: models pull -->`` and ``<!-- end help -->`` and holds what
``bigcode models pull --help`` prints, 80 columns wide.
"""

import re
import sys
from pathlib import Path
from typing import Any

from typer.main import get_command

from bigcode_cli.cli.app import PROGRAM, LazyCommand, app

WIDTH = 78
"""What a page takes of 80 columns."""
BLOCK = re.compile(r"(<!-- help:(?P<command>[^>]*)-->\n).*?(<!-- end help -->)", re.DOTALL)


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


def main(file: Path) -> None:
    """Bring the help blocks of a file up to date."""
    file.write_text(fill_blocks(file.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "README.md"))
