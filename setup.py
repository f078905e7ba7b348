"""Compiles the native engine while the package is built; all else stands in ``pyproject.toml``.

Without a C++ compiler the package is built without the engine, and works in PyTorch alone.
"""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

NATIVE = Path("bigcode_cli/kernels/native")


def load_build() -> ModuleType:
    """``build.py`` of the engine by its path: the package's dependencies are not here yet."""
    spec = importlib.util.spec_from_file_location("build_engine", Path.cwd() / NATIVE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildEngine(build_ext):
    """Has ``build.py`` compile the engine, which is a plain library and no module of Python's."""

    def get_ext_filename(self, fullname: str) -> str:
        """The name that the package loads it by."""
        return str(Path(*fullname.split(".")[:-1], load_build().NAME))

    def build_extension(self, ext: Extension) -> None:
        """Compile it; as it is optional, setuptools goes on without it where that fails.

        Raises:
            CompileError: it cannot be compiled here.
        """
        out = Path(self.get_ext_fullpath(ext.name))
        # One that was built from older sources would be refused.
        out.unlink(missing_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            load_build().build(out)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(f"the native engine is left out: {error}") from error


setup(
    ext_modules=[
        Extension(
            "bigcode_cli.kernels.native.engine",
            sources=sorted(map(str, NATIVE.glob("*.cpp"))),
            depends=sorted(map(str, NATIVE.glob("*.h"))),
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildEngine},
)
