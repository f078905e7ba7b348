"""What the terminal is sent is read as runs of text with a style."""

import re
from collections.abc import Sequence
from contextlib import redirect_stdout

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigcode_cli.cli.heat import LEGEND, ON_DARK, ON_LIGHT
from bigcode_cli.cli.heatmap import HeatPage, describe, open_heatmap
from bigcode_cli.cli.html import Paint
from bigcode_cli.cli.output import open_answer
from bigcode_cli.errors import UsageError
from bigcode_cli.records import TokenScore
from bigcode_cli.text.terminal import escape_control
from tests.cli.running import Stream
from tests.cli.scored import token
from tests.cli.test_html import HOSTILE, PAGE, read

SGR = re.compile(r"\x1b\[([0-9;]*)m")
NAME, END = r"0 \x1b.py", "facts of 0\n\nall of it\n"
LOUD, LOUDEST = 12.0, 20.0
STARTS = (1, 2, 3, 5, 7, 10, 14)
"""Bits at which the levels above the first begin."""


class Terminal(Stream):
    """A terminal in true colour, and what it is sent."""

    def __init__(self) -> None:
        super().__init__(terminal=True)

    @property
    def runs(self) -> list[tuple[str, str]]:
        """Style and text of each run. rich resets each style behind its run."""
        self.flush()
        first, *rest = SGR.split(self.bytes.getvalue().decode())
        runs = [("", first), *zip(rest[::2], rest[1::2], strict=True)]
        return [(style.removeprefix("0"), text) for style, text in runs if text]

    @property
    def shown(self) -> str:
        return "".join(text for _, text in self.runs)

    def style_of(self, text: str) -> str:
        (style,) = {style for style, run in self.runs if text in run}
        return style

    def show(self, *texts: Sequence[TokenScore]) -> None:
        """A heatmap of texts."""
        with redirect_stdout(self), open_answer(None, "utf-8") as answer:
            view = open_heatmap(answer)
            for number, tokens in enumerate(texts):
                view.begin(f"{number}\n\x1b.py")
                for one in tokens:
                    view.push([one])
                view.end(f"facts of {number}")
            view.total("all of it")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.delenv("COLORFGBG", raising=False)
    return Terminal()


def rgb(paint: Paint | None) -> str:
    assert paint
    ink, ground = (
        ";".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
        for colour in (paint.ink, paint.ground)
    )
    return f"38;2;{ink};48;2;{ground}"


