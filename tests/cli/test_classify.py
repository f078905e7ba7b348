import codecs
import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigcode_cli.engine.classify import ClassifySession
from bigcode_cli.hub import resolve
from bigcode_cli.model.heads import (
    GPTBigCodeForSequenceClassification,
    GPTBigCodeForTokenClassification,
)
from bigcode_cli.records import ClassifyOptions, ClassifyRequest, LoadOptions, ModelFolder, Spans
from tests.cli.running import Program, Result
from tests.heads import FRUITS, NUMBER_TAGS, fruit_model, head_config, number_model, save_head
from tests.model.models import wide_of

Classify = Callable[..., Result]
APPLE, PEAR = "a b\nax b", "ab b y"
NUMBERS = "a 12 b\r\n  c(ABC)\n\ta 7 a"
"""Its spans are 12, ABC and 7."""


@pytest.fixture(scope="session")
def fruit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence head."""
    return save_head(fruit_model(), tmp_path_factory.mktemp("fruits"))


@pytest.fixture(scope="session")
def number_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token head."""
    return save_head(number_model(), tmp_path_factory.mktemp("numbers"))


@pytest.fixture
def fruits(program: Program, fruit_folder: Path) -> Classify:
    """``bigcode classify`` with the sequence head."""
    return partial(program, "classify", "-m", fruit_folder, "--device", "cpu")


@pytest.fixture
def numbers(program: Program, number_folder: Path) -> Classify:
    """``bigcode classify`` with the token head."""
    return partial(program, "classify", "-m", number_folder, "--device", "cpu")


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.decode("ascii").splitlines()]


