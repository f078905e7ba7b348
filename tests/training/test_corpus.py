import gzip
import json
from pathlib import Path

import pytest

from bigcode_cli.errors import InputError
from bigcode_cli.training.corpus import Corpus, CorpusOptions, build_corpus
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


def test_worker_processes_change_nothing(data: Path, corpus: Corpus, tmp_path: Path) -> None:
    build_corpus([data], tmp_path, workers=2)
    for name in ("corpus.bin", "corpus.idx", "manifest.json"):
        assert (tmp_path / name).read_bytes() == (corpus.folder / name).read_bytes()


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
