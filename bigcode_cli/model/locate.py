"""From what ``from_pretrained`` is given to a folder, by whoever knows where models lie.

Finding and fetching models is the hub's work, which stands above this room; the package installs
its finder here when it is imported.
"""

from pathlib import Path
from typing import Protocol

from bigcode_cli.errors import ModelNotFoundError, UsageError


class Finder(Protocol):
    """Knows the folder of a model by its name, and fetches it where need be."""

    def __call__(
        self, name: str, *, revision: str | None, local_files_only: bool, config_only: bool
    ) -> Path:
        """See :func:`locate`."""


_find: Finder | None = None


def set_finder(find: Finder | None) -> Finder | None:
    """Install what turns names into folders.

    Returns:
        The finder that was installed before.
    """
    global _find
    before, _find = _find, find
    return before


def locate(
    name: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    config_only: bool = False,
) -> Path:
    """The folder of a model.

    Args:
        name: a folder; or, as a string, whatever the command line takes too: a built-in name, a
            folder, or a Hub id ``owner/name``.
        revision: branch, tag or commit of a model on the Hub.
        local_files_only: never use the network.
        config_only: of a model on the Hub, its ``config.json`` is enough.

    Raises:
        ModelNotFoundError: there is no such folder, or nobody knows the name.
        ModelError: another of its leaves: gated, offline, incomplete, corrupt …
        UsageError: a revision that is none, or one for a model that is not on the Hub.
    """
    if isinstance(name, str):
        if _find is None:
            raise ModelNotFoundError(f"no finder of models is installed to look for {name!r}")
        return _find(
            name,
            revision=revision,
            local_files_only=local_files_only,
            config_only=config_only,
        )
    if revision is not None:
        raise UsageError(f"a revision is for models on the Hub, and {str(name)!r} is a folder")
    if not name.is_dir():
        raise ModelNotFoundError(f"no model folder {str(name)!r}")
    return name