def write(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def spans_of(folder: Path, text: str, **options: Any) -> Spans:
    """What the session says."""
    session = ClassifySession.open(ModelFolder(name="head", path=folder), LoadOptions(device="cpu"))
    (found,) = session.classify([ClassifyRequest(text=text)], ClassifyOptions(**options))
    assert isinstance(found, Spans)
    return found


class TestSequenceHead:
    def test_a_pipe_gets_label_score_and_path(self, fruits: Classify) -> None:
        write("one.txt", APPLE), write("two.txt", PEAR)
        result = fruits("one.txt", "two.txt")
        assert (result.code, result.stderr) == (0, "")
        lines = [line.split("\t") for line in result.stdout.decode().splitlines()]
        assert [(label, path) for label, _, path in lines] == [
            ("apple", "one.txt"), ("pear", "two.txt")
        ]  # fmt: skip
        assert all(re.fullmatch(r"[01]\.\d{4}", score) for _, score, _ in lines)

    def test_stdin_is_read_where_no_file_is_named(self, fruits: Classify) -> None:
        for args in ((), ("-",)):
            result = fruits(*args, stdin=APPLE.encode())
            assert result.stdout.decode().split("\t")[::2] == ["apple", "-\n"]

    def test_json_has_the_promised_fields(self, fruits: Classify) -> None:
        write("one.txt", APPLE)
        result = fruits("one.txt", "--json")
        (done,) = objects(result)
        assert list(done) == ["path", "label", "score", "scores"]
        assert (done["path"], done["label"]) == ("one.txt", "apple")
        assert done["score"] == done["scores"]["apple"] == max(done["scores"].values())
        assert sorted(done["scores"]) == sorted(FRUITS)
        assert sum(done["scores"].values()) == pytest.approx(1)
        assert result.stderr == ""

    def test_records_are_called_by_their_ids(self, fruits: Classify) -> None:
        lines = [{"id": 7, "text": APPLE}, {"id": "b", "text": PEAR}, {"text": PEAR}]
        write("in.jsonl", "\n".join(map(json.dumps, lines)))
        done = objects(fruits("--jsonl", "in.jsonl", "--json"))
        assert [(one["id"], one["label"]) for one in done] == [
            (7, "apple"), ("b", "pear"), (None, "pear")
        ]  # fmt: skip
        told = fruits("--jsonl", "in.jsonl").stdout.decode().splitlines()
        assert [line.split("\t")[2] for line in told] == ["7", "b", "in.jsonl:3"]

    def test_top_k_tells_so_many_labels(self, fruits: Classify) -> None:
        every = fruits("--top-k", 9, stdin=APPLE.encode()).stdout.decode().splitlines()
        labels = [line.split("\t")[0] for line in every]
        assert labels[0] == "apple"
        assert sorted(labels) == sorted(FRUITS)
        scores = [float(line.split("\t")[1]) for line in every]
        assert scores == sorted(scores, reverse=True)
        assert fruits("--top-k", 2, stdin=APPLE.encode()).stdout.decode().splitlines() == every[:2]
        (done,) = objects(fruits("--top-k", 2, "--json", stdin=APPLE.encode()))
        assert list(done["scores"]) == labels[:2]

    def test_threshold_leaves_labels_out(self, fruits: Classify) -> None:
        (every,) = objects(fruits("--json", stdin=APPLE.encode()))
        (one,) = objects(fruits("--json", "--threshold", 0.5, stdin=APPLE.encode()))
        assert one["scores"] == {"apple": every["score"]}
        (none,) = objects(fruits("--json", "--threshold", 1, stdin=APPLE.encode()))
        assert none == {"path": "-", "label": None, "score": None, "scores": {}}
        assert fruits("--threshold", 1, stdin=APPLE.encode()).stdout == b"-\t-\t-\n"

    def test_an_empty_text_among_several_has_no_label(self, fruits: Classify) -> None:
        write("empty", ""), write("one.txt", APPLE)
        result = fruits("empty", "one.txt", "--json")
        assert result.code == 0
        assert objects(result)[0] == {"path": "empty", "label": None, "score": None, "scores": {}}

    def test_redaction_needs_spans(self, fruits: Classify) -> None:
        result = fruits("--redact", stdin=APPLE.encode())
        assert (result.code, result.stdout) == (2, b"")
        assert "--redact" in result.stderr

    def test_a_terminal_gets_a_table(self, fruits: Classify) -> None:
        write("one.txt", APPLE), write("b\x1b[2J", PEAR)
        shown = fruits("one.txt", "b\x1b[2J", stdout_terminal=True).stdout.decode()
        assert re.fullmatch(
            r"LABEL   SCORE  PATH\n"
            r"apple  0\.\d{4}  one\.txt\n"
            r'pear   0\.\d{4}  "b\\u001b\[2J"\n',
            shown,
        )

    def test_a_page_shows_texts_under_their_labels(self, fruits: Classify) -> None:
        write("one.txt", "<b>ax</b>"), write("two.txt", PEAR)
        result = fruits("one.txt", "two.txt", "--html", "page.html", "--top-k", 2)
        assert result.code == 0
        assert result.stdout.count(b"\n") == 4
        page = Path("page.html").read_text()
        assert "&lt;b&gt;ax&lt;/b&gt;" in page
        assert re.search(r"<h2>two\.txt</h2>.*pear 0\.\d{4} · \w+ 0\.\d{4}</p>", page, re.DOTALL)

    def test_a_long_text_is_read_in_windows(self, fruits: Classify) -> None:
        text = ("ab " * 60 + "x" + "ab " * 60).encode()
        (whole,) = objects(fruits("--json", stdin=text))
        (other,) = objects(fruits("--json", "--context", 16, "--stride", 3, stdin=text))
        assert whole["scores"] != other["scores"]
        assert fruits("--context", 65, stdin=text).code == 2
        assert fruits("--context", 8, "--stride", 8, stdin=text).code == 2


class TestOtherHeads:
    def head(self, folder: Path, **changes: Any) -> Path:
        """A random sequence head."""
        config = head_config(FRUITS, **changes)
        return save_head(wide_of(GPTBigCodeForSequenceClassification, config), folder)

    def test_labels_that_do_not_exclude_each_other_are_told_by_the_threshold(
        self, program: Program, tmp_path: Path
    ) -> None:
        folder = self.head(tmp_path / "m", problem_type="multi_label_classification")
        run = partial(program, "classify", "-m", folder, stdin=b"x = 1")
        (done,) = objects(run("--json"))
        assert all(0 <= score <= 1 for score in done["scores"].values())
        assert done["label"] == max(done["scores"], key=done["scores"].get)
        assert run().stdout.count(b"\n") == 1
        assert run("--threshold", 0).stdout.count(b"\n") == 3
        assert run("--threshold", 0, "--top-k", 2).stdout.count(b"\n") == 2

    def test_a_regression_gives_its_value(self, program: Program, tmp_path: Path) -> None:
        folder = self.head(tmp_path / "m", problem_type="regression")
        run = partial(program, "classify", "-m", folder, "--json", stdin=b"x = 1")
        (done,) = objects(run())
        assert not all(0 <= score <= 1 for score in done["scores"].values())
        middle = sorted(done["scores"].values())[1]
        (some,) = objects(run("--threshold", middle))
        assert len(some["scores"]) == 2


class TestTokenHead:
    def test_json_has_the_promised_fields(self, numbers: Classify, number_folder: Path) -> None:
        write("one.txt", NUMBERS)
        (done,) = objects(numbers("one.txt", "--json"))
        assert list(done) == ["path", "spans"]
        assert list(done["spans"][0]) == [
            "start", "end", "line", "column", "label", "score", "text"
        ]  # fmt: skip
        assert [(s["label"], s["text"], s["line"], s["column"]) for s in done["spans"]] == [
            ("NUMBER", "12", 1, 3), ("NAME", "ABC", 2, 5), ("NUMBER", "7", 3, 4)
        ]  # fmt: skip
        assert all(NUMBERS[s["start"] : s["end"]] == s["text"] for s in done["spans"])
        expected = spans_of(number_folder, NUMBERS).spans
        assert [s["score"] for s in done["spans"]] == pytest.approx([s.score for s in expected])

    def test_a_pipe_gets_a_line_a_span(self, numbers: Classify) -> None:
        write("one.txt", NUMBERS), write("none", "a b")
        result = numbers("none", "one.txt")
        assert (result.code, result.stderr) == (0, "")
        lines = [line.split("\t") for line in result.stdout.decode().splitlines()]
        assert [(label, place, text) for label, _, place, text in lines] == [
            ("NUMBER", "one.txt:1:3", '"12"'),
            ("NAME", "one.txt:2:5", '"ABC"'),
            ("NUMBER", "one.txt:3:4", '"7"'),
        ]

    def test_a_terminal_gets_a_table(self, numbers: Classify) -> None:
        shown = numbers(stdin=NUMBERS.encode(), stdout_terminal=True).stdout.decode()
        assert re.fullmatch(
            r"LABEL    SCORE  PLACE\n"
            r'NUMBER  0\.\d{4}  -:1:3  "12"\n'
            r'NAME    0\.\d{4}  -:2:5  "ABC"\n'
            r'NUMBER  0\.\d{4}  -:3:4  "7"\n',
            shown,
        )
        nothing = numbers(stdin=b"a b", stdout_terminal=True)
        assert (nothing.stdout, nothing.stderr) == (b"", "note: no spans were found\n")

    def test_redacted_text_is_the_text_but_for_the_spans(self, numbers: Classify) -> None:
        expected = "a [NUMBER] b\r\n  c([NAME])\n\ta [NUMBER] a"
        assert numbers("--redact", stdin=NUMBERS.encode()).stdout == expected.encode()
        (done,) = objects(numbers("--redact", "--json", stdin=NUMBERS.encode()))
        assert done["redacted"] == expected

    @pytest.mark.parametrize(
        ("encoding", "mark"),
        [
            ("utf-8", b""),
            ("utf-8", codecs.BOM_UTF8),
            ("utf-8-sig", codecs.BOM_UTF8),
            ("utf-8-sig", b""),
            ("utf-16", codecs.BOM_UTF16_BE),
            ("utf-16", codecs.BOM_UTF16_LE),
            ("utf-16-le", b""),
            ("utf-16-be", codecs.BOM_UTF16_BE),
            ("utf-32", codecs.BOM_UTF32_BE),
            ("latin-1", b""),
        ],
    )
    def test_redaction_keeps_bytes_in_any_encoding(
        self, numbers: Classify, encoding: str, mark: bytes
    ) -> None:
        exact = {
            codecs.BOM_UTF16_BE: "utf-16-be",
            codecs.BOM_UTF16_LE: "utf-16-le",
            codecs.BOM_UTF32_BE: "utf-32-be",
        }.get(mark, encoding.removesuffix("-sig"))
        for name in ("in.txt", "-"):
            data = mark + NUMBERS.replace("b", "é").encode(exact)
            write("in.txt", data)
            result = numbers("--redact", "--encoding", encoding, name, stdin=data)
            expected = NUMBERS.replace("b", "é").replace("12", "[NUMBER]").replace("7", "[NUMBER]")
            assert result.stdout == mark + expected.replace("ABC", "[NAME]").encode(exact)

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.text("ab \r\n\té日🙂\u2028\ufeff0123ABC", min_size=1))
    def test_any_text_comes_back_from_its_redaction(self, numbers: Classify, text: str) -> None:
        (done,) = objects(numbers("--redact", "--json", stdin=text.encode()))
        back, taken = "", 0
        for span in done["spans"]:
            assert text[span["start"] : span["end"]] == span["text"]
            back += text[taken : span["start"]] + f"[{span['label']}]"
            taken = span["end"]
        assert back + text[taken:] == done["redacted"]
        assert numbers("--redact", stdin=text.encode()).stdout.decode() == done["redacted"]

    def test_several_redacted_texts_are_set_off_and_named(self, numbers: Classify) -> None:
        write("one.txt", "a 1"), write("two.txt", "b 2\n")
        result = numbers("one.txt", "two.txt", "--redact")
        assert result.stdout == b"a [NUMBER]\n\nb [NUMBER]\n"
        assert result.stderr == "==> one.txt <==\n==> two.txt <==\n"

    def test_output_goes_to_a_file(self, numbers: Classify) -> None:
        result = numbers("--redact", "-o", "out", stdin=b"a 1\r\n")
        assert (result.code, result.stdout) == (0, b"")
        assert Path("out").read_bytes() == b"a [NUMBER]\r\n"

    def test_threshold_leaves_spans_out(self, numbers: Classify, number_folder: Path) -> None:
        scores = [span.score for span in spans_of(number_folder, NUMBERS).spans]
        (some,) = objects(numbers("--json", "--threshold", max(scores), stdin=NUMBERS.encode()))
        assert len(some["spans"]) == 1

    def test_top_k_needs_whole_texts(self, numbers: Classify) -> None:
        result = numbers("--top-k", 2, stdin=b"a")
        assert (result.code, result.stdout) == (2, b"")
        assert "--top-k" in result.stderr

    def test_a_page_shows_the_spans(self, numbers: Classify) -> None:
        write("one.txt", "a 12 <i>b\n"), write("two.txt", "no")
        assert numbers("one.txt", "two.txt", "--html", "page.html").code == 0
        page = Path("page.html").read_text()
        (span,) = re.findall(r'<span class="s0" data-tip="(NUMBER 0\.\d{4})">12</span>', page)
        assert span
        assert "&lt;i&gt;b" in page
        assert '<span class="s0">NUMBER</span><span class="s1">NAME</span>' in page
        assert '<p class="facts">NUMBER 1</p>' in page
        assert '<p class="facts">no span</p>' in page

    def test_a_page_and_an_answer_are_two_files(self, numbers: Classify) -> None:
        result = numbers("--html", "x", "-o", "x", stdin=b"a")
        assert (result.code, Path("x").exists()) == (2, False)
        result = numbers("--html", "no/such/x", stdin=b"a")
        assert (result.code, result.stdout) == (1, b"")


