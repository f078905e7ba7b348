"""``bigcode score`` with one model, in a pipe and as JSON."""

import json
import math
import os
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from bigcode_cli.engine.session import Session
from bigcode_cli.model.causal_lm import GPTBigCodeForCausalLM
from bigcode_cli.model.checkpoint import load_model
from tests.cli.infilling import parsed, refusal
from tests.cli.running import Program
from tests.cli.scores import (
    OTHER,
    TEXT,
    Score,
    close,
    content,
    gone_meanwhile,
    objects,
    rows,
    save_random_model,
    scored,
    tokens,
)
from tests.tokenizers import tiny_document, tiny_tokenizer

TEXTS = {"a.py": TEXT, "b.py": OTHER, "c.py": "x = 1\n" * 50}


@pytest.fixture
def files(_alone: None) -> list[str]:
    """Files in the working folder."""
    for name, text in TEXTS.items():
        Path(name).write_bytes(text.encode())
    return list(TEXTS)


class TestFigures:
    @pytest.mark.usefixtures("files")
    def test_json_has_the_promised_fields(
        self, score: Score, session: Session, model_folder: Path
    ) -> None:
        result = score("a.py", "--json")
        assert (result.code, result.stderr) == (0, "")
        assert parsed(result.stdout) == {
            "path": "a.py",
            **content(scored(session, TEXT), model_folder),
        }

    def test_nll_sum_is_that_of_the_model_s_log_softmax(
        self, score: Score, session: Session, model_folder: Path
    ) -> None:
        model = load_model(GPTBigCodeForCausalLM, model_folder, device="cpu", dtype=torch.float32)
        ids = torch.tensor([[session.tokenizer.eos_id, *session.tokenizer.encode(TEXT)]])
        with torch.no_grad():
            logits = model(ids).logits[0, :-1].float()
        wanted = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        done = parsed(score("--json", stdin=TEXT.encode()).stdout)
        assert done["nll_sum"] == close(wanted)
        assert done["tokens"] == done["scored_tokens"] == ids.shape[1] - 1
        assert done["bytes"] == len(TEXT.encode())
        assert done["loss"] == close(wanted / done["tokens"])
        assert done["perplexity"] == close(math.exp(wanted / done["tokens"]))
        assert done["bits_per_byte"] == close(wanted / math.log(2) / done["bytes"])

    def test_a_pipe_gets_rows_and_nothing_else(
        self, score: Score, session: Session, files: list[str]
    ) -> None:
        result = score(*files)
        assert result.code == 0
        for name, row in zip(files, rows(result), strict=True):
            done = scored(session, TEXTS[name])
            assert row[2] == name
            for cell, value in zip(row, (done.perplexity, done.bits_per_byte), strict=False):
                assert value is not None
                assert float(cell) == pytest.approx(value, rel=1e-5)
                assert len(re.sub(r"\D", "", cell.partition("e")[0]).lstrip("0")) <= 6

    @pytest.mark.parametrize(
        ("flags", "options"),
        [
            ("--context 16", {"context": 16}),
            ("--context 16 --stride 15", {"context": 16, "stride": 15}),
            ("--stride 7", {"stride": 7}),
            ("--no-bos", {"bos": False}),
        ],
    )
    def test_flags_become_the_options(
        self,
        score: Score,
        session: Session,
        model_folder: Path,
        flags: str,
        options: dict[str, int],
    ) -> None:
        done = parsed(score("--json", *flags.split(), stdin=TEXT.encode()).stdout)
        assert done == {"path": "-", **content(scored(session, TEXT, **options), model_folder)}
        assert done["nll_sum"] != pytest.approx(scored(session, TEXT).nll_sum, rel=1e-5) or (
            flags == "--stride 7"  # all of it fits one window
        )

    @pytest.mark.parametrize("name", ["score", "perplexity", "score-perplexity"])
    def test_the_command_has_three_names(
        self, program: Program, model_folder: Path, score: Score, name: str
    ) -> None:
        result = program(name, "-m", model_folder, stdin=TEXT.encode())
        assert result.stdout == score(stdin=TEXT.encode()).stdout
        assert result.code == 0


