"""From the model flags to a loaded model, with something to look at meanwhile."""

from typing import TYPE_CHECKING

from bigcode_cli.cli.decoding_flags import SpeculationFlags
from bigcode_cli.cli.params import ModelFlags
from bigcode_cli.records import Reporter

if TYPE_CHECKING:
    from bigcode_cli.engine.session import Session


def open_session(
    flags: ModelFlags, report: Reporter, speculation: SpeculationFlags | None = None
) -> "Session":
    """Resolve the model's name, and its draft's if there is one, and load them.

    Raises:
        ModelError: it is not to be had.
        UsageError: a flag makes no sense.
    """
    options = flags.load_options()
    label = f"loading {flags.model}"
    report.progress(label, 0, None, "")  # the imports below are what takes long
    from bigcode_cli.engine.session import Session
    from bigcode_cli.hub.resolve import resolve

    folder = resolve(flags.model, revision=flags.revision, offline=flags.offline, report=report)
    draft, lookup = None, False
    if speculation is not None:
        lookup = speculation.lookup
        if speculation.draft is not None:
            draft = resolve(speculation.draft, offline=flags.offline, report=report)
    session = Session.open(folder, options, report=report, lookup=lookup, draft=draft)
    report.progress(label, 1, 1, "")
    return session
