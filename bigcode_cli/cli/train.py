"""``bigcode train``: models of one's own."""

import typer

from bigcode_cli.cli import train_head, train_here, train_lm

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def train() -> None:
    """Train models of your own."""


app.command(epilog=train_lm.EXAMPLES)(train_lm.lm)
app.command(epilog=train_here.EXAMPLES)(train_here.here)
app.command(epilog=train_head.EXAMPLES)(train_head.head)
