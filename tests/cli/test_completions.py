import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bigcode_cli.cli.completions import FILES, completion_script
from tests.cli.running import ROOT, environment


@pytest.mark.parametrize("shell", FILES)
def test_script_is_current(shell: str) -> None:
    script = (ROOT / "completions" / FILES[shell]).read_text(encoding="utf-8")
    assert script == completion_script(shell), "run: python -m bigcode_cli.cli.completions"


def test_every_script_has_a_test() -> None:
    assert sorted(path.name for path in (ROOT / "completions").iterdir()) == sorted(FILES.values())


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("bigcode ge", "generate"),
        ("bigcode models p", "pull path"),
        ("bigcode generate --max", "--max-new-tokens --max-tokens"),
        ("bigcode generate --stop-at l", "line"),
        ("bigcode generate --dtype b", "bfloat16"),
        ("bigcode infill --print d", "diff"),
        ("bigcode generate -f some", ""),
    ],
)
def test_bash_completes(tmp_path: Path, typed: str, expected: str) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    program = tmp_path / "bigcode"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bigcode_cli "$@"\n')
    program.chmod(0o755)
    words = typed.split()
    check = (
        f"source {ROOT / 'completions' / 'bigcode.bash'}; COMP_WORDS=({typed}); "
        f'COMP_CWORD={len(words) - 1}; _bigcode_completion bigcode; echo "${{COMPREPLY[@]}}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", check],
        env=environment(PATH=path), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == (expected, "")
