"""On a real pseudo-terminal, and interrupted like one."""

import json
import os
import pty
import signal
import subprocess
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from bigcode_cli.cli.app import run
from bigcode_cli.cli.output import TerminalAnswer
from bigcode_cli.engine.session import Session
from bigcode_cli.text.terminal import escape_control
from tests.cli.conftest import N_POSITIONS
from tests.cli.running import Program, Stream, command, environment
from tests.cli.test_generate import PROMPT, complete

DEADLINE_S = 120
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}


def read_all(leader: int) -> bytes:
    """Everything that a terminal shows until its other end is closed."""
    shown = b""
    try:
        while chunk := os.read(leader, 4096):
            shown += chunk
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(leader)
    return shown


def on_terminal(*args: object, **changes: str) -> tuple[int, str, bytes]:
    """Exit code, what a terminal shows of stdout, and stderr as a file."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        command(*args), stdin=subprocess.DEVNULL, stdout=follower, stderr=subprocess.PIPE,
        env=environment(**changes),
    ) as process:  # fmt: skip
        os.close(follower)
        shown = read_all(leader).decode().replace("\r\n", "\n")
        assert process.stderr is not None
        return process.wait(DEADLINE_S), shown, process.stderr.read()


def test_stream_is_escaped_uncoloured_and_ends_its_line(
    model_folder: Path, session: Session
) -> None:
    code, shown, stderr = on_terminal("generate", "-m", model_folder, "-n", 300, PROMPT, "--echo")
    text = complete(session, max_new_tokens=300)[0].text
    assert CONTROLS & set(text), "the model should try"
    assert not CONTROLS & set(shown)
    assert shown == escape_control(PROMPT + text).removesuffix("\n") + "\n"
    assert (code, stderr) == (0, b"")


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["a"], "a\n"),
        (["a\n"], "a\n"),
        (["a\n", "\n"], "a\n\n"),
        (["a", "\r"], "a\\x0d\n"),
        (["a\r", "\n"], "a\r\n"),
        ([], ""),
    ],
)
def test_last_newline_is_added_only_if_missing(
    monkeypatch: pytest.MonkeyPatch, pieces: list[str], shown: str
) -> None:
    stdout = Stream(terminal=True)
    monkeypatch.setattr("sys.stdout", stdout)
    with TerminalAnswer() as answer:
        for piece in pieces:
            answer.write(piece)
    assert stdout.bytes.getvalue().decode() == shown


def test_markup_tabs_and_long_lines_are_left_alone(program: Program, model_folder: Path) -> None:
    prompt = "[bold]:smile:\thttp://a.b 'text' 123\r\n" + "x" * 300 + "  \n\n\t"
    args = ("generate", "-m", model_folder, "-n", 1, "--echo", prompt)
    assert program(*args, stdout_terminal=True).stdout.decode().startswith(prompt)


def test_several_outputs_are_set_off_by_a_blank_line(program: Program, model_folder: Path) -> None:
    args = ("generate", "-m", model_folder, "-n", 5, "--num-samples", 3, "--seed", 1, "x")
    shown = program(*args, stdout_terminal=True).stdout.decode()
    assert shown == escape_control(program(*args).stdout.decode()).removesuffix("\n") + "\n"


def test_what_goes_to_stderr_stands_on_lines_of_its_own(model_folder: Path) -> None:
    lines = [json.dumps({"prompt": prompt}) for prompt in ("x", "x " * N_POSITIONS, "def")]
    Path("p").write_text("\n".join(lines))
    both = Stream(terminal=True)
    with redirect_stdout(both), redirect_stderr(both):
        code = run(["generate", "-m", str(model_folder), "-n", "3", "--stats", "--jsonl", "p"])
        both.flush()
    assert code == 1
    shown = both.bytes.getvalue().decode().splitlines()
    for start in ("==> p:1 <==", "p:1: prompt", "p:1: output", "==> p:3 <==", "p:3: prompt"):
        assert sum(line.startswith(start) for line in shown) == 1, start
    assert sum(line.removeprefix("\x1b[1;31m").startswith("error:") for line in shown) == 1


def test_no_input_at_a_terminal_is_a_usage_error(program: Program) -> None:
    result = program("generate", stdin=None)
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr.startswith("error: no prompt\nhint: ")


class TestInterrupt:
    def test_during_load(self, model_folder: Path) -> None:
        asked = command("generate", "-m", model_folder, "--backend", "torch", "x")
        args = ["-X", "importtime", *asked[1:]]
        with subprocess.Popen(
            [command()[0], *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment(),
        ) as process:  # fmt: skip
            assert process.stderr is not None
            assert process.stdout is not None
            while b"torch." not in (line := process.stderr.readline()):
                assert line, "torch was never imported"
            process.send_signal(signal.SIGINT)
            told = [line for line in process.stderr if not line.startswith(b"import time:")]
            assert process.wait(DEADLINE_S) == 130
            assert (process.stdout.read(), told) == (b"", [])

    def test_during_decode_keeps_what_is_printed(
        self, model_folder: Path, session: Session
    ) -> None:
        with subprocess.Popen(
            command("generate", "-m", model_folder, "-n", 4000, PROMPT),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            shown = process.stdout.read(8)
            process.send_signal(signal.SIGINT)
            shown += process.stdout.read()
            assert (process.wait(DEADLINE_S), process.stderr.read()) == (130, b"")
        text = complete(session, max_new_tokens=300)[0].text.encode()
        known = min(len(shown), len(text))
        assert known >= 8
        assert shown[:known] == text[:known]

    def test_during_decode_keeps_what_a_file_would_hold(self, model_folder: Path) -> None:
        with subprocess.Popen(
            command("generate", "-m", model_folder, "-n", 4000, PROMPT, "-o", "answer"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        ) as process:  # fmt: skip
            until = time.monotonic() + DEADLINE_S
            while not any(path.stat().st_size for path in Path().glob(".bigcode-*.tmp")):
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert process.communicate() == (b"", b"")
            assert process.returncode == 130
        assert [path.name for path in Path().iterdir()] == ["answer"]
        assert Path("answer").stat().st_size > 0

    def test_json_says_which_were_interrupted(self, model_folder: Path, session: Session) -> None:
        stop, early, late = _one_early_one_late(session)
        lines = [json.dumps({"id": prompt, "prompt": prompt}) for prompt in (early, late)]
        Path("prompts").write_text("\n".join(lines))
        with subprocess.Popen(
            command(
                "generate", "-m", model_folder, "-n", 4000, "--jsonl", "prompts", "--json",
                "--stop", stop,
            ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            first = json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            second = json.loads(process.stdout.readline())
            assert (process.wait(DEADLINE_S), process.stderr.read()) == (130, b"")
        assert (first["id"], first["finish_reason"]) == (early, "stop")
        assert (second["id"], second["finish_reason"]) == (late, "interrupted")
        assert second["completion"]

    def test_of_many_prompts_those_under_way_are_told_and_those_that_wait_are_not(
        self, model_folder: Path, session: Session
    ) -> None:
        """More prompts than rows: some have ended, some joined those under way, some wait."""
        stop, early, late = _one_early_one_late(session)
        rows = session.info.max_rows
        prompts = [early] * (rows + 4) + [late] * rows + [early] * 9
        lines = [json.dumps({"id": str(at), "prompt": one}) for at, one in enumerate(prompts)]
        Path("prompts").write_text("\n".join(lines))
        with subprocess.Popen(
            command(
                "generate", "-m", model_folder, "-n", 4000, "--jsonl", "prompts", "--json",
                "--stop", stop,
            ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            done = [json.loads(process.stdout.readline()) for _ in range(rows + 4)]
            process.send_signal(signal.SIGINT)
            cut = [json.loads(line) for line in process.stdout]
            assert (process.wait(DEADLINE_S), process.stderr.read()) == (130, b"")
        assert [one["finish_reason"] for one in done] == ["stop"] * (rows + 4)
        assert {one["finish_reason"] for one in cut} == {"interrupted"}
        # Rows that became free just then may not be taken yet.
        assert rows - 4 <= len(cut) <= rows
        assert [one["id"] for one in done + cut] == [str(at) for at in range(rows + 4 + len(cut))]
        assert any(one["completion"] for one in cut)


def test_reader_that_goes_away_ends_the_program_quietly(model_folder: Path) -> None:
    started = time.monotonic()
    with subprocess.Popen(
        command("generate", "-m", model_folder, "-n", 4000, PROMPT),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert (process.stderr.read(), process.wait(DEADLINE_S)) == (b"", 0)
    assert time.monotonic() - started < DEADLINE_S


def _one_early_one_late(session: Session) -> tuple[str, str, str]:
    """A stop text, a prompt that soon comes to it, and one that does not for long."""
    texts = {
        prompt: complete(session, prompt=prompt, max_new_tokens=600)[0].text
        for prompt in ("def foo():", "x")
    }
    for early, text in texts.items():
        for start in range(20):
            stop = text[start : start + 6]
            for late, other in texts.items():
                if "\ufffd" not in stop and stop not in other:
                    return stop, early, late
    pytest.fail("no such texts")
