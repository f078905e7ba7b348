import json
import re
from pathlib import Path

import pytest

from bigcode_cli.engine.session import Session
from bigcode_cli.records import ContextFile, SamplingOptions
from bigcode_cli.text.holes import MARKER, Template, hole_at
from tests.cli.conftest import N_POSITIONS
from tests.cli.infilling import TEXT, Infill, best, fill, parsed, refusal
from tests.cli.running import Program

pytestmark = pytest.mark.usefixtures("app")


class TestHole:
    @pytest.mark.parametrize(
        ("argument", "line", "column"), [("app.py:2", 2, None), ("app.py:4:7", 4, 7)]
    )
    def test_place_in_a_file(
        self, infill: Infill, session: Session, argument: str, line: int,
        column: int | None,
    ) -> None:  # fmt: skip
        hole = hole_at(TEXT, line, column)
        result = infill(argument)
        assert (result.code, result.stderr) == (0, "")
        assert result.stdout.decode() == best(session, hole.prefix, hole.suffix)

    @pytest.mark.parametrize("way", ["file", "pipe", "dash"])
    def test_marker_in_a_file_or_on_stdin(self, infill: Infill, session: Session, way: str) -> None:
        text = f"def add(a, b):\n    {MARKER}\n"
        Path("x").write_text(text)
        args = {"file": ["x"], "pipe": [], "dash": ["-"]}
        result = infill(*args[way], stdin=text.encode())
        path = "x" if way == "file" else None
        assert result.stdout.decode() == best(session, "def add(a, b):\n    ", "\n", path=path)

    def test_texts_and_files_around_it(self, infill: Infill, session: Session) -> None:
        Path("p").write_bytes(b"a\r\nb")
        Path("s").write_bytes(b"c\n")
        expected = best(session, "a\nb", "c\n").replace("\n", "\r\n").encode()
        for args in (
            ["--prefix-file", "p", "--suffix-file", "s"],
            ["--prefix", "a\r\nb", "--suffix", "c\n"],
            ["--prefix", "a\r\nb", "--suffix-file", "s"],
            ["--prefix-file", "-", "--suffix", "c\n"],
        ):
            assert infill(*args, stdin=b"a\r\nb").stdout == expected
        assert infill("--prefix", "a").stdout.decode() == best(session, "a", "")
        assert infill("--suffix", "a").stdout.decode() == best(session, "", "a")

    def test_existing_file_of_that_very_name_comes_first(
        self, infill: Infill, session: Session
    ) -> None:
        Path("app.py:2").write_text(f"x{MARKER}")
        assert infill("app.py:2").stdout.decode() == best(session, "x", "", path="app.py:2")
        line = best(session, f"x{MARKER}", "", path="app.py:2")
        assert infill("app.py:2:1").stdout.decode() == line

    def test_markers_are_plain_text_where_a_place_is_told(
        self, infill: Infill, session: Session
    ) -> None:
        Path("x.py").write_text(f"a\n{MARKER}\n")
        assert infill("x.py:1").stdout.decode() == best(session, "a", f"\n{MARKER}\n")

    @pytest.mark.parametrize(
        ("args", "stdin", "error"),
        [
            ([], None, "nothing to fill"),
            ([], b"", "stdin is empty"),
            (["-"], b"x", f"stdin has no {MARKER}"),
            (["-"], MARKER.encode(), "stdin holds nothing but the hole"),
            (["app.py"], b"", f"app.py has no {MARKER}"),
            (["app.py:9"], b"", "app.py: there is no line 9: they are 1 to 5"),
            (["app.py:0"], b"", "app.py: there is no line 0"),
            (["app.py:1:99"], b"", "app.py: line 1 has no column 99"),
            (["missing.py:1:1"], b"", "no such file: missing.py"),
            (["x" * 5000], b"", "cannot read xxx"),
            ([".:1"], b"", ". is a folder, not a file"),
            (["empty:1"], b"", "empty is empty"),
            (["latin:1"], b"", "latin is not utf-8: byte 0xe9 in line 1"),
            (["app.py:2", "--prefix", "x"], b"", "the hole is given twice"),
            (["app.py:2", "--suffix-file", "app.py"], b"", "the hole is given twice"),
            (["app.py:2", "--jsonl", "x"], b"", "the hole is given twice"),
            (["--prefix", "x", "--jsonl", "x"], b"", "the hole is given twice"),
            (["--prefix", "x", "--prefix-file", "app.py"], b"", "the prefix is given twice"),
            (["--prefix-file", "-", "--suffix-file", "-"], b"x", "stdin cannot be both"),
            (["--prefix", "", "--suffix", ""], b"", "the prefix and the suffix are empty"),
            (["--prefix", "\udce9"], b"", "the prefix is not valid text"),
            (["--prefix-file", "missing"], b"", "no such file: missing"),
            (["app.py:2", "--encoding", "nonsense"], b"", "unknown encoding 'nonsense'"),
        ],
    )
    def test_bad_input_is_one_clear_line(
        self, program: Program, args: list[str], stdin: bytes | None, error: str
    ) -> None:
        Path("empty").write_bytes(b"")
        Path("latin").write_bytes(b"\xe9t\xe9")
        result = program("infill", "-m", "./missing", *args, stdin=stdin)
        assert refusal(result).startswith(error)


