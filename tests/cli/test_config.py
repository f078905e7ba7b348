import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Program
from tests.cli.test_settings import project, user


def settings(program: Program, *args: object) -> dict[tuple[str | None, str], dict[str, Any]]:
    result = program("config", "--json", *args)
    assert result.code == 0
    return {(row["command"], row["key"]): row for row in json.loads(result.stdout)["settings"]}


def test_each_setting_names_its_source(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = project('model = "ours"\n[generate]\ntemperature = 0.5')
    mine = user('model = "mine"\nthreads = 3\n[generate]\ntop-k = 7')
    monkeypatch.setenv("BIGCODE_DEVICE", "cuda")
    found = settings(program, "--dtype", "float16")
    expected = {
        (None, "model"): ("ours", "file", str(ours)),
        (None, "threads"): (3, "file", str(mine)),
        (None, "device"): ("cuda", "environment", "BIGCODE_DEVICE"),
        (None, "dtype"): ("float16", "command line", None),
        (None, "quantize"): ("none", "default", None),
        ("generate", "temperature"): (0.5, "file", str(ours)),
        ("generate", "top_k"): (7, "file", str(mine)),
        ("generate", "max_new_tokens"): (128, "default", None),
    }
    for key, (value, source, origin) in expected.items():
        row = found[key]
        assert (row["value"], row["source"], row["from"]) == (value, source, origin), key


def test_text_is_toml_that_sets_the_same(program: Program) -> None:
    project('device = "cpu"\n[generate]\ntemperature = 0.5\nstop = ["\\n\\"é\\t"]')
    shown = program("config", "generate").stdout.decode()
    content = tomllib.loads(shown)
    assert content["device"] == "cpu"
    assert content["generate"]["stop"] == ['\n"é\t']
    assert "temperature = 0.5              # " in shown
    user(shown)
    Path("bigcode.toml").unlink()
    again = tomllib.loads(program("config", "generate").stdout.decode())
    assert again == content


def test_single_commands_show_what_is_set_unless_asked_for(program: Program) -> None:
    project("[generate]\ntop-k = 7")
    assert tomllib.loads(program("config").stdout.decode())["generate"] == {"top_k": 7}
    all_of_it = tomllib.loads(program("config", "generate").stdout.decode())["generate"]
    assert {"top_k", "top_p", "max_new_tokens"} <= set(all_of_it)


def test_commands_within_commands_have_tables_of_their_own(program: Program) -> None:
    user("[models.list]\njson = true")
    assert settings(program)["models list", "json"]["source"] == "file"
    assert "[models.list]\njson = true" in program("config", "models", "list").stdout.decode()


def test_unknown_command_is_a_usage_error(program: Program) -> None:
    result = program("config", "nonsense")
    assert (result.code, result.stdout) == (2, b"")
    assert result.stderr == "error: no such command: nonsense\n"


def test_files_are_named_and_control_characters_shown_escaped(program: Program) -> None:
    ours = project('model = "\\u001b[2J\\u202e"')
    result = program("config", stdout_terminal=True)
    assert f"# project: {ours}\n" in result.stdout.decode()
    assert not {"\x1b", "\u202e"} & set(result.stdout.decode())
