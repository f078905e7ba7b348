import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from bigcode_cli import __version__
from bigcode_cli.cli import generate
from bigcode_cli.cli.app import COMMANDS, LazyCommand, app
from bigcode_cli.cli.help import first_sentence
from bigcode_cli.errors import ModelOfflineError
from tests.cli.running import Program, command, environment, run_process

HEAVY = ("torch", "tokenizers", "huggingface_hub", "safetensors", "prompt_toolkit", "rich")
HELP_CPU_S = 0.4


def test_help_imports_nothing_heavy() -> None:
    check = (
        "import sys\nfrom bigcode_cli.cli.app import run\n"
        f"assert run(['--help']) == 0\nsys.exit([m for m in {HEAVY} if m in sys.modules] or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], env=environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Usage: bigcode")


def test_completion_imports_nothing_heavy() -> None:
    asked = {"_BIGCODE_COMPLETE": "complete_bash", "COMP_WORDS": "bigcode generate --stop"}
    check = (
        "import sys, atexit\nfrom bigcode_cli.cli.app import main\n"
        f"atexit.register(lambda: print([m for m in {HEAVY[:5]} if m in sys.modules]))\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        env=environment(**asked, COMP_CWORD="2"),
        capture_output=True,
        check=False,
    )
    assert done.stdout.split() == [b"--stop", b"--stop-at", b"[]"]


def test_help_is_there_at_once() -> None:
    spent = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run_process(["--help"]).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(spent) < HELP_CPU_S


def test_program_prints_its_version(program: Program) -> None:
    result = program("--version")
    assert (result.code, result.stdout) == (0, f"bigcode {__version__}\n".encode())


def test_summaries_are_the_commands_own_words() -> None:
    group = get_command(app)
    for name, lazy in group.commands.items():  # type: ignore[attr-defined]
        assert isinstance(lazy, LazyCommand)
        assert first_sentence(lazy.load().help) == COMMANDS[name], name


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["nonsense"], "no such command 'nonsense'"),
        (["generate", "--nonsense"], "no such option: --nonsense"),
        (["generate", "a", "b"], "got unexpected extra argument(s) (b)"),
        (["generate", "-n"], "option '-n' requires an argument"),
        (["generate", "-n", "many", "x"], "invalid value for '--max-new-tokens'"),
        (["generate", "--stop-at", "lunch", "x"], "invalid value for '--stop-at'"),
        (["models", "nonsense"], "no such command 'nonsense'"),
    ],
)
def test_usage_error_is_one_line_and_a_hint(program: Program, args: list[str], error: str) -> None:
    result = program(*args)
    lines = result.stderr.splitlines()
    assert (result.code, result.stdout, len(lines)) == (2, b"", 2)
    assert lines[0].startswith(f"error: {error}")
    assert lines[1].startswith("hint: bigcode ")


def test_no_command_shows_the_help_on_stderr(program: Program) -> None:
    result = program()
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith("Usage: bigcode")


class TestBoundary:
    @pytest.fixture
    def raising(self, monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
        """A list whose one error ``generate`` raises where it would load the model."""
        errors: list[BaseException] = []

        def fail(*_: object) -> None:
            raise errors[0]

        monkeypatch.setattr(generate, "open_session", fail)
        return errors

    def test_own_error_gives_its_line_hint_and_code(
        self, program: Program, raising: list[BaseException]
    ) -> None:
        raising.append(ModelOfflineError("no\nnetwork \x1b[2J", "look outside"))
        result = program("generate", "x")
        assert (result.code, result.stdout) == (3, b"")
        assert result.stderr == "error: no network \\x1b[2J\nhint: look outside\n"

    def test_bug_is_one_line_without_a_traceback(
        self, program: Program, raising: list[BaseException]
    ) -> None:
        raising.append(ZeroDivisionError("oops"))
        result = program("generate", "x")
        assert result.code == 1
        assert result.stderr.startswith("error: internal error: ZeroDivisionError: oops\nhint: ")
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize("debug", ["option", "environment"])
    def test_debug_shows_the_traceback(
        self,
        program: Program,
        raising: list[BaseException],
        monkeypatch: pytest.MonkeyPatch,
        debug: str,
    ) -> None:
        raising.append(ZeroDivisionError("oops"))
        if debug == "environment":
            monkeypatch.setenv("BIGCODE_DEBUG", "1")
        result = program("generate", "x", *(["--debug"] if debug == "option" else []))
        assert result.code == 1
        assert result.stderr.startswith("Traceback")
        assert "error: internal error: ZeroDivisionError" in result.stderr

    def test_prompt_that_reads_debug_is_no_option(
        self, program: Program, raising: list[BaseException]
    ) -> None:
        raising.append(ZeroDivisionError())
        assert "Traceback" not in program("generate", "--", "--debug").stderr

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_interrupt_ends_with_130_and_says_nothing(
        self, program: Program, raising: list[BaseException], wrapped: bool
    ) -> None:
        error: BaseException = KeyboardInterrupt()
        if wrapped:  # as some extension modules do while they are imported
            error = ImportError("broken off")
            error.__cause__ = KeyboardInterrupt()
        raising.append(error)
        result = program("generate", "x")
        assert (result.code, result.stdout, result.stderr) == (130, b"", "")

    def test_out_of_memory_is_no_bug(self, program: Program, raising: list[BaseException]) -> None:
        raising.append(MemoryError())
        result = program("generate", "x")
        assert result.code == 1
        assert result.stderr.startswith("error: out of memory\nhint: ")


def test_colour_of_errors_obeys_the_terminal_and_no_color(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[" in program("nonsense", stderr_terminal=True).stderr
    assert "\x1b[" not in program("nonsense").stderr
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in program("nonsense", stderr_terminal=True).stderr


def test_colour_of_help_obeys_the_terminal_and_no_color(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = program("generate", "--help").stdout
    shown = program("generate", "--help", stdout_terminal=True).stdout
    assert b"\x1b[1mSampling\x1b[0m:" in shown
    assert shown.replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b"") == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert program("generate", "--help", stdout_terminal=True).stdout == plain


@pytest.mark.parametrize("args", [["--help"], ["config"], ["--version"]])
def test_full_disk_behind_stdout_is_one_line(args: list[str]) -> None:
    if not Path("/dev/full").exists():
        assert os.name == "nt"
        return
    with Path("/dev/full").open("wb") as full:
        done = run_process(args, stdout=full)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"No space left on device" in done.stderr


def test_closed_pipe_ends_quietly() -> None:
    with subprocess.Popen(
        command("generate", "--help"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 0)