class TestSeveralHoles:
    TEXT = f"a = {MARKER}\r\n\r\nb = {MARKER}\r\nc"

    def middles(self, session: Session) -> list[str]:
        template = Template.split(self.TEXT)
        middles: list[str] = []
        for _ in range(template.count):
            hole = template.hole(middles)
            middles.append(best(session, hole.prefix, hole.suffix, path="x"))
        return middles

    def test_each_sees_those_before_it(self, infill: Infill, session: Session) -> None:
        Path("x").write_bytes(self.TEXT.encode())
        middles = self.middles(session)
        whole = Template.split(self.TEXT).filled(middles)
        assert infill("x", "--print", "file").stdout == whole.encode()

    def test_text_is_set_off_by_a_blank_line_and_named_on_stderr(
        self, infill: Infill, session: Session
    ) -> None:
        Path("x").write_bytes(self.TEXT.encode())
        first, second = (text.replace("\n", "\r\n") for text in self.middles(session))
        result = infill("x")
        gap = "\n" if first.endswith("\n") else "\n\n"
        assert result.stdout.decode() == first + gap + second
        assert result.stderr == "==> x:1 <==\n==> x:3 <==\n"

    def test_json_is_one_object(self, infill: Infill, session: Session) -> None:
        Path("x").write_bytes(self.TEXT.encode())
        middles = self.middles(session)
        done = parsed(infill("x", "--json", "--print", "file").stdout)
        assert list(done) == ["id", "model", "holes", "file"]
        assert [hole["index"] for hole in done["holes"]] == [0, 1]
        assert [hole["completion"] for hole in done["holes"]] == [
            text.replace("\n", "\r\n") for text in middles
        ]
        assert done["file"] == Template.split(self.TEXT).filled(middles)


