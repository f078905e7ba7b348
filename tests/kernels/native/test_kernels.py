"""Kernels and threads by themselves, in C++ programs of this folder."""

import platform
import subprocess
import sys

import pytest

from bigcode_cli.kernels.native.build import NAME, SOURCES
from tests.kernels.native.conftest import Compile
from tests.kernels.native.models import SANITIZED, sets_here


def test_every_kernel_is_its_loop_and_touches_nothing_else(compiled: Compile) -> None:
    """See ``compare.cpp``: memory ends where its page ends."""
    engine = SOURCES / NAME
    program = compiled(
        "compare.cpp", "-O1", "-Wall", "-Wextra", str(engine), f"-Wl,-rpath,{SOURCES}"
    )
    run = subprocess.run([program], check=False, capture_output=True, text=True)
    *told, summary = run.stdout.splitlines() or [f"ended with {run.returncode}"]
    assert (told, summary, run.returncode) == (sets_here(), "0 broken", 0), run.stderr


def test_every_piece_is_done_once_by_one_thread_at_a_time(compiled: Compile) -> None:
    """See ``threads.cpp``."""
    program = compiled("threads.cpp", "-O2", "-Wall", "-Wextra", str(SOURCES / "pool.cpp"))
    run = subprocess.run([program], check=False, capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.returncode) == ("0 broken\n", 0), run.stderr


@pytest.mark.skipif(SANITIZED, reason="of two sanitizers in one process neither works")
@pytest.mark.skipif(sys.platform != "linux", reason="needs setarch")
def test_threads_race_for_nothing(compiled: Compile) -> None:
    """The same under the thread sanitizer, which ends a program that has a data race with 66."""
    flags = ("-O1", "-fsanitize=thread", str(SOURCES / "pool.cpp"))
    try:
        program = compiled("threads.cpp", *flags)
    except subprocess.CalledProcessError:
        pytest.skip("this compiler has no thread sanitizer")
    # It needs its addresses where it expects them.
    call = ["setarch", platform.machine(), "-R", str(program), "few"]
    run = subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.returncode) == ("0 broken\n", 0), run.stderr[-3000:]
