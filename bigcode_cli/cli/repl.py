"""``bigcode repl``: flags → session → desk → screen."""

import os
import sys
from typing import TYPE_CHECKING

import typer

from bigcode_cli.cli.decoding_flags import LimitFlags, SamplingFlags
from bigcode_cli.cli.inputs import check_encoding
from bigcode_cli.cli.loading import open_session
from bigcode_cli.cli.params import Debug, Encoding, ModelFlags, Quiet, spread
from bigcode_cli.cli.render import TerminalReporter, is_terminal, wants_colour
from bigcode_cli.cli.repl_model import Model, Options
from bigcode_cli.errors import UsageError

if TYPE_CHECKING:
    from bigcode_cli.engine.session import Session

EXAMPLES = """\b
Examples:
  bigcode repl
  bigcode repl -m bigcode/starcoderbase-1b -t 0.2 -n 64

Tab completes at the cursor: the middle where code follows, else what comes
next. What the model proposes is shown in grey; Right or Tab takes it, Escape
or typing on dismisses it, Ctrl-C stops the model. Before a line's first
character Tab indents, Shift-Tab takes indentation back.

Enter begins a new line; nothing is ever run. A slash on a blank line, or
Ctrl-O anywhere, gives a command: /set temperature 0.2, /save FILE, /help.
Ctrl-D leaves when there is no code, /quit always.

Code that was left is kept in ~/.local/state/bigcode (XDG_STATE_HOME), and
Ctrl-Up brings it back.
"""

app = typer.Typer(add_completion=False)


@app.command(epilog=EXAMPLES)
@spread
def repl(
    *,
    encoding: Encoding = "utf-8",
    sampling: SamplingFlags,
    limits: LimitFlags,
    quiet: Quiet = False,
    debug: Debug = False,
    model: ModelFlags,
) -> None:
    """Write code at a prompt where the model completes it live."""
    check_encoding(encoding)
    _require_terminal()
    options = Options(
        sampling=sampling.sampling_options(),
        max_new_tokens=limits.max_new_tokens,
        stop_texts=tuple(limits.stop or ()),
    )
    options.question("x", "")  # which refuses what makes no sense, before the model is waited for
    with TerminalReporter(quiet) as report:
        session = open_session(model, report)
    _run(session, model, options, encoding=encoding, quiet=quiet, debug=debug)


def _require_terminal() -> None:
    if is_terminal(sys.stdin) and is_terminal(sys.stdout):
        if os.environ.get("TERM") == "dumb":
            raise UsageError("the terminal cannot move its cursor (TERM=dumb)")
        return
    raise UsageError(
        "the repl needs a terminal to type at and to draw on",
        "bigcode generate and bigcode infill work in pipes",
    )


def _run(
    session: "Session",
    flags: ModelFlags,
    options: Options,
    *,
    encoding: str,
    quiet: bool,
    debug: bool,
) -> None:
    from prompt_toolkit.patch_stdout import patch_stdout

    from bigcode_cli.cli.repl_desk import Desk
    from bigcode_cli.cli.repl_screen import application, run

    desk = Desk(options, encoding=encoding, quiet=quiet, debug=debug)
    desk.bind(application(desk, colour=wants_colour(sys.stdout)), Model(session, flags, desk.post))
    try:
        with patch_stdout():  # warnings of libraries appear above the code, not in its midst
            run(desk.app)
    finally:
        with TerminalReporter(quiet) as report:
            report.progress("waiting for the model to stop", 0, None, "")
            desk.close()
