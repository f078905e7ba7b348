"""The heads that come with the package: small, documented, and on the model that comes with it."""

from pathlib import Path

from bigcode_cli.cli.classify_flags import TASKS
from bigcode_cli.hub.heads import find_task
from bigcode_cli.hub.tasks import BUILTIN_FOLDER, list_tasks

MOST_BYTES = 2_000_000


def test_each_head_stands_on_the_model_that_comes_with_it() -> None:
    for task in list_tasks():
        folder = find_task(task)
        assert folder.base == BUILTIN_FOLDER / "mini"
        assert folder.licence == "apache-2.0"


def test_each_head_is_small_and_says_how_it_was_made() -> None:
    for task in list_tasks():
        files = list((BUILTIN_FOLDER / task).iterdir())
        assert sum(path.stat().st_size for path in files) <= MOST_BYTES
        assert "MODEL_CARD.md" in {path.name for path in files}


def test_help_names_each_head() -> None:
    assert list_tasks() == TASKS
    readme = Path(__file__).parents[2] / "README.md"
    for task in TASKS:
        assert task in readme.read_text("utf-8")