class TestRecords:
    LINES = (
        {"id": "a", "prefix": "def f(", "suffix": "):\n"},
        {"id": 7, "prefix": "", "suffix": "x\n"},
        {"prefix": "x = ", "suffix": ""},
    )

    def test_each_is_filled(self, infill: Infill, session: Session) -> None:
        data = "\n".join(map(json.dumps, self.LINES)).encode()
        result = infill("--jsonl", "-", "--json", stdin=data)
        done = [json.loads(line) for line in result.stdout.splitlines()]
        assert (result.code, result.stderr) == (0, "")
        assert [one["id"] for one in done] == ["a", 7, None]
        assert [one["completion"] for one in done] == [
            best(session, str(line["prefix"]), str(line["suffix"])) for line in self.LINES
        ]

    def test_text_is_named_on_stderr(self, infill: Infill) -> None:
        Path("x").write_text("\n".join(map(json.dumps, self.LINES)))
        assert infill("--jsonl", "x").stderr == "==> a <==\n==> 7 <==\n==> x:3 <==\n"
        whole = infill("--jsonl", "x", "--print", "file")
        assert whole.stderr == "==> a <==\n==> 7 <==\n==> x:3 <==\n"
        assert whole.stdout.startswith(b"def f(")

    def test_bad_one_spoils_no_other(self, infill: Infill) -> None:
        bad = ['{"prefix": "", "suffix": ""}', '{"prefix": "x"}', "nonsense"]
        data = "\n".join([*bad, json.dumps(self.LINES[0])]).encode()
        result = infill("--jsonl", "-", "--json", stdin=data)
        assert result.code == 1
        assert parsed(result.stdout)["id"] == "a"
        assert result.stderr.splitlines() == [
            'error: stdin:1: "prefix" and "suffix" are empty',
            'error: stdin:2: no "suffix"',
            "error: stdin:3: not JSON: Expecting value",
        ]


class TestOptions:
    def test_flags_become_the_request(self, infill: Infill, session: Session) -> None:
        hole = hole_at(TEXT, 2)
        sampling = SamplingOptions(
            temperature=1.5, top_k=50, top_p=0.95, min_p=0.01, repetition_penalty=1.1, seed=7
        )
        flags = "-t 1.5 --top-k 50 --top-p 0.95 --min-p 0.01 --repetition-penalty 1.1 --seed 7"
        for more, args in (
            ({"order": "psm", "dialect": "starcoder"}, "--order psm --dialect starcoder"),
            ({"order": "spm", "span": "line"}, "--order spm --span line"),
            ({"stop_texts": ("e", "(")}, "--stop e --stop ("),
            ({"span": "block", "repo": "us/ours", "path": "app.py"}, "--span block --repo us/ours"),
        ):
            expected = best(session, hole.prefix, hole.suffix, sampling=sampling, **more)
            result = infill("app.py:2", *flags.split(), *args.split())
            assert result.stdout.decode() == expected

    def test_candidates_are_warm_unless_told_otherwise_and_the_best_is_printed(
        self, infill: Infill, session: Session
    ) -> None:
        hole = hole_at(TEXT, 2)
        warm = SamplingOptions(temperature=0.8, seed=1)
        expected = fill(
            session, hole.prefix, hole.suffix, sampling=warm, candidates=4, path="app.py"
        )
        args = ("app.py:2", "--candidates", 4, "--seed", 1)
        result = infill(*args)
        assert result.stdout.decode() == expected.candidates[0].text
        assert result.stderr == "note: all candidates but one are drawn at temperature 0.8\n"
        assert infill(*args, "--quiet").stderr == infill(*args, "-t", 0.8).stderr == ""
        done = parsed(infill(*args, "--json").stdout)
        assert [(one["completion"], one["score"]) for one in done["candidates"]] == [
            (one.text, pytest.approx(one.score)) for one in expected.candidates
        ]
        assert done["completion"] == done["candidates"][0]["completion"]
        assert {"finish_reason", "stop", "completion_tokens"} < set(done["candidates"][0])

    def test_context_is_shown_with_names_from_the_current_folder(
        self, infill: Infill, session: Session
    ) -> None:
        Path("lib").mkdir()
        for name in ("far", "near"):
            Path(f"lib/{name}.py").write_bytes(f"\ufeff{name} = 1\r\n".encode())
        names = ("lib/far.py", "lib/near.py")
        hole = hole_at(TEXT, 2)
        expected = fill(
            session, hole.prefix, hole.suffix, path="app.py",
            context=tuple(ContextFile(name, f"{name[4:-3]} = 1\n") for name in names),
        )  # fmt: skip
        flags = [flag for name in names for flag in ("--context-file", Path(name).absolute())]
        done = parsed(infill(Path("app.py:2").absolute(), *flags, "--json").stdout)
        assert done["prompt"] == expected.prompt
        assert "<filename>lib/near.py\n" in done["prompt"]

    @pytest.mark.parametrize(
        ("args", "error"),
        [
            (["--temperature", "-1"], "--temperature must be 0 or more, not -1"),
            (["-n", "0"], "--max-new-tokens must be at least 1, not 0"),
            (["--candidates", "0"], "--candidates must be at least 1, not 0"),
            (["--candidates", "2", "-t", "0"], "several greedy candidates would all be the same"),
            (["--stop", ""], "--stop must not be empty"),
            (["--logprobs", "1"], "--logprobs needs --json"),
            (["--stop-at", "line"], "no such option: --stop-at"),
            (["--order", "mps"], "invalid value for '--order'"),
            (["--dialect", "granite"], "invalid value for '--dialect'"),
            (["--span", "eos"], "invalid value for '--span'"),
            (["--force"], "--force is about context files"),
            (["-w", "-o", "x"], "--write prints nothing that --output could take"),
        ],
    )
    def test_bad_flag_is_one_clear_line_before_input_is_waited_for(
        self, program: Program, args: list[str], error: str
    ) -> None:
        assert refusal(program("infill", *args, stdin=None)).startswith(error)

    def test_projects_settings_are_obeyed_but_name_nothing_that_is_written(
        self, infill: Infill
    ) -> None:
        Path("bigcode.toml").write_text('[infill]\nspan = "line"\norder = "psm"\ncandidates = 2\n')
        done = parsed(infill("app.py:2", "--json").stdout)
        assert (done["span"], done["order"]) == ("line", "psm")
        for key in ("write = true", 'prefix = "x"', "force = true", 'context_file = ["x"]'):
            Path("bigcode.toml").write_text(f"[infill]\n{key}\n")
            assert "infill has no setting" in refusal(infill("app.py:2"))


