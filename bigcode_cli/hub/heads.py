"""The heads that come with the package: models that classify, each for one task."""

from bigcode_cli.errors import ModelNotFoundError
from bigcode_cli.hub import resolve
from bigcode_cli.hub.tasks import list_tasks
from bigcode_cli.records import ModelFolder, Silence


def find_task(name: str) -> ModelFolder:
    """The built-in head for a task.

    Raises:
        ModelNotFoundError: there is none of that name; the hint tells which there are.
        ModelIncompleteError: a file of it is missing.
        ModelCorruptError: it stands on another model than the one that comes with the package.
    """
    tasks = list_tasks(resolve.BUILTIN_FOLDER)
    if name not in tasks:
        hint = (
            f"built-in heads: {', '.join(tasks)}"
            if tasks
            else "no head is built in; name a model that has one with --model"
        )
        raise ModelNotFoundError(f"unknown task {name!r}", hint)
    folder = resolve.BUILTIN_FOLDER / name
    return resolve.open_folder(name, folder, hint=resolve.REINSTALL, report=Silence())
