import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli.repl_files import CodeFile, History, state_folder
from bigcode_cli.errors import InputError, OutputError

ENTRIES = ["x = 1", "def f():\n    return 1\n\n# é", "+odd\n\n"]


def test_history_keeps_entries_of_many_lines_to_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "bigcode" / "history"
    told: list[str] = []
    history = History(path, told.append)
    assert history.load_history_strings() == []
    for entry in ENTRIES:
        history.store_string(entry)
    assert list(History(path, told.append).load_history_strings()) == ENTRIES[::-1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert told == []


def test_history_keeps_what_was_typed_and_is_no_text(tmp_path: Path) -> None:
    history = History(tmp_path / "history", lambda _: None)
    history.store_string("a\udc80b")
    assert list(history.load_history_strings()) == ["a?b"]


def test_history_that_cannot_be_kept_is_told_once_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "bigcode").write_text("a file where the folder should be")
    told: list[str] = []
    history = History(tmp_path / "bigcode" / "history", told.append)
    history.store_string("x")
    history.store_string("y")
    assert len(told) == 1
    assert told[0].startswith("the history cannot be kept: ")


def test_history_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    assert History(tmp_path, told.append).load_history_strings() == []
    assert told[0].startswith("the history cannot be read: ")


def test_state_folder_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "bigcode"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder() == Path.home() / ".local" / "state" / "bigcode"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_folder() == Path.home() / ".local" / "state" / "bigcode"


@given(text=st.text(st.sampled_from("a\r\n\t\ufeffé"), max_size=12))
def test_file_that_is_loaded_and_saved_is_the_same_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "loaded.py"
    path.write_bytes(text.encode())
    file, code = CodeFile.read(path, "utf-8")
    file.write(code)
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-16-be"])
def test_encodings_come_back(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.py"
    path.write_bytes("été\r\nx\r\n".encode(encoding))
    before = path.read_bytes()
    file, code = CodeFile.read(path, encoding)
    assert code == "été\nx"
    file.write(code)
    assert path.read_bytes() == before


def test_new_file_ends_its_last_line(tmp_path: Path) -> None:
    file = CodeFile(path=tmp_path / "x.py", encoding="utf-8")
    file.write("x = 1")
    assert file.path.read_bytes() == b"x = 1\n"
    file.write("")
    assert file.path.read_bytes() == b""


def test_what_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        CodeFile.read(tmp_path / "none.py", "utf-8")
    with pytest.raises(OutputError, match="cannot write"):
        CodeFile(path=tmp_path / "none" / "x.py", encoding="utf-8").write("x")