class TestJson:
    def test_has_the_promised_fields(
        self, infill: Infill, session: Session, model_folder: Path
    ) -> None:
        hole = hole_at(TEXT, 2)
        expected = fill(session, hole.prefix, hole.suffix, path="app.py")
        done = parsed(infill("app.py:2", "--json").stdout)
        timing = done.pop("timing")
        assert done == {
            "id": None,
            "index": 0,
            "model": str(model_folder),
            "prompt": expected.prompt,
            "completion": expected.candidates[0].text,
            "finish_reason": expected.candidates[0].finish_reason,
            "stop": None,
            "usage": {
                "prompt_tokens": expected.prompt_tokens,
                "completion_tokens": expected.candidates[0].completion_tokens,
            },
            "seed": None,
            "prefix_tokens": expected.prefix_tokens,
            "suffix_tokens": expected.suffix_tokens,
            "prefix_dropped": 0,
            "suffix_dropped": 0,
            "dialect": "starcoder",
            "order": "spm",
            "span": "block",
        }
        assert set(timing) == {
            "load_s", "first_token_s", "prefill_tokens_per_s", "decode_tokens_per_s"
        }  # fmt: skip

    def test_logprobs_are_those_of_each_candidate(self, infill: Infill) -> None:
        done = parsed(infill("app.py:2", "--json", "--logprobs", 1, "--candidates", 2).stdout)
        for one in (done, *done["candidates"]):
            assert all(len(token["top"]) == 1 for token in one["logprobs"])

    def test_what_is_printed_besides_has_a_key_of_its_own(self, infill: Infill) -> None:
        for what in ("file", "diff"):
            done = parsed(infill("app.py:2", "--json", "--print", what).stdout)
            assert done[what].encode() == infill("app.py:2", "--print", what).stdout


