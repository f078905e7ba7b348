"""The options of ``bigcode train lm``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from bigcode_cli.cli.params import Device, Offline, Revision

DATA, PLAN = "Data", "Plan"
Split = Literal["package", "file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFlags:
    """What is learned from."""

    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Installed packages, one package, a folder of packages, a file, or a quoted "
            "pattern of any (repeatable).",
            rich_help_panel=DATA,
        ),
    ] = None
    jsonl: Annotated[
        list[Path] | None,
        typer.Option(
            "--jsonl",
            metavar="FILE",
            help='Lines of {"text"}, also "path", "package" and "licence"; may be .gz '
            "(repeatable).",
            rich_help_panel=DATA,
        ),
    ] = None
    glob: Annotated[
        list[str] | None,
        typer.Option(
            "--glob",
            metavar="PATTERN",
            help="Files to take from folders, such as '*.js' or 'src/**/*.ts' (repeatable).",
            show_default="*.py",
            rich_help_panel=DATA,
        ),
    ] = None
    any_licence: Annotated[
        bool,
        typer.Option(
            "--any-licence",
            help="Your own code: also take what has no permissive licence, whatever its name.",
            rich_help_panel=DATA,
        ),
    ] = False
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="PACKAGE",
            help="Leave a package out, beside the held-out ones (repeatable).",
            rich_help_panel=DATA,
        ),
    ] = None
    exclude_like: Annotated[
        list[Path] | None,
        typer.Option(
            "--exclude-like",
            metavar="DIR",
            help="Leave out files that share text with those in DIR (repeatable).",
            rich_help_panel=DATA,
        ),
    ] = None
    keep_near_duplicates: Annotated[
        bool,
        typer.Option(
            "--keep-near-duplicates",
            help="Leave out only what is the same but for white space.",
            rich_help_panel=DATA,
        ),
    ] = False
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            metavar="SHARE",
            help="Learn nothing from this share of the data, and report bits per byte on it.",
            rich_help_panel=DATA,
        ),
    ] = None
    split: Annotated[
        Split | None,
        typer.Option(
            "--split",
            help="What --hold-out keeps on one side: whole packages, or only files.",
            show_default="package",
            rich_help_panel=DATA,
        ),
    ] = None
    validate: Annotated[
        Path | None,
        typer.Option(
            "--validate",
            metavar="DIR",
            help="Report bits per byte on DIR, which holds a folder for each package.",
            rich_help_panel=DATA,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFlags:
    """How long, from where and on what."""

    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from --out's checkpoint.", rich_help_panel=PLAN),
    ] = False
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="MODEL",
            help="Begin with the weights and the tokenizer of a model: mini, folder, or Hub id.",
            rich_help_panel=PLAN,
        ),
    ] = None
    revision: Revision = None
    offline: Offline = False
    fim_rate: Annotated[
        float | None,
        typer.Option(
            "--fim-rate",
            metavar="SHARE",
            help="Of the text that is learned as holes to fill, instead of what the recipe says.",
            rich_help_panel=PLAN,
        ),
    ] = None
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of all that is drawn.", rich_help_panel=PLAN)
    ] = 0
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            metavar="M",
            help="Train for M minutes in all, instead of as long as the recipe says.",
            rich_help_panel=PLAN,
        ),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="Train for N steps in all, instead of as long as the recipe says.",
            rich_help_panel=PLAN,
        ),
    ] = None
    pause_after: Annotated[
        float | None,
        typer.Option(
            "--pause-after",
            metavar="M",
            help="Save and stop M minutes from now, to be resumed.",
            rich_help_panel=PLAN,
        ),
    ] = None
    device: Device = "auto"
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=0,
            help="Processes that prepare text.",
            show_default="one less than there are cores",
            rich_help_panel=PLAN,
        ),
    ] = None