class TestSeveral:
    def test_json_ends_with_the_sums(
        self, score: Score, session: Session, model_folder: Path, files: list[str]
    ) -> None:
        result = score(*files, "--json")
        *each, total = objects(result)
        done = [scored(session, text) for text in TEXTS.values()]
        assert each == [
            {"path": name, **content(one, model_folder)}
            for name, one in zip(files, done, strict=True)
        ]
        nll, count, n_bytes = (
            sum(getattr(one, name) for one in done) for name in ("nll_sum", "tokens", "n_bytes")
        )
        assert total == {
            **content(done[0], model_folder),
            "total": True,
            "tokens": count,
            "scored_tokens": count,
            "bytes": n_bytes,
            "nll_sum": close(nll),
            "loss": close(nll / count),
            "perplexity": close(math.exp(nll / count)),
            "bits_per_byte": close(nll / math.log(2) / n_bytes),
        }
        assert result.stderr == ""

    def test_the_total_of_rows_is_a_note(self, score: Score, files: list[str]) -> None:
        result = score(*files)
        (note,) = result.stderr.splitlines()
        total = objects(score(*files, "--json"))[-1]
        assert note == (
            f"note: total of 3 texts: perplexity {total['perplexity']:,.2f}, "
            f"{total['bits_per_byte']:.3f} bits/byte, {total['scored_tokens']} tokens"
        )
        assert score(*files, "--quiet").stderr == ""
        assert score("a.py").stderr == ""

    def test_folders_are_gone_through_and_filtered(self, score: Score) -> None:
        for name in ("src/b.py", "src/deep/a.py", "src/c.txt"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(TEXT)
        assert [row[2] for row in rows(score("src"))] == ["src/b.py", "src/c.txt", "src/deep/a.py"]
        chosen = score("src", "--glob", "a*.py", "--glob", "*.txt")
        assert [row[2] for row in rows(chosen)] == ["src/c.txt", "src/deep/a.py"]

    def test_records_are_known_by_their_id_or_place(
        self, score: Score, session: Session, model_folder: Path
    ) -> None:
        records = [{"id": "x", "text": TEXT}, {"id": 7, "text": "a"}, {"text": "b"}]
        Path("t.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
        assert [row[2] for row in rows(score("--jsonl", "t.jsonl"))] == ["x", "7", "t.jsonl:3"]
        *each, total = objects(score("--jsonl", "t.jsonl", "--json"))
        assert [one["id"] for one in each] == ["x", 7, None]
        assert not {"path", "id"} & total.keys()
        assert each[0] == {"id": "x", **content(scored(session, TEXT), model_folder)}

    def test_texts_score_as_they_do_alone(self, score: Score, files: list[str]) -> None:
        together = objects(score(*files, "--json"))[:-1]
        alone = [parsed(score(name, "--json").stdout) for name in files]
        assert [one["nll_sum"] for one in together] == [close(one["nll_sum"]) for one in alone]

    def test_a_name_cannot_break_its_line(self, score: Score) -> None:
        names = ["a\nb", "a\tb", "\x1b[31m", "\u2028", os.fsdecode(b"\xff"), "é"]
        for name in names:
            Path(name).write_text(TEXT)
        result = score(*names)
        assert [row[2] for row in rows(result)] == [
            "a\\nb", "a\\tb", "\\x1b[31m", "\\u2028", "\\xff", "é"
        ]  # fmt: skip
        assert [one.get("path") for one in objects(score(*names, "--json"))] == [*names, None]
        for name in ("é", "\u2028"):
            Path(name).write_text("x")
        assert score("é", "\u2028", "--encoding", "ascii", "-o", "out").code == 0
        assert [line.split("\t")[2] for line in Path("out").read_text("ascii").splitlines()] == [
            "\\xe9", "\\u2028"
        ]  # fmt: skip


class TestLines:
    @pytest.mark.usefixtures("files")
    def test_rows_are_lines_with_what_their_tokens_cost(
        self, score: Score, session: Session
    ) -> None:
        found = rows(score("a.py", "--by", "line"))
        bits: dict[int, float] = {}
        sizes: dict[int, int] = {}
        for token in tokens(session, TEXT):
            assert token.bits is not None
            bits[token.line] = bits.get(token.line, 0) + token.bits
            sizes[token.line] = sizes.get(token.line, 0) + len(token.data)
        assert [row[2] for row in found] == [f"a.py:{line}" for line in bits]
        assert [float(row[0]) for row in found] == [
            pytest.approx(value, rel=1e-4) for value in bits.values()
        ]
        assert [float(row[1]) for row in found] == [
            pytest.approx(bits[line] / sizes[line], rel=1e-4) for line in bits
        ]
        lines = TEXT.splitlines()
        assert [json.loads(row[3]) for row in found] == [lines[line - 1] for line in bits]

    def test_json_adds_them_to_each_file(
        self, score: Score, model_folder: Path, session: Session, files: list[str]
    ) -> None:
        *each, total = objects(score(*files, "--by", "line", "--json"))
        assert "lines" not in total
        for one, text in zip(each, TEXTS.values(), strict=True):
            lines = one.pop("lines")
            assert one == {"path": one["path"], **content(scored(session, text), model_folder)}
            assert sum(line["nll_sum"] for line in lines) == close(one["nll_sum"])
            assert sum(line["tokens"] for line in lines) == one["scored_tokens"]
            assert sum(line["bytes"] for line in lines) == one["bytes"]
            for line in lines:
                assert line.keys() == {
                    "line", "tokens", "bytes", "nll_sum", "bits", "bits_per_byte", "text"
                }  # fmt: skip
                assert line["bits"] == close(line["nll_sum"] / math.log(2))
                assert line["text"] == re.split("\r?\n", text)[line["line"] - 1]


class TestTokens:
    @pytest.mark.usefixtures("files")
    def test_rows_are_tokens(self, score: Score, session: Session) -> None:
        found = rows(score("a.py", "--by", "token"))
        for row, token in zip(found, tokens(session, TEXT), strict=True):
            assert token.bits is not None
            assert token.entropy is not None
            assert float(row[0]) == pytest.approx(token.bits, rel=1e-4)
            assert row[1] == str(token.rank)
            assert float(row[2]) == pytest.approx(token.entropy / math.log(2), rel=1e-4)
            assert row[3] == f"a.py:{token.line}:{token.column}"
            assert json.loads(row[4]) == token.data.decode("utf-8", "replace")

    def test_json_adds_them_to_each_file(
        self, score: Score, session: Session, files: list[str]
    ) -> None:
        *each, _ = objects(score(*files, "--by", "token", "--json"))
        for one, text in zip(each, TEXTS.values(), strict=True):
            wanted = tokens(session, text)
            assert one["token_scores"] == [
                {
                    "id": token.id,
                    "text": token.data.decode("utf-8", "replace"),
                    "line": token.line,
                    "column": token.column,
                    "bits": close(token.bits),
                    "logprob": close(token.logprob),
                    "rank": token.rank,
                    "entropy": close((token.entropy or 0) / math.log(2)),
                }
                for token in wanted
            ]

    def test_what_does_not_count_is_left_out(self, score: Score, session: Session) -> None:
        args = ("--by", "token", "--no-bos")
        found = rows(score(*args, stdin=TEXT.encode()))
        assert len(found) == len(tokens(session, TEXT)) - 1
        assert found[0][3] != "-:1:1"
        told = parsed(score(*args, "--json", stdin=TEXT.encode()).stdout)["token_scores"]
        assert len(told) == len(found)


class TestEdges:
    @pytest.mark.usefixtures("files")
    def test_an_empty_file_among_others_has_no_figures(self, score: Score) -> None:
        Path("empty").touch()
        result = score("a.py", "empty")
        assert result.code == 0
        assert rows(result)[1] == ["nan", "nan", "empty"]
        _, empty, total = objects(score("a.py", "empty", "--json", "--by", "line"))
        assert (empty["tokens"], empty["nll_sum"], empty["lines"]) == (0, 0.0, [])
        assert empty["loss"] is empty["perplexity"] is empty["bits_per_byte"] is None
        assert total["tokens"] > 0

    @pytest.mark.parametrize("args", [["empty"], ["-"], []])
    def test_the_only_input_may_not_be_empty(self, score: Score, args: list[str]) -> None:
        Path("empty").touch()
        assert "empty" in refusal(score(*args, stdin=b""))

    @pytest.mark.parametrize("form", ["file", "line", "token"])
    def test_a_lone_token_counts_only_behind_the_end_of_a_text(
        self, score: Score, form: str
    ) -> None:
        (row,) = rows(score("--by", form, stdin=b"x"))
        assert float(row[0]) > 0
        bare = score("--by", form, "--no-bos", stdin=b"x")
        assert bare.code == 0
        assert rows(bare) == ([["nan", "nan", "-"]] if form == "file" else [])

    def test_binary_files_in_a_folder_are_skipped_and_counted(self, score: Score) -> None:
        Path("src").mkdir()
        Path("src/a.py").write_text(TEXT)
        Path("src/b.bin").write_bytes(b"\0\1")
        result = score("src")
        assert (result.code, result.stderr) == (0, "note: 1 binary file skipped\n")
        assert [row[2] for row in rows(result)] == ["src/a.py"]
        Path("src/c.bin").write_bytes(b"\0\1")
        assert score("src").stderr == "note: 2 binary files skipped\n"
        named = score("src/a.py", "src/b.bin")
        assert named.code == 1
        assert [row[2] for row in rows(named)] == ["src/a.py"]

    def test_what_cannot_be_read_is_told_and_the_rest_done(self, score: Score) -> None:
        Path("a.py").write_text(TEXT)
        Path("loop").symlink_to("loop")
        Path("dangling").symlink_to("nowhere")
        Path("latin").write_bytes(b"\xe9\xff")
        result = score("dangling", "a.py", "loop", "latin", "--json")
        assert result.code == 1
        assert result.stderr.count("error: ") == 3
        one, total = objects(result)
        assert (one["path"], total["total"]) == ("a.py", True)
        assert score("dangling").code == 2
        assert score("latin").code == 2

    @pytest.mark.parametrize("form", [[], ["--json"], ["--html", "p.html"]])
    def test_a_file_that_goes_before_its_turn_leaves_the_others(
        self,
        score: Score,
        files: list[str],
        monkeypatch: pytest.MonkeyPatch,
        form: list[str],
    ) -> None:
        gone_meanwhile(monkeypatch, "b.py")
        result = score(*files, *form)
        assert result.code == 1
        error, *_ = result.stderr.splitlines()
        assert error == "error: b.py: no such file: b.py"
        assert b"b.py" not in result.stdout
        assert result.stdout.count(b"\n") == (3 if form == ["--json"] else 2)

    @pytest.mark.usefixtures("files")
    def test_the_only_file_that_goes_before_its_turn_is_the_error(
        self, score: Score, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone_meanwhile(monkeypatch, "b.py")
        assert refusal(score("b.py")) == "no such file: b.py"

    def test_a_record_that_is_no_text_leaves_the_others(self, score: Score) -> None:
        record = {"id": "cut", "text": "\ud83d"}
        Path("t").write_text(json.dumps(record) + "\n" + json.dumps({"id": "b", "text": "b"}))
        result = score("--jsonl", "t")
        assert result.code == 1
        assert [row[2] for row in rows(result)] == ["b"]

    def test_a_line_of_five_megabytes(self, program: Program, tmp_path: Path) -> None:
        """Its tokenizer has words of up to 1,024 letters, or the model would take long."""
        document = tiny_document()
        size = tiny_tokenizer().vocab_size
        for power in range(10):
            half = "x" * 2**power
            document["model"]["vocab"][half * 2] = size + power
            document["model"]["merges"].append([half, half])
        folder = save_random_model(
            tmp_path / "m", seed=0, tokenizer=json.dumps(document), vocab_size=size + 10
        )
        text = "x" * 5_000_000
        args = ("score", "-m", folder, "--context", 64, "--stride", 48, "--by", "line", "--json")
        done = parsed(program(*args, stdin=text.encode()).stdout)
        assert (done["bytes"], done["scored_tokens"]) == (len(text), done["tokens"])
        assert len(text) / 1024 <= done["tokens"] < len(text) / 1000
        (line,) = done["lines"]
        assert line["nll_sum"] == close(done["nll_sum"])
        assert line["text"] == text

    def test_other_encodings_are_read(
        self, score: Score, session: Session, model_folder: Path
    ) -> None:
        Path("latin").write_bytes("x = 'été'\n".encode("latin-1"))
        done = parsed(score("latin", "--encoding", "latin-1", "--json").stdout)
        wanted = content(scored(session, "x = 'été'\n"), model_folder)
        assert done == {"path": "latin", **wanted}


class TestOutput:
    @pytest.mark.usefixtures("files")
    def test_a_file_takes_the_answer(self, score: Score) -> None:
        result = score("a.py", "b.py", "-o", "out")
        assert (result.code, result.stdout) == (0, b"")
        assert Path("out").read_bytes() == score("a.py", "b.py").stdout

    def test_stats_go_to_stderr(self, score: Score, session: Session, model_folder: Path) -> None:
        result = score("--stats", "--quiet", stdin=TEXT.encode())
        assert rows(result)[0][2] == "-"
        count = len(tokens(session, TEXT))
        told = rf"{model_folder}: {count} tokens in \d+\.\d{{3}} s, [\d,.]+ tokens/s\n"
        assert re.fullmatch(told, result.stderr)

    @pytest.mark.parametrize("form", [[], ["--json"], ["--by", "token"]])
    @pytest.mark.usefixtures("files")
    def test_a_page_goes_beside_the_answer(self, score: Score, form: list[str]) -> None:
        assert score("a.py", "b.py", *form, "--html", "p.html") == score("a.py", "b.py", *form)
        page = Path("p.html").read_text()
        assert "<h2>a.py</h2>" in page
        assert "<h2>b.py</h2>" in page
        assert "total of 2 texts: perplexity" in page
        assert "bits · rank " in page

    def test_figures_that_are_no_numbers_are_null(
        self, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A perplexity beyond a float: a model that is sure of something else."""
        from bigcode_cli.records import scoring

        folder = save_random_model(tmp_path / "m", seed=0)
        monkeypatch.setattr(scoring, "perplexity", lambda *_: math.inf)
        args = ("score", "-m", folder, "--no-bos")
        assert rows(program(*args, stdin=TEXT.encode()))[0][0] == "inf"
        assert parsed(program(*args, "--json", stdin=TEXT.encode()).stdout)["perplexity"] is None


class TestModelName:
    @pytest.fixture
    def blank(self, model_folder: Path) -> str:
        """A folder whose name has a blank."""
        Path("my model").symlink_to(model_folder)
        return "./my model"

    def test_the_environment_names_one_model(
        self, program: Program, blank: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BIGCODE_MODEL", blank)
        assert parsed(program("score", "--json", stdin=b"x").stdout)["model"] == blank

    @pytest.mark.parametrize(
        "settings", ['model = "./my model"', '[score]\nmodel = ["./my model"]']
    )
    @pytest.mark.usefixtures("blank")
    def test_so_does_a_settings_file(self, program: Program, settings: str) -> None:
        Path("bigcode.toml").write_text(settings)
        told = parsed(program("score", "--json", stdin=b"x").stdout)["model"]
        assert Path(told).name == "my model"
        shown = program("config").stdout.decode()
        assert ("[score]" in shown) == ("[score]" in settings)

    @pytest.mark.usefixtures("blank")
    def test_a_settings_file_may_name_several(self, program: Program) -> None:
        Path("bigcode.toml").write_text('[score]\nmodel = ["./my model", "./my model"]')
        assert len(rows(program("score", stdin=b"x"))[0]) == 3

    def test_help_tells_where_it_comes_from(self, program: Program) -> None:
        page = " ".join(program("score", "--help").stdout.decode().split())
        assert "[env var: BIGCODE_MODEL; default: mini]" in page


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--context", "1"], "--context must be at least 2, not 1"),
        (["--stride", "0"], "--stride must be at least 1, not 0"),
        (["--context", "5000"], "a context of 5000 tokens exceeds the model's 4096"),
        (["--context", "8", "--stride", "8"], "a stride of 8 does not fit a context of 8"),
        (["--fail-above", "0"], "--fail-above must be above 0, not 0"),
        (["--fail-above", "nan"], "--fail-above must be above 0, not nan"),
        (["--fail-if-worse", "3"], "--fail-if-worse needs --baseline FILE"),
        (["--fail-if-worse", "x"], "a share must be per cent, 0 or more, such as 5 or 5%, not 'x'"),
        (["--fail-if-worse", "-1"], "a share must be per cent"),
        (["--heatmap"], "--heatmap colours a terminal, and stdout is none"),
        (["--heatmap", "--json"], "--heatmap and --json do not go together"),
        (["--heatmap", "--by", "line"], "--heatmap and --by line do not go together"),
        (["--html", "x", "-o", "x"], "--html and --output name the same file"),
        (["--by", "word"], ""),
        (["--encoding", "klingon"], "unknown encoding 'klingon'"),
        (["--jsonl", "x", "y"], "--jsonl holds the texts"),
        (["--glob", "*.py"], "--glob"),
        (["no/such/file"], "no such file: no/such/file"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(score: Score, args: list[str], error: str) -> None:
    assert refusal(score(*args, stdin=b"x")).startswith(error)


def test_no_input_at_a_terminal_is_a_usage_error(score: Score) -> None:
    assert refusal(score(stdin=None)) == "no text"


def test_no_model_is_loaded_where_nothing_can_be_scored(program: Program) -> None:
    run = partial(program, "score", "-m", "no/such/model")
    assert run("a", "b").code == 1
    assert run("a").code == 2
