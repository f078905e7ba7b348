"""What a slash can order."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from bigcode_cli.cli import repl_commands
from bigcode_cli.cli.repl_commands import COMMANDS, KEYS, SETTINGS, CommandCompleter
from bigcode_cli.cli.repl_desk import MAX_LEXED_LINES, PLAIN
from bigcode_cli.engine.session import Session
from bigcode_cli.errors import BigcodeError
from tests.cli.desks import Seat, seat


@pytest.fixture
def at(session: Session, model_folder: Path) -> Iterator[Seat]:
    with seat(session, model_folder) as one:
        yield one


def order(at: Seat, line: str) -> str:
    """What is told, in a line or on a page."""
    at.desk.message = None
    at.desk.page.reset()
    repl_commands.run(at.desk, line)
    return at.desk.message.text if at.desk.message else at.desk.page.text


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("/", "no such command: / (/help lists the commands)"),
        ("/nonsense x", "no such command: /nonsense x (/help lists the commands)"),
        ("/satv f", "no such command: /satv f (did you mean /save?)"),
        ("/quit now", "/quit takes no argument"),
        ("/quit!", "/quit takes no !"),
        ("/load", "/load needs a FILE"),
        ("/save", "/save needs a FILE"),
        ("/load none.py", "no such file: none.py"),
        ("/set heat 1", f"no such setting: heat (there are {', '.join(SETTINGS)})"),
        ("/set temperatur 1", "no such setting: temperatur (did you mean temperature?)"),
        ("/set temperature hot", "temperature must be a number, not 'hot'"),
        ("/set temperature -1", "temperature must be 0 or more, not -1 (0 is greedy)"),
        ("/set temperature nan", "temperature must be 0 or more, not nan (0 is greedy)"),
        ("/set top-k 1.5", "top_k must be a whole number, not '1.5'"),
        ("/set seed x", "seed must be a whole number or drawn, not 'x'"),
        ("/set max_new_tokens 0", "max-new-tokens must be at least 1, not 0"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(
    at: Seat, line: str, error: str
) -> None:
    options = at.desk.options
    with pytest.raises(BigcodeError) as caught:
        order(at, line)
    at.desk.fail(caught.value)
    assert at.desk.message is not None
    assert (at.desk.message.text, at.desk.message.error) == (error, True)
    assert at.desk.options is options


@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("temperature", "0.2", "0.2"),
        ("top_k", "40", "40"),
        ("top-p", "0.9", "0.9"),
        ("min_p", "0.05", "0.05"),
        ("repetition_penalty", "1.1", "1.1"),
        ("seed", "7", "7"),
        ("max_new_tokens", "64", "64"),
    ],
)
def test_every_setting_is_changed_and_shown(at: Seat, setting: str, value: str, shown: str) -> None:
    name = setting.replace("-", "_")
    assert order(at, f"/set {setting} {value}") == f"{name} is {shown}"
    assert order(at, f"/set {setting}").split() == [name, shown]
    rows = dict(line.split() for line in order(at, "/set").splitlines())
    assert list(rows) == list(SETTINGS)
    assert rows[name] == shown
    drawn = at.desk.options.question("x = ", "").request
    held = drawn.max_new_tokens if name == "max_new_tokens" else getattr(drawn.sampling, name)
    assert str(held) == shown


def test_seed_can_be_drawn_again(at: Seat) -> None:
    order(at, "/set seed 7")
    assert order(at, "/set seed drawn") == "seed is drawn"
    assert at.desk.options.sampling.seed is None


class TestFiles:
    def test_save_writes_the_code_and_replaces_nothing_unasked(self, at: Seat) -> None:
        at.write("x = 1")
        assert order(at, "/save a file.py") == "saved a file.py"
        assert Path("a file.py").read_text() == "x = 1\n"
        at.desk.code.insert_text("0")
        for line in ("/save", "/save a file.py"):
            with pytest.raises(BigcodeError, match="is there already"):
                order(at, line)
        assert Path("a file.py").read_text() == "x = 1\n"
        assert order(at, "/save!") == "saved a file.py"
        assert Path("a file.py").read_text() == "x = 10\n"
        assert [path.name for path in Path().iterdir()] == ["a file.py"]

    def test_home_is_meant_by_a_tilde(self, at: Seat) -> None:
        at.write("x = 1")
        order(at, "/save ~/x.py")
        assert (Path.home() / "x.py").read_text() == "x = 1\n"

    def test_load_takes_a_files_code_and_its_ways(self, at: Seat) -> None:
        Path("x.py").write_bytes(b"\xef\xbb\xbfa\r\nb")
        at.write("before")
        assert order(at, "/load x.py") == "loaded x.py"
        assert at.desk.code.text == "a\nb"
        assert at.desk.code.history.get_strings() == ["before"]
        order(at, "/save y.py")
        assert Path("y.py").read_bytes() == Path("x.py").read_bytes()

    def test_name_of_the_file_tells_the_language(self, at: Seat) -> None:
        at.write("x")
        python = at.desk.lexer
        order(at, "/save x.c")
        assert type(at.desk.lexer) is type(python)
        assert at.desk.lexer is not python
        order(at, "/save x.nonsense")
        assert type(at.desk.lexer) is not type(python)

    def test_long_code_is_not_highlighted_at_every_key(self, at: Seat) -> None:
        at.write("x\n" * (MAX_LEXED_LINES - 1))
        assert at.desk.lexer is not PLAIN
        at.write("x\n" * MAX_LEXED_LINES)
        assert at.desk.lexer is PLAIN

    def test_clear_begins_anew_and_keeps_the_code(self, at: Seat) -> None:
        at.write("x = 1")
        order(at, "/save x.py")
        order(at, "/clear")
        assert (at.desk.code.text, at.desk.file) == ("", None)
        assert at.desk.code.history.get_strings() == ["x = 1"]


class TestModel:
    def test_model_is_shown(self, at: Seat, model_folder: Path) -> None:
        shown = order(at, "/model")
        assert str(model_folder) in "".join(shown.split())
        assert "cpu, float32" in shown

    def test_other_model_takes_its_place(self, at: Seat, model_folder: Path) -> None:
        old = at.desk.model.session
        link = Path("other")
        link.symlink_to(model_folder)
        repl_commands.run(at.desk, "/model ./other")
        assert at.desk.doing == "loading ./other"
        at.settle()
        assert at.desk.message is not None
        assert at.desk.message.text == "now ./other"
        assert at.desk.model.session is not old
        assert at.desk.model.flags.model == "./other"

    def test_model_stays_where_the_other_is_not_to_be_had(
        self, at: Seat, model_folder: Path
    ) -> None:
        old = at.desk.model.session
        Path("empty").mkdir()
        repl_commands.run(at.desk, "/model ./empty")
        at.settle()
        assert at.desk.message is not None
        assert at.desk.message.error
        assert at.desk.model.session is old
        assert at.desk.model.flags.model == str(model_folder)
        at.write("x = ")
        at.desk.tab()
        at.settle()
        assert at.desk.ghost

    def test_model_stays_where_loading_is_interrupted(self, at: Seat, model_folder: Path) -> None:
        old = at.desk.model.session
        # The native engine maps a folder faster than anybody interrupts it.
        at.desk.model.flags = dataclasses.replace(at.desk.model.flags, backend="torch")
        repl_commands.run(at.desk, f"/model {model_folder}")
        at.desk.interrupt()
        at.settle()
        assert at.desk.message is not None
        assert at.desk.message.text == "stopped"
        assert at.desk.model.session is old


def test_stats_tell_counts_reuse_and_speeds(at: Seat) -> None:
    assert order(at, "/stats").splitlines()[0] == "completions  0, 0 of them interrupted"
    for before in ("def add(first, second):\n    return ", "def add(first, second):\n    return f"):
        at.write(before)
        at.desk.tab()
        at.settle()
    shown = order(at, "/stats")
    stats = at.desk.model.stats
    assert f"{stats.prompt:,} tokens" in shown
    assert f"{stats.new:,} tokens" in shown
    assert "2, 0 of them interrupted" in shown
    assert "tokens/s" in shown


def test_help_tells_every_command_and_key_within_a_screen(at: Seat) -> None:
    shown = order(at, "/help")
    for name in COMMANDS:
        assert f"/{name}" in shown
    for key, meaning in KEYS:
        assert key in shown
        assert meaning in shown
    assert len(shown.splitlines()) <= 23
    assert max(map(len, shown.splitlines())) < 80


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("/", {f"/{name}" for name in COMMANDS}),
        ("/s", {"/set", "/save", "/stats"}),
        ("/x", set()),
        ("/set t", {"temperature", "top_k", "top_p"}),
        ("/model m", {"mini"}),
        ("/load s", {"ome.py"}),
        ("/save! s", {"ome.py"}),
        ("/model ./", {"some.py"}),
        ("/stats ", set()),
    ],
)
def test_commands_and_what_is_known_of_their_arguments_complete(
    typed: str, completed: set[str]
) -> None:
    Path("some.py").touch()
    found = CommandCompleter().get_completions(Document(typed), CompleteEvent())
    assert {completion.text for completion in found} == completed