class TestInputs:
    def test_what_cannot_be_read_is_told_and_the_rest_done(self, fruits: Classify) -> None:
        write("one.txt", APPLE)
        write("bad.txt", b"\xff")
        result = fruits("missing", "one.txt", "bad.txt")
        assert result.code == 1
        assert result.stdout.startswith(b"apple\t")
        assert result.stderr.count("error: ") == 2
        assert "missing" in result.stderr
        assert "bad.txt" in result.stderr

    def test_an_unencodable_text_fails_alone(self, program: Program, tmp_path: Path) -> None:
        config = head_config(FRUITS, vocab_size=300)
        folder = save_head(wide_of(GPTBigCodeForSequenceClassification, config), tmp_path / "small")
        write("one.txt", "~"), write("two.txt", "return")
        result = program("classify", "-m", folder, "two.txt", "one.txt")
        assert result.code == 1
        assert result.stdout.endswith(b"\tone.txt\n")
        assert result.stderr.startswith("error: two.txt: the tokenizer knows the id ")
        lone = program("classify", "-m", folder, "two.txt")
        assert (lone.code, lone.stdout) == (3, b"")

    @pytest.mark.parametrize("stdin", [b"", b"\xff"])
    def test_the_only_input_must_be_text(self, fruits: Classify, stdin: bytes) -> None:
        result = fruits(stdin=stdin)
        assert (result.code, result.stdout) == (2, b"")

    def test_a_terminal_is_not_waited_for(self, fruits: Classify) -> None:
        assert fruits(stdin=None).code == 2

    def test_folders_are_gone_through(self, fruits: Classify) -> None:
        write("src/b.py", APPLE), write("src/in/a.py", PEAR), write("src/c.txt", PEAR)
        write("src/x.bin", b"\0\1")
        result = fruits("src", "--json")
        assert [one["path"] for one in objects(result)] == ["src/b.py", "src/c.txt", "src/in/a.py"]
        assert "1 binary" in result.stderr
        some = fruits("src", "--json", "--glob", "*.py")
        assert [one["path"] for one in objects(some)] == ["src/b.py", "src/in/a.py"]

    def test_a_pipe_is_read_once(self, numbers: Classify) -> None:
        os.mkfifo("pipe")
        if os.fork() == 0:
            Path("pipe").write_bytes(b"a 1 b")
            os._exit(0)
        assert numbers("pipe", "--redact").stdout == b"a [NUMBER] b"
        os.wait()

    def test_a_long_line_is_one_text(self, numbers: Classify) -> None:
        text = "a 1 " * 20_000
        (done,) = objects(numbers("--json", stdin=text.encode()))
        assert len(done["spans"]) > 19_000
        assert all(text[s["start"] : s["end"]] == s["text"] for s in done["spans"])
        assert done["spans"][-1]["line"] == 1


