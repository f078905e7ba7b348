import gzip
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.errors import InputError
from bigcode_cli.training.data.packages import GLOBS
from bigcode_cli.training.data.sources import DOCUMENTS, batches, find_all, read_records
from tests.training.conftest import MIT

Found = list[tuple[str, str | None, tuple[str, ...]]]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(MIT if name.endswith("LICENSE") else f"# {name}\n", "utf-8")


def found(*paths: Path, globs: tuple[str, ...] = GLOBS, any_licence: bool = False) -> Found:
    packages = find_all(paths, globs=globs, any_licence=any_licence)
    return [(package.name, package.licence, package.files) for package in packages]


def test_a_file_is_of_the_nearest_package_above_it(tmp_path: Path) -> None:
    write(tmp_path, "outer/LICENSE", "outer/a.py", "outer/in/LICENSE", "outer/in/src/b.txt")
    assert found(tmp_path / "outer/in/src/b.txt", tmp_path / "outer/a.py") == [
        ("in", "mit", ("src/b.txt",)),
        ("outer", "mit", ("a.py",)),
    ]


def test_a_licence_beside_a_repository_is_not_its_own(tmp_path: Path) -> None:
    write(tmp_path, "LICENSE", "repo/src/a.py", "repo/.git/HEAD")
    assert found(tmp_path / "repo/src/a.py") == [("src", None, ("a.py",))]
    write(tmp_path, "repo/LICENSE")
    assert found(tmp_path / "repo/src/a.py") == [("repo", "mit", ("src/a.py",))]


def test_a_licence_in_the_home_folder_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "LICENSE", "work/a.py")
    assert found(tmp_path / "work/a.py") == [(tmp_path.name, "mit", ("work/a.py",))]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert found(tmp_path / "work/a.py") == [("work", None, ("a.py",))]


def test_patterns_name_files_and_folders_and_any_depth(tmp_path: Path) -> None:
    write(tmp_path, "p/LICENSE", "p/a.js", "p/x/b.js", "p/x/y/c.js", "p/x/d.py", "q/LICENSE")
    write(tmp_path, "q/e.py")
    assert found(tmp_path / "p/**/*.js") == [("p", "mit", ("a.js", "x/b.js", "x/y/c.js"))]
    assert found(tmp_path / "p/x/*.js") == [("p", "mit", ("x/b.js",))]
    assert found(tmp_path / "[pq]") == [("p", "mit", ("x/d.py",)), ("q", "mit", ("e.py",))]
    for missing in ("p/*.rs", "nowhere", "p/nowhere.py"):
        with pytest.raises(InputError) as caught:
            found(tmp_path / missing)
        assert str(tmp_path / missing) in caught.value.message


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    write(tmp_path, "LICENSE", "a[1].py", "a1.py")
    assert found(tmp_path / "a[1].py") == [(tmp_path.name, "mit", ("a[1].py",))]


def test_a_file_that_is_named_twice_is_taken_once(tmp_path: Path) -> None:
    write(tmp_path, "LICENSE", "a.py", "b.py")
    file = tmp_path / "a.py"
    names = [file, tmp_path / "*.py", tmp_path / "x" / ".." / "b.py"]
    (tmp_path / "x").mkdir()
    assert found(*names) == [(tmp_path.name, "mit", ("a.py", "b.py"))]


def test_globs_choose_among_the_files_of_folders(tmp_path: Path) -> None:
    write(tmp_path, "LICENSE", "a.py", "b.js", "src/c.ts", "lib/d.ts", "e.md")
    assert found(tmp_path, globs=("*.js", "src/*.ts")) == [
        (tmp_path.name, "mit", ("b.js", "src/c.ts"))
    ]
    assert found(tmp_path / "e.md", globs=("*.js",)) == [(tmp_path.name, "mit", ("e.md",))]


