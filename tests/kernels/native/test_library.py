"""The border between Python and C++, and what the sources promise about themselves."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from bigcode_cli.kernels.native.build import SOURCES, compiler, flags_of
from bigcode_cli.kernels.native.library import (
    Geometry,
    Layer,
    Matrix,
    Sampling,
    instructions,
    library,
)
from tests.kernels.native.models import sets_here

STRUCTURES = (Geometry, Matrix, Layer, Sampling)


def test_structures_are_as_large_on_both_sides() -> None:
    sizes = (ctypes.c_int32 * 4)()
    library().bigcode_sizes(sizes)
    assert list(sizes) == [ctypes.sizeof(structure) for structure in STRUCTURES]


def test_the_best_instruction_set_is_taken() -> None:
    assert instructions() == sets_here()[0]
    assert sets_here()[-1] == "portable"
    assert instructions("mmx") is None


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.cpp")), ids=lambda path: path.stem)
def test_compilers_have_nothing_to_say(source: Path) -> None:
    if shutil.which(compiler()[0]) is None:
        pytest.skip("there is no compiler")
    flags = [*flags_of(source), "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    call = [*compiler(), *flags, str(source)]
    run = subprocess.run(call, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
