"""Pages are read back with the standard library's parser, as a browser would."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli import html
from bigcode_cli.cli.html import Page, Paint, Swatch
from bigcode_cli.errors import OutputError
from bigcode_cli.text.terminal import escape_control

LEGEND = [Swatch("plain"), Swatch("loud", Paint("#fff", "#000"), Paint("#000", "#fff"))]
PAGE = Path("page")
HOSTILE = "<script>alert(1)</script>&amp;</pre></div><b x=\"'>'\" onclick=1>]]><!--\n"
BIDI = "\u202eabc\u2066\x1b[31m\x00\x85"


@dataclass
class Reader(HTMLParser):
    """What a page shows.

    Attributes:
        texts: of each section, as copied from the page.
        numbers: of the lines of each section.
        tips: with the text and class that have them.
    """

    texts: list[str] = field(default_factory=list)
    numbers: list[list[int]] = field(default_factory=list)
    tips: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        if tag != "meta":
            self._open.append((tag, named))
        if named.get("class") == "text":
            self.texts.append("")
            self.numbers.append([])
        if number := named.get("data-n"):
            self.numbers[-1].append(int(number))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if any(named.get("class") == "text" for _, named in self._open):
            self.texts[-1] += data
            tag, named = self._open[-1]
            if tag == "span":
                self.tips.append((data, named.get("class"), named.get("data-tip")))


def read() -> Reader:
    reader = Reader()
    reader.feed(PAGE.read_text(encoding="utf-8"))
    reader.close()
    assert not reader._open
    return reader


def one_text(*parts: tuple[str, int | None, str | None]) -> Reader:
    with Page(PAGE, "title", legend=LEGEND) as page:
        page.section("name")
        for part in parts:
            page.text(*part)
        page.end("facts")
    return read()


class TestText:
    def test_text_is_shown_as_it_is(self) -> None:
        text = "def f():\n\treturn 1\n\n\nno newline at the end"
        page = one_text((text, None, None))
        assert page.texts == [text]
        assert page.numbers == [[1, 2, 3, 4, 5]]

    def test_a_last_newline_begins_no_line(self) -> None:
        assert one_text(("a\n\n", None, None)).numbers == [[1, 2]]

    def test_empty_text_has_no_line(self) -> None:
        page = one_text(("", None, None))
        assert (page.texts, page.numbers) == ([""], [[]])

    def test_markup_in_it_is_text(self) -> None:
        plain = one_text(("x\n", 1, "tip"))
        page = one_text((HOSTILE, 1, HOSTILE))
        assert page.tags == plain.tags
        assert page.texts == [HOSTILE]
        assert page.tips == [(HOSTILE[:-1], "s1", HOSTILE), ("\n", "s1", HOSTILE)]

    def test_controls_are_escaped(self) -> None:
        page = one_text((BIDI, 1, BIDI))
        shown = r"\u202eabc\u2066\x1b[31m\x00\x85"
        assert page.tips == [(shown, "s1", shown)]

    @pytest.mark.parametrize(
        "parts", [["a\r\nb\r\n"], ["a\r", "\nb\r\n"], ["a", "\r", "\n", "b\r\n"]]
    )
    def test_line_ends_of_windows_are_line_ends(self, parts: list[str]) -> None:
        page = one_text(*((part, None, None) for part in parts))
        assert page.texts == ["a\nb\n"]
        assert page.numbers == [[1, 2]]

    def test_lone_carriage_return_keeps_its_own_style(self) -> None:
        page = one_text(("a\r", 1, "first"), ("b\r", 0, "second"))
        assert [(style, tip) for _, style, tip in page.tips] == [
            ("s1", "first"),
            ("s1", "first"),
            ("s0", "second"),
            ("s0", "second"),
        ]
        assert page.texts == [r"a\x0db\x0d"]

    def test_part_over_several_lines_has_its_style_on_each(self) -> None:
        page = one_text(("a\n    b", 1, "tip"))
        assert page.tips == [(text, "s1", "tip") for text in ("a", "\n", "    b")]

    @given(
        parts=st.lists(
            st.tuples(st.text(alphabet='a<&"\r\n\t\u202e中', max_size=6), st.none() | st.just(1))
        )
    )
    def test_any_text_in_any_parts(self, parts: list[tuple[str, int | None]]) -> None:
        page = one_text(*((text, style, None) for text, style in parts))
        whole = "".join(text for text, _ in parts)
        assert page.texts == [escape_control(whole).replace("\r\n", "\n")]
        lines = whole.count("\n") + bool(whole.rpartition("\n")[2])
        assert page.numbers == [list(range(1, lines + 1))]

    def test_lines_come_in_chunks(self) -> None:
        text = "x\n" * (2 * html.CHUNK_LINES + 1)
        page = one_text((text, None, None))
        assert page.texts == [text]
        assert PAGE.read_text().count('class="chunk"') == 3


class TestPage:
    def test_runs_and_loads_nothing(self) -> None:
        one_text(("x", 1, "tip"))
        markup = PAGE.read_text()
        assert "default-src 'none'; style-src 'sha256-" in markup
        assert "http://" not in markup
        assert "https://" not in markup
        assert " style=" not in markup

    def test_legend_tells_all_styles(self) -> None:
        with Page(PAGE, "t", legend=[Swatch("<1"), LEGEND[1]], caption="&") as page:
            page.section("a")
            page.end("")
        words = read().words
        assert "& <1loud" in words
        assert ".s1 { background: #fff; color: #000 }" in words

    def test_several_texts_have_a_table_of_contents(self) -> None:
        with Page(PAGE, "t", legend=LEGEND) as page:
            for name in ("a<b>.py", "undecodable \udcff.py"):
                page.section(name)
                page.text("x\n")
                page.end(f"facts of {name}")
            page.total("of both")
        words = read().words
        assert words.count("a<b>.py") == 4  # heading and facts, each here and there
        assert words.count(r"facts of undecodable \udcff.py") == 2
        assert '<a href="#t2">' in PAGE.read_text()
        assert words.rstrip().endswith("of both")

    def test_one_text_needs_none(self) -> None:
        assert "nav" not in one_text(("x", None, None)).tags

    def test_page_without_a_text_is_a_page(self) -> None:
        with Page(PAGE, "nothing", legend=LEGEND):
            pass
        assert read().texts == []

    def test_is_written_as_it_comes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(html, "BUFFER_CHARACTERS", 1000)
        with Page(PAGE, "t", legend=LEGEND) as page:
            page.section("a")
            for _ in range(100):
                page.text("some text\n" * 10)
            (growing,) = (path for path in Path().iterdir())
            assert growing.stat().st_size > 10_000
            page.end("")


class TestEnd:
    def begun(self) -> Page:
        PAGE.write_text("old")
        page = Page(PAGE, "t", legend=LEGEND)
        page.section("a")
        page.text("so far")
        return page

    def test_error_leaves_the_old_page(self) -> None:
        self.begun().__exit__(RuntimeError, RuntimeError(), None)
        assert PAGE.read_text() == "old"
        assert [path.name for path in Path().iterdir()] == ["page"]

    def test_interrupt_keeps_what_is_there(self) -> None:
        self.begun().__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        page = read()
        assert page.texts == ["so far"]
        assert "interrupted" in page.words

    def test_interrupt_before_any_text_leaves_the_old_page(self) -> None:
        PAGE.write_text("old")
        page = Page(PAGE, "t", legend=LEGEND)
        page.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        assert PAGE.read_text() == "old"

    def test_what_cannot_be_written_is_told_at_once(self) -> None:
        with pytest.raises(OutputError, match="is a folder"):
            Page(Path(), "t", legend=LEGEND)