class TestTerminal:
    def test_shows_legend_name_text_and_facts(self, terminal: Terminal) -> None:
        terminal.show([token("def f():"), token("\n\t"), token("x", LOUD)])
        legend, blank, *rest = terminal.shown.splitlines()
        assert legend.split() == ["bits", "a", "token:", *(swatch.label for swatch in LEGEND)]
        assert (blank, rest) == ("", [NAME, "def f():", "\tx", *END.splitlines()])

    @pytest.mark.parametrize(
        ("ground", "paints"),
        [("", ON_DARK), ("15;0", ON_DARK), ("0;15", ON_LIGHT), ("0;default;15", ON_LIGHT)],
    )
    def test_each_level_has_its_colour(
        self,
        terminal: Terminal,
        monkeypatch: pytest.MonkeyPatch,
        ground: str,
        paints: tuple[Paint | None, ...],
    ) -> None:
        monkeypatch.setenv("COLORFGBG", ground)
        terminal.show(
            [token("[0]", 0), token("[no]", None), *(token(f"[{bits}]", bits) for bits in STARTS)]
        )
        assert terminal.style_of("[0]") == terminal.style_of("[no]") == ""
        for bits, paint in zip(STARTS, paints[1:], strict=True):
            assert terminal.style_of(f"[{bits}]") == rgb(paint)

    def test_without_colours_levels_are_set_off_by_other_means(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        terminal.show([token(f"[{bits}]", bits) for bits in STARTS])
        assert terminal.runs[:4] == [
            ("", "bits a token:  <2 "),
            ("4", " 2–5 "),
            ("1;4", " 5–10 "),
            ("7", " ≥10 "),
        ]
        assert [terminal.style_of(f"[{bits}]") for bits in STARTS] == [
            *[""],
            *["4"] * 2,
            *["1;4"] * 2,
            *["7"] * 2,
        ]

    def test_surprising_line_end_is_a_coloured_blank_and_colours_no_other_line(
        self, terminal: Terminal
    ) -> None:
        terminal.show([token("x"), token("\r\n\n  ", LOUDEST), token("y"), token("\n")])
        runs = terminal.runs
        assert "x \r\n \n  y\n" + END in terminal.shown
        assert all(not style for style, text in runs if "\n" in text)
        assert [text for style, text in runs if style == rgb(ON_DARK[-1])][-3:] == [" ", " ", "  "]

    def test_markup_and_controls_are_text(self, terminal: Terminal) -> None:
        text = HOSTILE + "[bold red]x[/] :smile: \x1b[31m\u202e\r"
        terminal.show([token(text, LOUD)])
        assert escape_control(text).replace("\n", " \n") in terminal.shown

    def test_control_keeps_the_colour_of_its_own_token(self, terminal: Terminal) -> None:
        terminal.show([token("\r", LOUDEST), token("x", 0)])
        assert terminal.style_of(r"\x0d") == rgb(ON_DARK[-1])

    def test_missing_last_newline_is_added(self, terminal: Terminal) -> None:
        terminal.show([token("x\r")])
        assert terminal.shown.endswith("x\\x0d\n" + END)

    @pytest.mark.parametrize(("lines", "legends"), [(3, 1), (30, 2)])
    def test_legend_comes_again_when_it_is_off_the_screen(
        self, terminal: Terminal, lines: int, legends: int
    ) -> None:
        terminal.show([token("x\n")] * lines)
        assert terminal.shown.count("bits a token") == legends

    def test_several_texts_are_set_off(self, terminal: Terminal) -> None:
        terminal.show([token("x\n")], [])
        texts = terminal.shown.partition("\n\n")[2]
        assert texts == ("0 \\x1b.py\nx\nfacts of 0\n\n1 \\x1b.py\nfacts of 1\n\nall of it\n")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(parts=st.lists(st.text(alphabet="a\r\n\t\x1b中é", max_size=5)))
    def test_any_text_is_shown_whole(self, terminal: Terminal, parts: list[str]) -> None:
        terminal.flush()
        terminal.bytes.seek(0)
        terminal.bytes.truncate()
        terminal.show([token(part) for part in parts])
        text = escape_control("".join(parts))
        ended = text if not text or text.endswith("\n") else text + "\n"
        assert terminal.shown.endswith(f"{NAME}\n{ended}{END}")


class TestNoTerminal:
    def test_file_or_pipe_is_refused(self) -> None:
        with (
            redirect_stdout(Stream()),
            pytest.raises(UsageError, match="stdout is none"),
        ):
            open_heatmap(open_answer(None, "utf-8"))

    def test_terminal_that_shows_no_styles_is_refused(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "dumb")
        with pytest.raises(UsageError, match="a terminal that shows colours"):
            terminal.show([])
        assert not terminal.shown


class TestPage:
    def test_each_token_has_its_figures(self) -> None:
        with HeatPage(PAGE, "title") as page:
            page.begin("app.py")
            page.push([token("def", 0.25), token(" f", LOUD, rank=1234), token("\n", None)])
            page.end("the facts")
            page.total("of all")
        shown = read()
        assert shown.texts == ["def f\n"]
        assert shown.tips == [
            ("def", "s0", "'def'\n0.25 bits · rank 1 · entropy 2.00 bits"),
            (" f", "s6", "' f'\n12.00 bits · rank 1,234 · entropy 2.00 bits"),
        ]
        assert "the facts" in shown.words
        assert "of all" in shown.words

    def test_tokens_that_share_a_character_are_told_together(self) -> None:
        data = "é".encode()
        with HeatPage(PAGE, "title") as page:
            page.begin("app.py")
            page.push([token(data[:1], 2)])
            page.push([token(data[1:], LOUD)])
            page.end("")
        ((text, style, tip),) = read().tips
        assert (text, style) == ("é", "s6")
        assert tip
        assert [line for line in tip.splitlines() if "bits" not in line] == [
            r"b'\xc3'",
            r"b'\xa9'",
        ]

    def test_interrupt_keeps_what_is_there(self) -> None:
        page = HeatPage(PAGE, "title")
        page.begin("app.py")
        page.push([token("so far")])
        page.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert read().texts == ["so far"]

    def test_tips_spell_what_cannot_be_seen(self) -> None:
        told = describe(token("\t\n\u202e "))
        assert told
        assert told.startswith(r"'\t\n\u202e '" + "\n")
        assert describe(token("x", None)) is None
