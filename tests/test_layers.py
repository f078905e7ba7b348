"""The house's directions: who may import whom, and what start-up may not import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bigcode_cli"

# Each room may import the rooms of lower floors; those of one floor are strangers to each other.
FLOORS = [
    {"errors", "git", "homes"},
    {"folders", "records"},
    {"kernels", "model"},
    {"backends", "text"},
    {"engine", "hub"},
    {"bench", "training"},
    {"cli"},
]
HEAVY_OWNERS = {
    "torch": {"backends", "model", "kernels", "training", "bench"},
    "tokenizers": {"text", "training"},
    "safetensors": {"model", "backends", "kernels", "hub", "bench"},
    "huggingface_hub": {"hub"},
    "prompt_toolkit": {"cli"},
    "matplotlib": {"bench"},
    "triton": {"kernels"},
    "transformers": {"bench"},
}
# The protocol is the seam itself: what stands below it imports its records.
SEAMS = {("backends", "bigcode_cli.engine.protocol"), ("kernels", "bigcode_cli.engine.protocol")}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def floor_of(room: str) -> int:
    return next(height for height, rooms in enumerate(FLOORS) if room in rooms)


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward_only(path: Path) -> None:
    room = room_of(path)
    if room in {"__init__", "__main__"}:
        return
    for name in imported(path):
        top, *rest = name.split(".")
        if top != "bigcode_cli" or not rest or rest[0] == "__version__":
            continue
        if rest[0] == room or any(room == r and name.startswith(seam) for r, seam in SEAMS):
            continue
        assert floor_of(rest[0]) < floor_of(room), f"{room} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_by_their_owners_alone(path: Path) -> None:
    for name in imported(path):
        owners = HEAVY_OWNERS.get(name.split(".")[0])
        assert owners is None or room_of(path) in owners, f"{path.name} imports {name}"


def test_model_and_text_are_strangers() -> None:
    for path in MODULES:
        room = room_of(path)
        others = {"model": "bigcode_cli.text", "text": "bigcode_cli.model"}
        if other := others.get(room):
            assert not any(name.startswith(other) for name in imported(path)), path


@pytest.mark.parametrize(
    "statement",
    [
        "import bigcode_cli.engine.session",
        "import bigcode_cli.hub.resolve",
        "import bigcode_cli.model.config",
        "import bigcode_cli.model.tensor_index",
        "import bigcode_cli.cli.app",
    ],
)
def test_these_modules_load_without_torch(statement: str) -> None:
    check = f"import sys; {statement}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_help_imports_no_heavy_library() -> None:
    check = (
        "import sys; sys.argv = ['bigcode', '--help']\n"
        "from bigcode_cli.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print([name for name in {sorted(HEAVY_OWNERS)} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
