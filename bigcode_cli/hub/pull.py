"""Bring a model from the Hub into the Hugging Face cache."""

from bigcode_cli.errors import ModelOfflineError
from bigcode_cli.hub import cache
from bigcode_cli.hub.contents import check_complete
from bigcode_cli.records import ModelFolder, Reporter


def pull(repo: str, *, revision: str | None, offline: bool, report: Reporter) -> ModelFolder:
    """Download what a model needs and is not in the cache yet."""
    raise ModelOfflineError(f"model {repo} is not on this machine")
