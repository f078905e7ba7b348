"""``bigcode score`` on a terminal, and interrupted."""

import json
import math
import re
import signal
import subprocess
import time
from itertools import groupby
from pathlib import Path
from statistics import fmean

import pytest

from bigcode_cli.cli.heat import level
from bigcode_cli.engine.session import Session
from bigcode_cli.records import TokenScore
from tests.cli.running import Program, command, environment
from tests.cli.scores import OTHER, TEXT, Score, rows, scored, tokens
from tests.cli.screen import Screen, Typist
from tests.cli.test_terminal import DEADLINE_S, on_terminal

SGR = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "x = '\x1b[2J\u202e'\n\ty = '日本語" + "z" * 200 + "'\n"
LONG = "def function(value):\n    return value * 17 + 4\n" * 400


@pytest.fixture
def files(_alone: None) -> list[str]:
    """Files in the working folder, the last with a hostile name."""
    texts = {"a.py": TEXT, "b.py": OTHER, "\x1b[31m\n": "x = 1\n"}
    for name, text in texts.items():
        Path(name).write_bytes(text.encode())
    return list(texts)


def shown(score: Score, *args: object, **options: object) -> list[str]:
    """The lines on a terminal, without their styles."""
    result = score(*args, stdout_terminal=True, **options)
    assert (result.code, result.stderr) == (0, "")
    return SGR.sub("", result.stdout.decode()).removesuffix("\n").split("\n")


def mean_bits(told: list[TokenScore]) -> list[float]:
    """Of each line's tokens."""
    by_line = groupby(told, key=lambda token: token.line)
    return [fmean(token.bits or 0 for token in line) for _, line in by_line]


class TestTables:
    def test_files_are_rows_under_titles_over_a_total(
        self, score: Score, session: Session, files: list[str]
    ) -> None:
        title, *table, total = shown(score, *files)
        assert title == "perplexity  bits/byte      tokens  path"
        names = ["a.py", "b.py", "\\x1b[31m "]
        for line, name, text in zip(table, names, (TEXT, OTHER, "x = 1\n"), strict=True):
            done = scored(session, text)
            cells = line[:10], line[12:21], line[23:33], line[35:]
            assert float(cells[0].replace(",", "")) == pytest.approx(done.perplexity, rel=1e-4)
            assert cells[1:] == (f"{done.bits_per_byte:>9.3f}", f"{done.tokens:>10,}", name.strip())
        assert total.endswith("  total of 3 texts")
        assert len(shown(score, "a.py")) == 2

    def test_what_has_no_figures_has_dashes(self, score: Score) -> None:
        Path("empty").touch()
        Path("a").write_text("x")
        assert shown(score, "empty", "a")[1].split() == ["-", "-", "0", "empty"]

    def test_lines_are_cropped_and_escaped(
        self, score: Score, session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "70")
        Path("h").write_text(HOSTILE)
        title, one, two, facts = shown(score, "h", "--by", "line")
        assert title == "     bits  bits/byte    line  h"
        bits = sum(token.bits or 0 for token in tokens(session, HOSTILE) if token.line == 1)
        assert one.split(maxsplit=2)[0] == f"{bits:.2f}"
        assert one.endswith("     1  x = '\\x1b[2J\\u202e'")
        assert re.search(r"     2          y = '日本語z+…$", two)
        assert len(two) + len("日本語") == 70
        assert facts.startswith("perplexity ")

    def test_tokens_are_rows(self, score: Score, session: Session) -> None:
        Path("h").write_text(HOSTILE)
        title, *table, facts = shown(score, "h", "--by", "token")
        assert title == "   bits    rank  entropy    line:col  h"
        for line, token in zip(table, tokens(session, HOSTILE), strict=True):
            bits, rank, entropy, place, text = line.split(maxsplit=4)
            assert (bits, rank) == (f"{token.bits:.2f}", str(token.rank))
            assert entropy == f"{(token.entropy or 0) / math.log(2):.2f}"
            assert place == f"{token.line}:{token.column}"
            if "\\u202e" not in text:
                assert json.loads(text) == token.data.decode("utf-8", "replace")
        assert facts.endswith(f"{len(table)} tokens")

    def test_figures_of_parts_have_the_heatmap_s_colours(
        self, score: Score, session: Session
    ) -> None:
        Path("a.py").write_bytes((TEXT + OTHER).encode())
        told = tokens(session, TEXT + OTHER)
        for by, levels in (
            ("token", [level(token.bits or 0) for token in told]),
            ("line", [level(bits) for bits in mean_bits(told)]),
        ):
            lines = score("a.py", "--by", by, stdout_terminal=True).stdout.decode().splitlines()
            looks = [SGR.match(line) for line in lines[1:-1]]
            assert [look is not None for look in looks] == [one > 0 for one in levels]
            assert len({look[0] for look in looks if look}) == len({one for one in levels if one})
            assert len(set(levels)) > 1

    @pytest.mark.parametrize("by", ["line", "token"])
    def test_several_texts_stand_under_their_names(
        self, score: Score, files: list[str], by: str
    ) -> None:
        lines = shown(score, *files, "--by", by)
        blank = [place for place, line in enumerate(lines) if not line]
        titles = [lines[0], *(lines[place + 1] for place in blank[:-1])]
        assert [title.split(maxsplit=3 + (by == "token"))[-1] for title in titles] == [
            "a.py", "b.py", "\\x1b[31m"
        ]  # fmt: skip
        assert lines[-1].startswith("total of 3 texts: perplexity ")

    def test_models_are_columns(self, score: Score, model_folder: Path, files: list[str]) -> None:
        Path("a-model-with-a-rather-long-name").symlink_to(model_folder)
        title, *table, total, told = shown(score, *files, "-m", "./a-model-with-a-rather-long-name")
        first, second, caption = title.split(maxsplit=2)
        assert first == f"…{str(model_folder)[-23:]}"
        assert second == "…with-a-rather-long-name"
        assert caption == "bits/byte of"
        for line in (*table, total):
            one, other, _ = line.split(maxsplit=2)
            assert one == other
        assert "+0.0000 bits/byte, 95 % interval +0.0000 to +0.0000" in told

    def test_json_is_as_in_a_pipe(self, score: Score, files: list[str]) -> None:
        piped = score(*files, "--json", "--by", "token")
        assert score(*files, "--json", "--by", "token", stdout_terminal=True) == piped


