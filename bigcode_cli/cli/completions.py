"""Shell completions, made from the app: ``python -m bigcode_cli.cli.completions [FOLDER]``.

The scripts ask the program itself what may come next, so they are current whatever it can do.
"""

import sys
from pathlib import Path

from bigcode_cli.cli.app import COMPLETE_VARIABLE, PROGRAM

FILES = {
    "bash": f"{PROGRAM}.bash",
    "zsh": f"_{PROGRAM}",
    "fish": f"{PROGRAM}.fish",
    "powershell": f"{PROGRAM}.ps1",
}
"""Each shell's file, named as the shell looks for it."""


def completion_script(shell: str) -> str:
    """The script that a shell reads."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    script = get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=shell)
    return f"{script}\n"


def main(folder: Path) -> None:
    """Write all scripts into a folder."""
    folder.mkdir(exist_ok=True)
    for shell, name in FILES.items():
        (folder / name).write_text(completion_script(shell), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "completions"))
