"""The heads that come with the package: models that classify, each for one task."""

from bigcode_cli.errors import ModelError, ModelNotFoundError
from bigcode_cli.hub import resolve
from bigcode_cli.model.config import CONFIG_NAME
from bigcode_cli.model.files import read_json
from bigcode_cli.records import ModelFolder, Silence

_CLASSES = ("ForSequenceClassification", "ForTokenClassification")


def list_tasks() -> tuple[str, ...]:
    """The names of the built-in folders whose configuration names a classifier, sorted."""
    folders = sorted(path for path in resolve.BUILTIN_FOLDER.iterdir() if path.is_dir())
    names = []
    for folder in folders:
        try:
            classes = read_json(folder, CONFIG_NAME).get("architectures")
        except ModelError:
            continue
        if isinstance(classes, list) and any(str(name).endswith(_CLASSES) for name in classes):
            names.append(folder.name)
    return tuple(names)


def find_task(name: str) -> ModelFolder:
    """The built-in head for a task.

    Raises:
        ModelNotFoundError: there is none of that name; the hint tells which there are.
        ModelIncompleteError: a file of it is missing.
        ModelCorruptError: it stands on another model than the one that comes with the package.
    """
    tasks = list_tasks()
    if name not in tasks:
        hint = (
            f"built-in heads: {', '.join(tasks)}"
            if tasks
            else "no head is built in; name a model that has one with --model"
        )
        raise ModelNotFoundError(f"unknown task {name!r}", hint)
    folder = resolve.BUILTIN_FOLDER / name
    return resolve.open_folder(name, folder, hint=resolve.REINSTALL, report=Silence())
