import gzip
import json
import sys
from pathlib import Path

import pytest

from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.records import Silence
from bigcode_cli.training.data.corpus import Corpus, CorpusOptions, build_corpus
from bigcode_cli.training.data.hold_out import HoldOut, Split
from bigcode_cli.training.data.near_duplicates import near_duplicate_groups, sketch
from bigcode_cli.training.data.packages import normal_name
from tests.training.conftest import MIT

TEMPLATE = '''def {name}(first, second):
    """Return the {name} of two numbers, as the {name} law says."""
    result_of_{name} = first + second
    for index_of_{name} in range(first):
        result_of_{name} += index_of_{name}
    while result_of_{name} > second:
        result_of_{name} -= first
    print("the {name} is", result_of_{name})
    return result_of_{name}
'''


def package(folder: Path, name: str, modules: dict[str, str], licence: str = MIT) -> None:
    for path, text in modules.items():
        target = folder / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    (folder / name / "LICENSE").write_text(licence, "utf-8")


def manifest(out: Path) -> dict[str, object]:
    result: dict[str, object] = json.loads((out / "manifest.json").read_text("utf-8"))
    return result


def test_only_permissive_packages_that_are_not_held_out_are_taken(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for name in ("kept", "Flask", "someone+graphql_core", "unwanted"):
        package(data, name, {"m.py": TEMPLATE.format(name=name.replace("+", "_"))})
    package(data, "copyleft", {"m.py": TEMPLATE.format(name="gpl")}, "GNU General Public License")
    package(
        data,
        "carrier",
        {
            "carrier/_vendor/x.py": TEMPLATE.format(name="x"),
            "carrier/jedi/y.py": TEMPLATE.format(name="y"),
        },
    )
    corpus = build_corpus([data], out, CorpusOptions(exclude=("unwanted",)))
    assert list(corpus.texts()) == [TEMPLATE.format(name="kept")]
    told = manifest(out)
    assert [row["package"] for row in told["packages"]] == ["kept"]  # type: ignore[attr-defined]
    assert told["files_left_out"] == {"held out": 1, "vendored": 1}
    reasons = {row["package"]: row["reason"] for row in told["packages_left_out"]}  # type: ignore[attr-defined]
    assert reasons == {
        "Flask": "held out",
        "someone+graphql_core": "held out",
        "unwanted": "held out",
        "copyleft": "licence",
    }
    assert "| kept |" in (out / "manifest.md").read_text("utf-8")


def test_each_text_is_taken_once(tmp_path: Path) -> None:
    text = TEMPLATE.format(name="sum")
    package(tmp_path / "data", "one", {"a.py": text, "b.py": text.replace("\n", "\n\n")})
    package(tmp_path / "data", "two", {"c.py": text.replace("\n", "\r\n")})
    corpus = build_corpus([tmp_path / "data"], tmp_path / "out")
    assert list(corpus.texts()) == [text]


def test_texts_like_held_out_ones_are_left_out(tmp_path: Path) -> None:
    texts = {name: TEMPLATE.format(name=name) for name in ("alpha", "beta", "gamma")}
    package(tmp_path / "data", "p", {f"{name}.py": text for name, text in texts.items()})
    held = tmp_path / "held"
    held.mkdir()
    (held / "x.py").write_text("import sys\n" + texts["alpha"] + "x = 1\n")
    line = json.dumps({"prompt": texts["beta"], "number": 1})
    (held / "tasks.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    corpus = build_corpus(
        [tmp_path / "data"], tmp_path / "out", CorpusOptions(exclude_like=(held,))
    )
    assert list(corpus.texts()) == [texts["gamma"]]


def test_worker_processes_change_nothing(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    records = [{"text": TEMPLATE.format(name=f"n{n}"), "licence": "MIT"} for n in range(100)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    options = CorpusOptions(jsonl=(file,), hold_out=HoldOut(0.2, "file"))
    for workers in (0, 2):
        build_corpus([data], tmp_path / str(workers), options, workers=workers)
    names = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert len(names) == 7
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def varied(name: str, changes: int = 0) -> str:
    """A text of its own for each name, in some lines changed."""
    name = name.translate(str.maketrans("0123456789", "abcdefghij"))  # not to look like data
    lines = [f"{name}_{n} = {name}_{n + 1} or call_{name}({n}, {name})" for n in range(60)]
    for n in range(changes):
        lines[n * 7 % 60] = f"changed_{n} = {name}.other_{n}"
    return "\n".join(lines) + "\n"


def test_of_near_duplicates_the_first_stays(tmp_path: Path) -> None:
    package(tmp_path / "data", "one", {"a.py": varied("x"), "b.py": varied("y")})
    package(tmp_path / "data", "two", {"c.py": varied("x", 2), "d.py": varied("y", 30)})
    corpus = build_corpus([tmp_path / "data"], tmp_path / "out")
    assert list(corpus.texts()) == [varied("x"), varied("y"), varied("y", 30)]
    assert manifest(tmp_path / "out")["files_left_out"] == {"near-duplicate": 1}
    kept = build_corpus(
        [tmp_path / "data"], tmp_path / "kept", CorpusOptions(keep_near_duplicates=True)
    )
    assert len(list(kept.texts())) == 4
    assert manifest(tmp_path / "kept")["near_duplicates"] == "kept"


def test_near_duplicates_alone_need_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "data", "one", {"a.py": varied("x")})
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(UsageError, match="datasketch"):
        build_corpus([tmp_path / "data"], tmp_path / "out")
    options = CorpusOptions(keep_near_duplicates=True)
    assert build_corpus([tmp_path / "data"], tmp_path / "out", options).documents == 1


@pytest.mark.parametrize("split", ["package", "file"])
def test_nothing_held_out_is_near_to_what_is_learned(tmp_path: Path, split: Split) -> None:
    texts = {
        f"p{p}": {f"m{m}.py": varied(f"t{(p * 5 + m) % 31}", p % 3) for m in range(p, p + 5)}
        for p in range(12)
    }
    for name, modules in texts.items():
        package(tmp_path / "data", name, modules)
    options = CorpusOptions(hold_out=HoldOut(0.3, split, seed=3))
    corpus = build_corpus([tmp_path / "data"], tmp_path / "out", options)
    held = corpus.held_out()
    learned = list(corpus.texts())
    apart = [text for group in held.values() for text in group]
    assert len(learned) == corpus.documents
    assert sum(len(text.encode()) for text in learned) == corpus.bytes
    assert (tmp_path / "out" / "corpus.bin").stat().st_size == corpus.bytes
    everything = build_corpus([tmp_path / "data"], tmp_path / "all")
    assert sorted(learned + apart) == sorted(everything.texts())
    assert not everything.held_out()
    assert 0 < sum(map(len, apart)) <= 0.3 * everything.bytes
    sketches = list(map(sketch, learned + apart))
    assert all(len(group) == 1 for group in near_duplicate_groups(sketches))
    told = manifest(tmp_path / "out")
    rows: list[dict[str, object]] = told["held_out"]["packages"]  # type: ignore[index]
    if split == "package":
        assert {row["package"]: row["files"] for row in rows} == {
            name: len(group) for name, group in held.items()
        }
        ours = {row["package"] for row in told["packages"]}  # type: ignore[attr-defined]
        assert ours.isdisjoint(held)
        owners = {text: name for name, modules in texts.items() for text in modules.values()}
        assert all(owners[text] not in held for text in learned if owners[text] in ours)
    else:
        assert list(held) == ["files"]


def test_versions_of_a_package_stay_on_one_side(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "One", "o.n.e", "two", "TWO", "three")):
        folder = tmp_path / "data" / f"{number}"
        package(tmp_path / "data", f"{number}", {"m.py": varied(f"v{number}")})
        facts = {"name": name, "version": str(number), "licence": "MIT"}
        (folder / "SOURCE.json").write_text(json.dumps(facts))
    for seed in range(4):
        options = CorpusOptions(hold_out=HoldOut(0.4, "package", seed))
        corpus = build_corpus([tmp_path / "data"], tmp_path / f"out{seed}", options)
        held = {normal_name(name) for name in corpus.held_out()}
        rows = manifest(corpus.folder)["packages"]
        assert held.isdisjoint(normal_name(row["package"]) for row in rows)  # type: ignore[attr-defined]


def test_what_another_run_held_out_is_gone(tmp_path: Path) -> None:
    package(tmp_path / "data", "one", {"a.py": varied("x"), "b.py": varied("y")})
    options = CorpusOptions(hold_out=HoldOut(0.5, "file"))
    assert build_corpus([tmp_path / "data"], tmp_path / "out", options).held_out()
    assert not build_corpus([tmp_path / "data"], tmp_path / "out").held_out()


def test_a_build_that_fails_leaves_no_corpus(tmp_path: Path) -> None:
    package(tmp_path / "data", "one", {"a.py": varied("x"), "b.py": varied("y")})
    build_corpus([tmp_path / "data"], tmp_path / "out")
    with pytest.raises(UsageError, match="one package alone"):
        build_corpus([tmp_path / "data"], tmp_path / "out", CorpusOptions(hold_out=HoldOut(0.5)))
    with pytest.raises(InputError):
        Corpus.open(tmp_path / "out")


def test_records_are_judged_as_files_are(tmp_path: Path) -> None:
    file = tmp_path / "code.jsonl"
    records = [
        {"text": varied("a"), "licence": "MIT", "package": "p", "path": "a.rs"},
        {"text": varied("b"), "package": "p", "path": "b.rs"},
        {"text": varied("c"), "licence": "MIT", "package": "flask"},
        {"text": varied("d"), "licence": "MIT", "path": "x/vendor/d.rs"},
        {"text": "def x(:\n" + varied("e"), "licence": "MIT", "path": "e.py"},
        {"text": varied("f") + "\ud800", "licence": "MIT"},
        {"text": varied("a"), "licence": "MIT"},
        {"text": varied("g").replace("\n", "\r\n"), "licence": "BSD", "package": "q"},
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    corpus = build_corpus([], tmp_path / "out", CorpusOptions(jsonl=(file,)))
    assert list(corpus.texts()) == [varied("a"), varied("g")]
    told = manifest(tmp_path / "out")
    assert [(row["package"], row["licence"]) for row in told["packages"]] == [  # type: ignore[attr-defined]
        ("p", "mit"),
        ("q", "bsd"),
    ]
    left = {"duplicate": 1, "encoding": 1, "syntax": 1, "vendored": 1}
    assert told["files_left_out"] == left
    reasons = {row["package"]: row["reason"] for row in told["packages_left_out"]}  # type: ignore[attr-defined]
    assert reasons == {"p": "licence", "flask": "held out"}


def test_other_languages_and_own_licences_are_taken_when_asked_for(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.js").write_text("// GNU General Public License\n" + varied("a"))
    (mine / "b.py").write_text(varied("b"))
    with pytest.raises(InputError, match="no package"):
        build_corpus([mine], tmp_path / "out", CorpusOptions(globs=("*.js",)))
    options = CorpusOptions(globs=("*.js",), any_licence=True)
    corpus = build_corpus([mine], tmp_path / "out", options)
    assert [text.splitlines()[1:] for text in corpus.texts()] == [varied("a").splitlines()]
    told = manifest(tmp_path / "out")
    assert [(row["package"], row["licence"]) for row in told["packages"]] == [  # type: ignore[attr-defined]
        ("mine", "unknown")
    ]
    assert (told["globs"], told["any_licence"]) == (["*.js"], True)


def test_own_code_may_bear_the_name_of_what_is_held_out(tmp_path: Path) -> None:
    mine = tmp_path / "flask"
    (mine / "docker").mkdir(parents=True)
    (mine / "docker" / "a.py").write_text(varied("a"))
    (mine / "jedi.py").write_text(varied("b"))
    with pytest.raises(InputError):
        build_corpus([mine], tmp_path / "out")
    options = CorpusOptions(any_licence=True, exclude=("other",))
    corpus = build_corpus([mine], tmp_path / "out", options)
    assert sorted(corpus.texts()) == sorted([varied("a"), varied("b")])
    with pytest.raises(InputError):
        build_corpus([mine], tmp_path / "out", CorpusOptions(any_licence=True, exclude=("flask",)))


def test_why_nothing_is_left_is_said(tmp_path: Path) -> None:
    package(tmp_path / "data", "p", {"m.py": "x = 1\n", "n.py": "y = 1\n"})
    package(tmp_path / "data", "q", {"m.py": varied("q")}, "All rights reserved.")
    with pytest.raises(InputError) as caught:
        build_corpus([tmp_path / "data"], tmp_path / "out")
    assert "small (2), licence (1)" in str(caught.value.hint)
    assert "--any-licence" in str(caught.value.hint)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError):
        CorpusOptions(keep_near_duplicates=True, hold_out=HoldOut(0.1))
    with pytest.raises(UsageError):
        CorpusOptions(globs=("*.py", ""))


def test_progress_ends_whether_or_not_the_end_is_known(tmp_path: Path) -> None:
    class Listener(Silence):
        def progress(self, label: str, done: int, total: int | None, unit: str) -> None:
            told.append((label, done, total, unit))

    package(tmp_path / "data", "one", {"a.py": varied("x")})
    file = tmp_path / "code.jsonl"
    file.write_text(json.dumps({"text": varied("y"), "licence": "MIT"}) + "\n")
    for jsonl, total in (((), 1), ((file,), None)):
        told: list[tuple[str, int, int | None, str]] = []
        options = CorpusOptions(jsonl=jsonl)
        build_corpus([tmp_path / "data"], tmp_path / "out", options, report=Listener())
        assert told[0] == ("reading", 1, total, "batches")
        assert told[-1] == ("reading", 1 + len(jsonl), 1 + len(jsonl), "batches")


def test_texts_of_any_language_can_be_kept_out(tmp_path: Path) -> None:
    package(tmp_path / "data", "p", {"a.js": varied("a"), "b.js": varied("b")})
    (tmp_path / "like" / "deep").mkdir(parents=True)
    (tmp_path / "like" / "deep" / "x.js").write_text(varied("b"))
    options = CorpusOptions(globs=("*.js",), exclude_like=(tmp_path / "like",))
    corpus = build_corpus([tmp_path / "data"], tmp_path / "out", options)
    assert list(corpus.texts()) == [varied("a")]


def test_nothing_left_to_learn_from_is_an_error(tmp_path: Path) -> None:
    package(tmp_path / "data", "p", {"m.py": "x = 1\n"})
    with pytest.raises(InputError):
        build_corpus([tmp_path / "data"], tmp_path / "out")
    with pytest.raises(InputError):
        build_corpus(
            [tmp_path / "data"],
            tmp_path / "o",
            CorpusOptions(exclude_like=(tmp_path / "missing",)),
        )
    with pytest.raises(InputError):
        Corpus.open(tmp_path / "nowhere")