class TestHeatmap:
    def test_it_stands_in_the_place_of_the_table(self, score: Score, files: list[str]) -> None:
        lines = shown(score, *files, "--heatmap")
        assert "bits a token" in lines[0]
        text = "\n".join(lines)
        for line in TEXT.splitlines():
            assert line in re.sub(" \n", "\n", text) or line in text
        facts = [line for line in lines if line.startswith("perplexity ")]
        assert len(facts) == 3
        assert lines[-1].startswith("total of 3 texts: perplexity ")
        assert "path" not in text

    def test_a_page_goes_beside_it(self, score: Score, files: list[str]) -> None:
        assert shown(score, *files, "--heatmap", "--html", "p.html") == shown(
            score, *files, "--heatmap"
        )
        assert Path("p.html").read_text().count("<section") == 3


def test_rows_and_the_bar_leave_each_other_alone(score: Score, model_folder: Path) -> None:
    Path("src").mkdir()
    for number in range(12):
        Path(f"src/{number:02}.py").write_text(LONG)
    args = command("score", "-m", model_folder, "src", "--context", 256, "--threads", 1)
    with Typist(args, environment(), rows=30) as typist:
        typist.wait_for(lambda screen: "scoring ━" in str(screen))
        typist.wait_for(lambda screen: bar_is_below(screen) and "01.py" in str(screen))
        assert typist.wait() == 0
        lines = [line for line in typist.screen.lines if line]
    assert [line.split()[-1] for line in lines[1:-1]] == [row[2] for row in rows(
        score("src", "--context", 256)
    )]  # fmt: skip
    assert lines[-1].endswith("total of 12 texts")
    assert "scoring" not in "\n".join(lines)


def bar_is_below(screen: Screen) -> bool:
    """Whether the last line is the bar and the others are rows."""
    *above, last = [line for line in screen.lines if line] or [""]
    return "scoring ━" in last and not any("━" in line for line in above)


class TestInterrupt:
    @pytest.fixture
    def many(self, _alone: None) -> None:
        """Files that take long."""
        Path("src").mkdir()
        for number in range(400):
            Path(f"src/{number:03}.py").write_text(LONG)

    @pytest.mark.usefixtures("many")
    @pytest.mark.parametrize("form", [[], ["--json"], ["--by", "line"]])
    def test_rows_stay(self, model_folder: Path, form: list[str]) -> None:
        with subprocess.Popen(
            command("score", "-m", model_folder, "src", "--context", 256, *form),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            told = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            told += process.stdout.read()
            assert (process.wait(DEADLINE_S), process.stderr.read()) == (130, b"")
        lines = told.decode().splitlines()
        assert "src/000.py" in lines[0]
        assert "src/399.py" not in lines[-1]
        assert "total" not in lines[-1]

    @pytest.mark.usefixtures("many")
    def test_a_page_and_a_file_keep_what_is_there(self, model_folder: Path) -> None:
        with subprocess.Popen(
            command(
                "score", "-m", model_folder, "src", "--context", 256, "--html", "p.html",
                "-o", "out",
            ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        ) as process:  # fmt: skip
            until = time.monotonic() + DEADLINE_S
            while not all([path.stat().st_size for path in Path().glob(".bigcode-*.tmp")] or [0]):
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert process.communicate() == (b"", b"")
            assert process.returncode == 130
        assert "src/000.py" in Path("out").read_text()
        page = Path("p.html").read_text()
        assert page.endswith("</html>\n")
        assert "src/000.py" in page

    @pytest.mark.usefixtures("many")
    def test_a_reader_that_goes_away_ends_it_quietly(self, model_folder: Path) -> None:
        with subprocess.Popen(
            command("score", "-m", model_folder, "src", "--context", 256),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert (process.stderr.read(), process.wait(DEADLINE_S)) == (b"", 0)


def test_a_real_terminal_shows_the_table(model_folder: Path) -> None:
    Path("a.py").write_text(TEXT)
    code, told, stderr = on_terminal("score", "-m", model_folder, "a.py")
    assert (code, stderr) == (0, b"")
    assert SGR.sub("", told).splitlines()[1].endswith("  a.py")


def test_a_dumb_terminal_has_no_heatmap(
    program: Program, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    Path("a.py").write_text(TEXT)
    result = program("score", "-m", model_folder, "a.py", "--heatmap", stdout_terminal=True)
    assert (result.code, result.stdout) == (2, b"")
    assert "--html FILE" in result.stderr
