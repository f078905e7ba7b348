"""On a real pseudo-terminal, and interrupted like one."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bigcode_cli.engine.session import Session
from bigcode_cli.text.holes import MARKER
from bigcode_cli.text.terminal import escape_control
from tests.cli.infilling import best, text_filled_with
from tests.cli.running import Program, command, environment
from tests.cli.test_terminal import DEADLINE_S, on_terminal

BUDGET = 4000
KNOWN = 600
"""Tokens of a middle that are known to come."""


def test_middle_is_shown_as_it_grows_escaped_and_ends_its_line(
    model_folder: Path, session: Session
) -> None:
    text = text_filled_with(session, lambda middle: "\x1b" in middle or "\x00" in middle)
    Path("x").write_text(text)
    code, shown, stderr = on_terminal("infill", "-m", model_folder, "-n", 20, "x:2")
    before, after = text.split("\n")[:2], text.split("\n")[2]
    middle = best(session, "\n".join(before), f"\n{after}")
    assert shown == escape_control(middle).removesuffix("\n") + "\n"
    assert (code, stderr) == (0, b"")


def test_what_is_told_stands_on_lines_of_its_own(program: Program, model_folder: Path) -> None:
    Path("x").write_text(f"a{MARKER}b\n\nc{MARKER}")
    result = program(
        "infill", "-m", model_folder, "-n", 5, "x", "--stats", "--explain",
        stdout_terminal=True, stderr_terminal=True,
    )  # fmt: skip
    lines = result.stderr.splitlines()
    for start in ("==> x:1 <==", "==> x:3 <==", "x:1: prompt", "x:3: output", "prompt of x:1:"):
        assert sum(line.startswith(start) for line in lines) == 1, start
    assert "\x1b" not in result.stdout.decode()


@pytest.fixture(scope="module")
def endless(session: Session) -> tuple[str, str]:
    """A text, and the beginning of what goes on and on at its line 2."""
    asked: dict[str, Any] = {"max_new_tokens": KNOWN, "path": "x.txt"}
    text = text_filled_with(session, lambda middle: len(middle) > KNOWN, **asked)
    before, _, after = text.rpartition("\n")
    return text, best(session, before, f"\n{after}", **asked)


class TestInterrupt:
    @pytest.fixture
    def middle(self, endless: tuple[str, str]) -> str:
        """How the middle begins that goes on and on at line 2 of a file."""
        Path("x.txt").write_text(endless[0])
        return endless[1]

    @contextmanager
    def started(self, folder: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
        """The program when its prompt is made."""
        args = command("infill", "-m", folder, "-n", BUDGET, "--explain", "x.txt:2", *flags)
        with subprocess.Popen(
            args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        ) as process:
            assert process.stderr is not None
            while b"that the model takes" not in process.stderr.readline():
                assert process.poll() is None
            yield process

    def interrupted(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 130
        return stdout, stderr

    def test_middle_so_far_stays_printed_and_the_file_as_it_was(
        self, model_folder: Path, middle: str
    ) -> None:
        before = Path("x.txt").read_bytes()
        with self.started(model_folder, "-w", "--print", "middle") as process:
            assert process.stdout is not None
            shown = process.stdout.read(8)
            rest, stderr = self.interrupted(process)
        shown += rest
        known = min(len(shown), len(middle.encode()))
        assert shown[:known] == middle.encode()[:known]
        assert stderr == b"note: broken off: x.txt is as it was\n"
        assert Path("x.txt").read_bytes() == before
        assert [path.name for path in Path().iterdir()] == ["x.txt"]

    @pytest.mark.usefixtures("middle")
    def test_json_says_so_and_nothing_is_written_or_printed_by_halves(
        self, model_folder: Path
    ) -> None:
        before = Path("x.txt").read_bytes()
        with self.started(model_folder, "-w", "--json", "--print", "diff") as process:
            time.sleep(1)  # nothing tells from outside when the first token is there
            done = json.loads(self.interrupted(process)[0])
        assert done["finish_reason"] == "interrupted"
        assert "diff" not in done
        assert Path("x.txt").read_bytes() == before
        assert [path.name for path in Path().iterdir()] == ["x.txt"]
