"""The options of ``bigcode train here``."""

from dataclasses import dataclass
from typing import Annotated

import typer

from bigcode_cli.cli.params import Device, ModelName, Offline, Revision, Threads
from bigcode_cli.errors import UsageError

FILES, PLAN = "Files", "Plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class HereFlags:
    """What is learned from, for how long, and what it is to be called."""

    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="What --model is to know the result by.",
            show_default="the folder's, and -tuned",
            rich_help_panel=PLAN,
        ),
    ] = None
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a saved model of that name.", rich_help_panel=PLAN),
    ] = False
    glob: Annotated[
        list[str] | None,
        typer.Option(
            "--glob",
            metavar="PATTERN",
            help="Files to learn from, by their names in FOLDER (repeatable).",
            show_default="*.py",
            rich_help_panel=FILES,
        ),
    ] = None
    holes: Annotated[
        int,
        typer.Option(
            "--holes",
            metavar="N",
            min=0,
            help="Lines of the held-out files to fill in before and after.",
            rich_help_panel=FILES,
        ),
    ] = 20
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes",
            metavar="M",
            help="How long all of it may take, about.",
            rich_help_panel=PLAN,
        ),
    ] = 9.0
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of all that is drawn.", rich_help_panel=PLAN)
    ] = 0

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: there is no time.
        """
        if not self.minutes > 0:
            raise UsageError(f"--minutes must be above 0, not {self.minutes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HereModelFlags:
    """What is tuned, and where."""

    model: ModelName = "mini"
    revision: Revision = None
    offline: Offline = False
    device: Device = "auto"
    threads: Threads = None
