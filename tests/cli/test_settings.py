from pathlib import Path

import pytest

from bigcode_cli.cli.settings import PROJECT_KEYS, find_project_file, user_file
from tests.cli.running import Program, Result

# "generate" is stopped here, after its settings were read and before a model is looked for.
STOP_HERE = ("--logprobs", "1", "x")


def project(text: str, folder: Path | None = None) -> Path:
    path = (folder or Path.cwd()) / "bigcode.toml"
    path.write_text(text)
    return path


def user(text: str) -> Path:
    path = user_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(result: Result) -> str:
    """The one line by which settings are refused."""
    assert (result.code, result.stdout) == (2, b"")
    lines = result.stderr.splitlines()
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    return lines[0].removeprefix("error: ")


class TestSearch:
    def test_nearest_file_upward_is_the_projects(self) -> None:
        inner = Path.cwd() / "a" / "b"
        inner.mkdir(parents=True)
        outer = project("")
        assert find_project_file(inner) == outer
        assert find_project_file(inner.parent) == outer
        nearer = project("", inner.parent)
        assert find_project_file(inner) == nearer

    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_search_ends_at_the_root_of_a_repository(self, kind: str) -> None:
        inner = Path.cwd() / "repository" / "inner"
        inner.mkdir(parents=True)
        mark = inner.parent / ".git"
        mark.mkdir() if kind == "folder" else mark.write_text("gitdir: elsewhere")
        project("")
        assert find_project_file(inner) is None
        own = project("", inner.parent)
        assert find_project_file(inner) == own

    def test_search_ends_at_home(self, tmp_path: Path) -> None:
        inner = Path.home() / "inner"
        inner.mkdir()
        project("", tmp_path)
        assert find_project_file(inner) is None

    def test_users_file_is_in_the_users_configuration_folder(self) -> None:
        assert user_file() == Path.home() / ".config" / "bigcode" / "bigcode.toml"


class TestPrecedence:
    def test_command_line_over_environment_over_project_over_user(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def device() -> str:
            return refusal(program("generate", "x"))

        user('device = "users"')
        assert device() == "unknown device 'users'"
        project('device = "projects"')
        assert device() == "unknown device 'projects'"
        monkeypatch.setenv("BIGCODE_DEVICE", "environments")
        assert device() == "unknown device 'environments'"
        line = program("generate", "x", "--device", "lines")
        assert refusal(line) == "unknown device 'lines'"

    def test_commands_table_comes_before_the_shared_keys(self, program: Program) -> None:
        project('device = "shared"\n[generate]\ndevice = "own"')
        assert refusal(program("generate", "x")) == "unknown device 'own'"

    def test_projects_shared_key_comes_before_the_users_table(self, program: Program) -> None:
        user('[generate]\ndevice = "users"')
        project('device = "projects"')
        assert refusal(program("generate", "x")) == "unknown device 'projects'"

    def test_hyphens_and_underscores_are_one(self, program: Program) -> None:
        for key in ("max-new-tokens", "max_new_tokens"):
            project(f"[generate]\n{key} = 0")
            assert refusal(program("generate", "x")).startswith("--max-new-tokens must be")

    def test_list_is_a_repeatable_option(self, program: Program) -> None:
        project('[generate]\nstop = [""]')
        assert refusal(program("generate", "x")) == "--stop must not be empty"

    def test_users_file_is_no_projects_even_from_its_own_folder(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = user("offline = true")  # which a project's file may not set
        monkeypatch.chdir(path.parent)
        assert program("config").code == 0


class TestRefusal:
    @pytest.mark.parametrize(
        ("text", "line", "error"),
        [
            ("modle = 1", 1, "unknown key 'modle'"),
            ("[generate]\nfoo = 1", 2, "generate has no setting 'foo'"),
            ("[generate]\nprompt = 'x'", 2, "generate has no setting 'prompt'"),
            ("[generate]\noutput = 'x'", 2, "generate has no setting 'output'"),
            ("[generate]\nfile = 'x'", 2, "generate has no setting 'file'"),
            ("[generate]\ndebug = true", 2, "generate has no setting 'debug'"),
            ("[nonsense]", 1, "no such command: [nonsense]"),
            ("[generate]\ntemperature = 'hot'", 2, "temperature must be a number, not 'hot'"),
            ("[generate]\ntop_k = 1.5", 2, "top_k must be a whole number, not 1.5"),
            ("[generate]\ntop_k = true", 2, "top_k must be a whole number, not True"),
            ("\n[generate]\nheal = 1", 3, "heal must be true or false, not 1"),
            ("[generate]\nstop = 'x'", 2, "stop must be a list of texts, not 'x'"),
            ("model = 1", 1, "model must be a text, not 1"),
            ("dtype = 'int7'", 1, "dtype must be auto or float32 or float16 or bfloat16"),
        ],
    )
    def test_names_file_line_and_key(
        self, program: Program, text: str, line: int, error: str
    ) -> None:
        path = project(text)
        refused = refusal(program("generate", *STOP_HERE))
        assert refused.startswith(f"{path}:{line}: {error}")

    def test_what_is_no_toml_is_told(self, program: Program) -> None:
        path = project("a b")
        assert refusal(program("generate", "x")).startswith(f"{path} is not TOML: ")
        path.write_bytes(b"model = '\xff'")
        assert refusal(program("generate", "x")).startswith(f"{path} is not TOML: ")

    def test_typing_mistake_gets_a_suggestion(self, program: Program) -> None:
        project("modle = 1")
        assert program("generate", "x").stderr.endswith("hint: did you mean model?\n")

    def test_value_out_of_range_is_traced_to_its_file(self, program: Program) -> None:
        path = user("[generate]\ntop_p = 7")
        result = program("generate", "x")
        assert result.stderr.endswith(f"hint: it is set by {path}\n")

    def test_broken_file_withholds_no_help(self, program: Program) -> None:
        project("a b")
        result = program("generate", "--help")
        assert (result.code, result.stderr) == (0, "")


class TestProject:
    @pytest.mark.parametrize("key", ["offline", "json", "logprobs", "echo"])
    def test_may_not_set_what_is_the_users(self, program: Program, key: str) -> None:
        shared = key == "offline"
        text = f"{key} = true" if shared else f"[generate]\n{key} = true"
        path = project(text)
        refused = refusal(program("generate", "x"))
        assert refused == f"{path}:{1 if shared else 2}: a project's file may not set '{key}'"
        path.unlink()
        user(text.replace("logprobs = true", "logprobs = 1"))
        assert "a project's" not in program("generate", "-n", 0, "x").stderr

    def test_chooses_the_model_and_how_it_answers(
        self, program: Program, model_folder: Path
    ) -> None:
        project(f'model = "{model_folder}"\n[generate]\nmax-new-tokens = 3')
        by_file = program("generate", "x")
        by_line = program("generate", "x", "-m", model_folder, "-n", 3)
        assert by_file.code == 0
        assert by_file.stdout == by_line.stdout

    def test_model_folder_is_found_beside_the_file(
        self, program: Program, model_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("weights").symlink_to(model_folder)
        project('model = "./weights"')
        inner = Path("inner")
        inner.mkdir()
        monkeypatch.chdir(inner)
        assert program("generate", "-n", 1, "x").code == 0

    def test_names_nothing_that_is_written_or_sent(self) -> None:
        assert not PROJECT_KEYS & {"output", "file", "jsonl", "write", "offline", "out", "data"}
