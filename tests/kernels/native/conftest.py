"""What needs the compiled engine is skipped where it was not built."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bigcode_cli.kernels.native.build import SOURCES, compiler
from bigcode_cli.kernels.native.library import is_built

HERE = Path(__file__).parent

Compile = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if is_built():
        return
    reason = "the engine is not built: python -m bigcode_cli.kernels.native.build"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compiles a program of this folder with some sources or libraries, and says where it is."""
    if shutil.which(compiler()[0]) is None:
        pytest.skip("there is no compiler")
    folder = tmp_path_factory.mktemp("programs")

    def program(source: str, *with_these: str) -> Path:
        target = folder / Path(source).stem
        flags = ["-std=c++17", "-g", f"-I{SOURCES}", "-pthread"]
        call = [*compiler(), *flags, str(HERE / source), *with_these, "-o", str(target)]
        subprocess.run(call, check=True)
        return target

    return program