class TestRoom:
    LONG = "x = 1\n" * N_POSITIONS

    def test_what_does_not_fit_is_cut_and_that_is_said(self, infill: Infill) -> None:
        Path("x").write_text(f"{self.LONG}{MARKER}\n{self.LONG}")
        result = infill("x", "--json")
        done = parsed(result.stdout)
        prefix, suffix = done["prefix_dropped"], done["suffix_dropped"]
        assert result.stderr == (
            f"note: the prompt was cut to fit: {prefix:,} tokens of the prefix and {suffix:,} "
            "tokens of the suffix left out\n"
        )
        assert infill("x", "--quiet").stderr == ""

    def test_several_cuts_are_one_note(self, infill: Infill) -> None:
        lines = [json.dumps({"prefix": text, "suffix": ""}) for text in ("a", *[self.LONG] * 2)]
        result = infill("--jsonl", "-", "--json", stdin="\n".join(lines).encode())
        (note,) = result.stderr.splitlines()
        assert re.fullmatch(
            r"note: 2 of 3 prompts were cut to fit: [\d,]+ tokens of the prefix left out", note
        )


class TestExplain:
    def test_tells_the_parts_on_stderr_before_the_middle(self, infill: Infill) -> None:
        Path("x.py").write_text(TestRoom.LONG + "é\tlast" + MARKER + "\nafter\n" + TestRoom.LONG)
        Path("c.py").write_text("context = 1\n" * 3)
        args = ("x.py", "--explain", "--context-file", "c.py", "--repo", "us/ours", "--json")
        result = infill(*args, "--order", "psm")
        done = parsed(result.stdout)
        head, columns, *rows, note = result.stderr.splitlines()
        assert head == "prompt of x.py: psm order, starcoder dialect"
        assert columns.split() == ["part", "tokens", "dropped", "text"]
        names = [re.split(r"  +", row)[0] for row in rows]
        assert names == [
            "<fim_prefix>", "repo us/ours", "context c.py", "file x.py", "prefix",
            "<fim_suffix>", "suffix", "<fim_middle>", "",
        ]  # fmt: skip
        assert f"  {done['prefix_tokens']:,}  {done['prefix_dropped']:,} in " in rows[4]
        assert rows[4].endswith('é\\tlast"')
        assert '"\\nafter\\n' in rows[6]
        assert rows[8].split()[0] == f"{done['usage']['prompt_tokens']:,}"
        assert max(map(len, rows)) <= 100
        assert note.startswith("note: the prompt was cut")

    def test_tells_each_hole_even_when_quiet(self, infill: Infill) -> None:
        Path("x").write_text(f"a{MARKER}b\n{MARKER}")
        shown = infill("x", "--explain", "--quiet").stderr
        assert shown.count("prompt of x:1:") == shown.count("prompt of x:2:") == 1

    def test_control_characters_are_escaped(self, infill: Infill) -> None:
        Path("x\x1b[2J").write_text(f"\x1b[2J{MARKER}")
        shown = infill("x\x1b[2J", "--explain").stderr
        assert "\x1b" not in shown
        assert '"\\x1b[2J"' in shown


def test_stats_go_to_stderr_even_when_quiet(infill: Infill) -> None:
    result = infill("app.py:2", "--stats", "--quiet", "--candidates", 2)
    prompt, output = result.stderr.splitlines()
    assert re.fullmatch(r"prompt \d+ tokens at .* tokens/s, first token after .* s", prompt)
    assert re.fullmatch(r"output \d+ tokens at .* tokens/s, ended by \w+, seed \d+", output)


def test_model_that_cannot_infill_is_an_error_of_the_model(
    program: Program, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in model_folder.iterdir():
        data = file.read_bytes()
        (folder / file.name).write_bytes(data.replace(b"<fim_middle>", b"<fim_muddle>"))
    lines = [json.dumps({"prefix": "x", "suffix": ""})] * 2
    for args in (["--prefix", "x"], ["--jsonl", "-"]):
        result = program("infill", "-m", folder, *args, stdin="\n".join(lines).encode())
        assert refusal(result, 3) == "the model has no fill-in-the-middle tokens"
        assert "hint: " in result.stderr
    other = program("infill", "-m", model_folder, "--prefix", "x", "--dialect", "santacoder")
    assert refusal(other).startswith("the model has no fill-in-the-middle tokens of the dialect")
