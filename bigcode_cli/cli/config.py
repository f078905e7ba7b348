"""``bigcode config``: the settings in force, and where each comes from."""

import typer

app = typer.Typer(add_completion=False)


@app.command()
def config() -> None:
    """Show the settings in force and where each comes from."""