def test_own_code_is_taken_only_where_any_licence_does(tmp_path: Path) -> None:
    write(tmp_path, "mine/a.py", "mine/lib/LICENSE", "mine/lib/b.py", "mine/sub/c.py", "bare/d.py")
    assert found(tmp_path / "mine") == [("lib", "mit", ("b.py",))]
    assert found(tmp_path / "mine", any_licence=True) == [
        ("lib", "mit", ("b.py",)),
        ("mine", None, ("a.py", "sub/c.py")),
    ]
    with pytest.raises(InputError) as caught:
        found(tmp_path / "bare")
    assert "--any-licence" in str(caught.value.hint)
    assert found(tmp_path / "bare", any_licence=True) == [("bare", None, ("d.py",))]


def test_what_git_ignores_in_a_repository_is_not_its_code(tmp_path: Path) -> None:
    write(tmp_path, "LICENSE", "a.py", ".venv/b.py", "build/c.py", "sub/d.py")
    (tmp_path / ".gitignore").write_text(".venv\nbuild\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert found(tmp_path) == [(tmp_path.name, "mit", ("a.py", "sub/d.py"))]
    assert found(tmp_path, any_licence=True) == [(tmp_path.name, "mit", ("a.py", "sub/d.py"))]


def test_a_folder_is_named_by_itself_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "mine/a.py")
    monkeypatch.chdir(tmp_path / "mine")
    assert found(Path(), any_licence=True) == [("mine", None, ("a.py",))]


@given(st.integers(0, 300))
def test_batches_hold_each_file_once_and_in_order(count: int) -> None:
    from bigcode_cli.training.data.packages import Package

    names = tuple(f"{number}.py" for number in range(count))
    made = list(batches(Package("p", "1", "mit", Path("root"), names)))
    assert tuple(name for batch in made for name in batch.names) == names
    assert all(0 < len(batch.names) <= DOCUMENTS and not batch.package.files for batch in made)


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.mark.parametrize("packed", [False, True])
def test_records_are_grouped_by_package_and_licence_in_order(tmp_path: Path, packed: bool) -> None:
    file = tmp_path / "code.jsonl.gz"
    data = lines(
        {"text": "one", "path": "src/a.rs", "package": "p", "licence": "MIT"},
        {"text": "two", "package": "p", "license": "MIT", "unknown": 3},
        {"text": "three", "package": "p"},
        {"text": "four", "path": None},
        {"text": "five", "licence": "GPL-3.0"},
    )
    file.write_bytes(gzip.compress(b"\n" + data) if packed else b"\n" + data)
    told = [(b.package.name, b.package.licence, b.names, b.texts) for b in read_records(file)]
    assert told == [
        ("p", "mit", ("src/a.rs", ""), ("one", "two")),
        ("p", None, ("",), ("three",)),
        ("code", None, ("", ""), ("four", "five")),
    ]


def test_many_records_make_several_batches(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    file.write_bytes(lines(*({"text": str(number)} for number in range(150))))
    made = [batch.texts for batch in read_records(file)]
    assert [len(texts) for texts in made if texts] == [64, 64, 22]
    assert [text for texts in made if texts for text in texts] == [str(n) for n in range(150)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not an object"),
        (b"{}", '"text"'),
        (b'{"text": 1}', '"text"'),
        (b'{"text": "", "path": 1}', '"path"'),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_bytes(lines({"text": "good"}) + line + b"\n")
    with pytest.raises(InputError) as caught:
        list(read_records(file))
    assert f"{file}:2: " in caught.value.message
    assert said in caught.value.message


def test_a_broken_or_missing_file_of_records_is_an_error(tmp_path: Path) -> None:
    whole = gzip.compress(lines({"text": "one" * 999}))
    for number, data in enumerate((whole[:-12], whole[:20] + b"xx" + whole[22:])):
        file = tmp_path / f"{number}.jsonl.gz"
        file.write_bytes(data)
        with pytest.raises(InputError, match="cannot read"):
            list(read_records(file))
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            list(read_records(missing))