class TestModel:
    def test_one_classifier_must_be_named(
        self, program: Program, number_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BIGCODE_MODEL", str(number_folder))
        write("bigcode.toml", f"model = {json.dumps(str(number_folder))}\n")
        result = program("classify", stdin=b"a 1")
        assert (result.code, result.stdout) == (2, b"")
        assert "--model" in result.stderr
        assert "no classifier" in result.stderr
        both = program("classify", "--task", "x", "-m", number_folder, stdin=b"a 1")
        assert both.code == 2

    def test_settings_name_no_classifier(self, program: Program, number_folder: Path) -> None:
        for key in ("task", "head", "model", "revision"):
            write("bigcode.toml", f"[classify]\n{key} = {json.dumps(str(number_folder))}\n")
            result = program("classify", stdin=b"a 1")
            assert (result.code, result.stdout) == (2, b"")
            assert f"no setting '{key}'" in result.stderr

    def test_a_revision_that_is_set_is_of_another_model(self, numbers: Classify) -> None:
        write("bigcode.toml", 'revision = "main"\n')
        assert numbers(stdin=b"a 1").code == 0
        assert numbers("--revision", "main", stdin=b"a 1").code == 2

    def test_settings_say_how_texts_are_read(self, numbers: Classify) -> None:
        write("bigcode.toml", "[classify]\ncontext = 4\nstride = 9\n")
        assert "a stride of 9 does not fit a context of 4" in numbers(stdin=b"a 1").stderr

    def test_a_language_model_is_no_classifier(self, program: Program, model_folder: Path) -> None:
        result = program("classify", "-m", model_folder, stdin=b"a")
        assert (result.code, result.stdout) == (3, b"")
        assert "has no head that classifies\nhint: " in result.stderr

    @pytest.mark.parametrize("name", ["nothing", "mini", "../builtin/mini", ""])
    def test_an_unknown_task_tells_which_there_are(self, program: Program, name: str) -> None:
        result = program("classify", "--task", name, stdin=b"a")
        assert (result.code, result.stdout) == (3, b"")
        assert result.stderr.startswith(f"error: unknown task {name!r}\nhint: ")

    def test_a_task_is_a_built_in_folder_with_a_head(
        self,
        program: Program,
        number_folder: Path,
        fruit_folder: Path,
        model_folder: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        builtin = Path("builtin")
        builtin.mkdir()
        for name, folder in [("b", number_folder), ("a", fruit_folder), ("lm", model_folder)]:
            (builtin / name).symlink_to(folder)
        (builtin / "no.config").mkdir()
        monkeypatch.setattr(resolve, "BUILTIN_FOLDER", builtin)
        assert program("classify", "--task", "b", "--redact", stdin=b"a 1").stdout == b"a [NUMBER]"
        result = program("classify", "--task", "lm", stdin=b"a")
        assert result.stderr == "error: unknown task 'lm'\nhint: built-in heads: a, b\n"
        assert program("classify", "--task", "b", "--revision", "main", stdin=b"a").code == 2

    @pytest.mark.parametrize("value", ["nan", "-0.1", "1.1", "inf"])
    def test_a_threshold_is_a_probability(self, fruits: Classify, value: str) -> None:
        assert fruits("--threshold", value, stdin=b"a").code == 2

    def test_logits_that_are_no_numbers_are_an_error(
        self, program: Program, tmp_path: Path
    ) -> None:
        model = wide_of(GPTBigCodeForTokenClassification, head_config(NUMBER_TAGS))
        model.transformer.ln_f.weight.data.fill_(3e38)
        folder = save_head(model, tmp_path / "inf")
        write("one.txt", "a"), write("two.txt", "b")
        result = program("classify", "-m", folder, "one.txt", "two.txt")
        assert (result.code, result.stdout) == (3, b"")
        assert result.stderr == (
            "error: the model's logits are not numbers\nhint: try --dtype float32\n"
        )
