"""Where middles end: the scanner against a twin that sees the whole output at once."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.records import Span
from bigcode_cli.text import blocks, middle, repeats, source
from bigcode_cli.text.middle import MiddleScanner, Opening, choose_span, open_middle
from tests.text.middles import whole_middle

LINES = (
    "def f(a):",
    "    if a:",
    "        return 1",
    "    else:",
    "    x = a",
    "    return x",
    "    y = [",
    "        1,",
    "    ]",
    '    """Text',
    "of it.",
    '    """',
    "    pass",
    "    # note",
    "    @f",
    "    def g():",
    "\tz = (a",
    "\t     )",
    "g(1)",
    "}",
    ")",
    "",
    "",
    "   ",
    "\f",
    "    return x\r",
)
pieces = st.one_of(
    st.sampled_from(LINES).map(lambda line: line + "\n"),
    st.sampled_from(LINES),
    st.sampled_from([*"ab:\n\r \t()[]\"'#\\", " = ", "return", "    ", "\n    ", '"""']),
)
codes = st.lists(pieces, max_size=9).map("".join)
spans = st.sampled_from(["eos", "line", "block"])
stop_texts = st.lists(st.sampled_from(["\n\n", "x", "return", "):"]), max_size=2).map(tuple)


@st.composite
def segmentations(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def outputs(draw: st.DrawFn) -> tuple[str, str, str]:
    """Prefix, suffix and an output that often goes on with the suffix."""
    prefix, suffix = draw(codes), draw(codes)
    goes_on = draw(st.sampled_from(["", suffix, suffix[:9], suffix.lstrip("\n"), suffix[:25]]))
    return prefix, suffix, draw(codes) + goes_on + draw(codes)


def check(
    segments: Sequence[str],
    prefix: str,
    suffix: str,
    span: Span,
    texts: tuple[str, ...] = (),
    *,
    is_python: bool = True,
    cut_overlap: bool = True,
) -> None:
    expected = whole_middle(
        prefix,
        suffix,
        "".join(segments),
        span=span,
        texts=texts,
        is_python=is_python,
        cut_overlap=cut_overlap,
    )
    scanner = MiddleScanner(
        prefix, suffix, span=span, texts=texts, is_python=is_python, cut_overlap=cut_overlap
    )
    shown = ""
    for segment in segments:
        was_stopped = scanner.stopped
        part = scanner.push(segment)
        assert not (was_stopped and part), "nothing after the end"
        shown += part
        assert expected.startswith(shown), "nothing is shown that is taken back"
        assert not scanner.stopped or shown == expected
    shown += scanner.flush()
    assert shown == expected
    assert scanner.flush() == "" or not scanner.stopped


@settings(max_examples=1000)
@given(outputs(), spans, stop_texts, st.booleans(), st.booleans(), st.data())
def test_any_segmentation_equals_the_twin_on_the_whole_text(
    output: tuple[str, str, str],
    span: Span,
    texts: tuple[str, ...],
    is_python: bool,
    cut_overlap: bool,
    data: st.DataObject,
) -> None:
    prefix, suffix, text = output
    segments = data.draw(segmentations(text))
    check(segments, prefix, suffix, span, texts, is_python=is_python, cut_overlap=cut_overlap)


@settings(max_examples=500)
@given(outputs(), spans)
def test_single_characters_equal_the_twin_on_the_whole_text(
    output: tuple[str, str, str], span: Span
) -> None:
    prefix, suffix, text = output
    check(text, prefix, suffix, span)


def middle_of(
    prefix: str,
    text: str,
    suffix: str,
    *,
    span: Span | None = None,
    texts: tuple[str, ...] = (),
    is_python: bool = True,
    width: int = 3,
    lead: str = "",
) -> str:
    scanner = MiddleScanner(
        prefix,
        suffix,
        span=span or choose_span(suffix),
        texts=texts,
        is_python=is_python,
        lead=lead,
    )
    shown = [scanner.push(text[i : i + width]) for i in range(0, len(text), width)]
    return "".join([*shown, scanner.flush()])


def test_a_line_where_the_suffix_continues_the_holes_line_else_a_block() -> None:
    assert choose_span(")\n") == "line"
    assert choose_span("    return 1\n") == "line"
    assert choose_span("\nreturn\n") == "block"
    assert choose_span("  \t\r\n)") == "block"
    assert choose_span("") == "block"


class TestLine:
    def test_it_ends_before_its_first_line_end_always(self) -> None:
        assert middle_of("x = [", "1, 2\n3", "]\n") == "1, 2"
        assert middle_of("x = [", "1, 2\r\n3", "]\n") == "1, 2"
        assert middle_of("x = [", "\n1, 2", "]\n") == ""
        assert middle_of("x = [", "\r\n1, 2", "]\n") == ""
        assert middle_of("x = [", "1\r2", "]\n") == "1\r2"
        assert middle_of("x = [", "1\r", "]\n") == "1\r"
        assert middle_of("x = ", "1\n2", "\n", span="line") == "1"

    def test_the_rest_of_the_line_is_not_written_twice(self) -> None:
        assert middle_of("print(", 'x, end="")\ny', ', end="")\n') == "x"
        assert middle_of("if a", " > 1:\n    b", ":\n    b\n") == " > 1"
        assert middle_of("    retur", "n self.x\n\n", "self.x\n") == "n "
        assert middle_of("foo(", "a, b))\n", ")\n") == "a, b)"
        assert middle_of("foo(", "a)\n", ")\n") == "a"

    def test_a_bracket_that_all_else_lacks_is_no_repetition(self) -> None:
        assert middle_of("foo(bar(", "a)\n", ")\n") == "a)"
        assert middle_of("foo(bar[", "a]\n", ")\n") == "a]"
        assert middle_of("x = foo(bar(", "[a])\ny", ")\n") == "[a])"
        assert middle_of("foo(\n    bar(", "a)\n", ")\n") == "a)"
        assert middle_of("foo(\n    bar(", "a)\n", ")\n)\n") == "a"

    def test_without_a_line_end_a_short_rest_may_be_right(self) -> None:
        assert middle_of("foo(", "a)", ")\n") == "a)"
        assert middle_of("import ", "os as o", "o\n") == "os as o"

    def test_a_long_run_of_the_rest_is_cut_wherever_it_begins(self) -> None:
        rest = ", timeout=30, retries=5)\n"
        assert middle_of("get(", "url, timeout=30, retries=5)", rest) == "url"
        assert middle_of("get(", "url, timeout=30, retr", rest) == "url"
        assert middle_of("get(", "url, timeout=3, r", rest) == "url, timeout=3, r"
        assert middle_of("get(url", ", timeout=30, retries=5)\n", rest) == ""

    def test_a_whole_line_before_another_keeps_what_looks_alike(self) -> None:
        assert middle_of("x = [\n", "    foo()\n", ")\n") == "    foo()"
        assert middle_of("a\n", "    b\n", "    b\n    c\n") == "    b"
        assert middle_of("", "import os\n", "import os\n") == "import os"

    def test_overlap_is_cut_on_demand_alone(self) -> None:
        scanner = MiddleScanner("get(", ", b)\n", span="line", is_python=True, cut_overlap=False)
        assert scanner.push("a, b)\n") == "a, b)"


FUNCTION = "def f(a):\n    "
NEXT = "\n\n\ndef g():\n    pass\n"


class TestBlock:
    def test_it_ends_at_a_dedent_without_the_blank_lines_before_it(self) -> None:
        assert (
            middle_of(FUNCTION, "b = a\n    return b\n\n\ndef h():", NEXT) == "b = a\n    return b"
        )
        assert middle_of("def f(a):", "\n    if a:\n        x\n    y\nz", NEXT) == (
            "\n    if a:\n        x\n    y"
        )
        assert middle_of("if a:\n\t", "b\n\tc\nd", "\n") == "b\n\tc"
        assert middle_of("if a {\n  ", "b;\n  c;\n}\nd", "\n}\n", is_python=False) == "b;\n  c;"

    def test_the_blanks_before_the_hole_are_its_indentation(self) -> None:
        assert middle_of("class A:\n    def f(self):\n        ", "x\n    y", "\n") == "x"
        assert middle_of("class A:\n    def f(self):\n        ", "\n    y", "\n") == ""
        assert middle_of("class A:\n", "    x = 1\n    y = 2\nz", "\n") == "    x = 1\n    y = 2"

    def test_no_line_within_brackets_or_strings_is_a_dedent(self) -> None:
        text = 'b = """\ntext\n"""\n    c = [\n1,\n]\n    return c'
        assert middle_of(FUNCTION, text + "\nx", NEXT) == text
        assert middle_of("  a = f(", "[\n 1\n],\n    2)\nb", "\n", is_python=False) == (
            "[\n 1\n],\n    2)"
        )

    def test_a_bracket_still_missing_ends_the_block_behind_it(self) -> None:
        assert middle_of("x = f(", "\n    a,\n    b,\n)\ny = 1\nz", "\n\nprint(x)\n") == (
            "\n    a,\n    b,\n)"
        )
        assert middle_of("x = f(", "\n    a,\n)\ny", "\n)\n") == "\n    a,"
        assert middle_of("f() {", "\n  a\n}\nb", "\n", is_python=False) == "\n  a\n}"
        assert middle_of("f() {", "\n  a\n}\nb", "\n}\n", is_python=False) == "\n  a"

    def test_the_rest_of_a_statement_ends_where_the_file_parses(self) -> None:
        assert middle_of("x = ", "1\ny = 2\n", "\nz = 3\n") == "1"
        assert middle_of("x = ", "[\n    1,\n]\ny = 2\n", "\nz = 3\n") == "[\n    1,\n]"
        assert middle_of("f(\n    a=", "1,\n    c=2,\n", "\n    b=2,\n)\n") == "1,"
        assert middle_of("x = 1", "  # one\ny = 2\n", "\n") == "  # one"

    def test_a_rest_that_opens_a_block_is_the_whole_of_it(self) -> None:
        body = 'a):\n    """Say.\n\n    More.\n    """\n    b = a\n    return b'
        assert middle_of("def f(", body + "\n\nf(1)\n", "\n\nprint(f(2))\n") == body

    def test_whole_statements_end_where_the_file_last_parsed(self) -> None:
        text = "b = a\n    c = b"
        assert middle_of(FUNCTION, text, NEXT) == text
        assert middle_of(FUNCTION, text + "\n    d = (", NEXT) == text
        assert middle_of(FUNCTION, text + "\n    if d:\n", NEXT) == text
        assert middle_of(FUNCTION, text + "\n    d = (\nx", NEXT) == text
        assert middle_of(FUNCTION, "d = (", NEXT) == "d = ("
        assert middle_of("try:\n    ", "b = (\n", NEXT) == "b = ("

    def test_what_the_model_ends_is_left_as_it_is_but_for_blank_lines(self) -> None:
        assert middle_of(FUNCTION, "return a\n\n", NEXT) == "return a"
        assert middle_of(FUNCTION, "return a\n", "") == "return a\n"
        assert middle_of(FUNCTION, "\n\n    \n", NEXT) == ""
        assert middle_of("x\n", "y\n\n", "z\n", span="block") == "y\n\n"

    def test_whole_lines_of_the_suffix_are_not_written_twice(self) -> None:
        suffix = "\n\n    return b\n"
        assert middle_of(FUNCTION, "b = a\n    return b\n    more\n", suffix) == "b = a"
        assert middle_of(FUNCTION, "b = a\n\n\n    return b", suffix) == "b = a"
        assert middle_of(FUNCTION, "b = a\n    return b", "\n    return b") == "b = a"
        assert middle_of("def f(a):", "\n    return b\n    x", "\n    return b\n") == ""
        assert middle_of("x\n", "y\nz = 1\nw\n", "z = 1\n", span="block") == "y\n"

    def test_one_commonplace_line_is_no_repetition_two_are(self) -> None:
        prefix = "def f(a):\n    if a:\n        "
        text = "b = a\n        return\n        c = b"
        assert middle_of(prefix, text, "\n        return\n    d = a\n") == text
        assert (
            middle_of(
                "def f(a):\n    while a:\n        ",
                "b\n        pass\n        break\n",
                "\n        pass\n        break\n",
            )
            == "b"
        )

    def test_the_first_line_may_look_like_the_next(self) -> None:
        assert middle_of("x\n", "y = 1\nz = 2\n", "\ny = 1\nw\n") == "y = 1\nz = 2"
        assert middle_of("x\n", "def g():\n    pass\nmore\n", NEXT) == ""

    def test_without_overlap_cut_the_suffix_may_be_repeated(self) -> None:
        scanner = MiddleScanner("x\n", "\ny = 1\n", span="block", is_python=True, cut_overlap=False)
        assert scanner.push("z\ny = 1\n") + scanner.flush() == "z\ny = 1"


class TestStops:
    def test_a_stop_string_comes_first(self) -> None:
        scanner = MiddleScanner("x = ", "\n", span="eos", texts=(";",), is_python=False)
        assert scanner.push("1; y") == "1"
        assert (scanner.stopped, scanner.stop) == (True, ";")
        assert scanner.push("z") == scanner.flush() == ""

    def test_what_a_stop_string_cuts_off_is_as_never_written(self) -> None:
        assert middle_of(FUNCTION, "b = a\n    c = (;)\nx", NEXT, texts=(";",)) == "b = a"
        assert middle_of(FUNCTION, "b = a\n    return b;", NEXT, texts=(";",)) == (
            "b = a\n    return b"
        )

    def test_a_run_of_the_suffix_is_no_stop_string(self) -> None:
        scanner = MiddleScanner("f(", ", a_long_name=None)\n", span="eos", is_python=False)
        assert scanner.push("1, a_long_name=None)\n") == "1"
        assert (scanner.stopped, scanner.stop) == (True, None)

    def test_an_end_by_itself_is_no_stop(self) -> None:
        scanner = MiddleScanner(FUNCTION, NEXT, span="block", is_python=True)
        assert scanner.push("return a\n") + scanner.flush() == "return a"
        assert not scanner.stopped


class TestOpening:
    def test_indentation_before_a_blank_rest_goes_into_the_middle(self) -> None:
        opening = open_middle(FUNCTION, "\n", span="block", is_python=False)
        assert opening == Opening("def f(a):\n", begun="    ")
        assert open_middle("\t", "", span="eos", is_python=False) == Opening("", begun="\t")

    def test_a_line_that_wants_a_block_is_ended(self) -> None:
        for line in (
            "def f(a):", "  async def f():", "class A(B[1]):", "if a[1:]:  # so", "    else:",
            "try:", ") -> int:", "    ):", "match x:", "for a in b:", "except (A, B) as e:",
        ):  # fmt: skip
            opening = open_middle("x\n" + line, "\n\ny", span="block", is_python=True)
            assert opening == Opening(f"x\n{line}\n", lead="\n"), line

    def test_all_else_is_left_as_it_is(self) -> None:
        for line in ("x = ", "x = a[", "if x[1:", "lambda:", "return {1:", "# else:", "elsewhere:"):
            opening = open_middle("x\n" + line, "\n", span="block", is_python=True)
            assert opening == Opening("x\n" + line)
        for prefix, suffix, span, is_python in (
            ("def f():", "\n", "block", False),
            ("def f():", "\n", "line", True),
            ("def f():", " return 1\n", "block", True),
            ("    ", "x\n", "block", True),
            ("    ", "\n", "line", True),
            ("", "\n", "block", True),
            ("x\n", "\n", "block", True),
        ):
            opening = open_middle(prefix, suffix, span=span, is_python=is_python)  # type: ignore[arg-type]
            assert opening == Opening(prefix)

    def test_a_lead_comes_first_and_not_alone(self) -> None:
        assert middle_of("def f():", "    pass\nx", NEXT, lead="\n") == "\n    pass"
        assert middle_of("def f():", "", NEXT, lead="\n") == ""
        assert middle_of("def f():", "\n", NEXT, lead="\n") == ""


HUMAN_EVAL = '''\
def count(words):
    """ Count the words that are not empty
    >>> count(["a", ""])
    1
    """
    total = 0
    for word in words:
        if word:
            total += 1

    return total
'''


@pytest.mark.parametrize("span", ["line", "block", None])
@pytest.mark.parametrize("row", range(5, 11))
def test_a_single_line_is_cut_out_of_it_and_what_follows(row: int, span: Span | None) -> None:
    """As the single-line tasks of HumanEval-Infilling: prefix and middle end in line ends."""
    lines = HUMAN_EVAL.splitlines(keepends=True)
    if not lines[row].strip():
        return
    prefix, middle, suffix = "".join(lines[:row]), lines[row], "".join(lines[row + 1 :])
    for goes_on in (suffix + "\nprint(count([]))\n", "\nprint(count([]))\n", ""):
        got = middle_of(prefix, middle + goes_on, suffix, span=span)
        assert got.removesuffix("\n") == middle.removesuffix("\n")


FIXED = (
    (FUNCTION, "b = a\n    c = b\n\n    return b\n", "\n    return b\n"),
    ("def f(a):", "\n    b = [\n1]\n    c\n\n\ndef g():\n    pass\n", NEXT),
    ("x = ", "[\n  1,\n]\ny = 2\n    return x\n", "\nz = 2\n"),
    ("x = f(", "a, b)\n", ", b)\n"),
    ("x = f(g(", "a)\n", ")\n"),
    ("x = f(", "a, some_long_name=1)", ", some_long_name=2)\n"),
    ("if a:\n\t", "b\n\tc\n\tpass\n\tbreak\n", "\n\tpass\n\tbreak\n"),
    ("a\n", "b\n\nc\nd", "c\nd\n"),
    ("f() {", "\n  a\n}\nb\n", "\nc\n"),
    ("x = (\n  a,\n  ", "b,\n  )\n  c\n", "\n)\n"),
    ("\n", "c = 1\nd = 2\ne", "\nc = 1\nd = 2\n"),
    (FUNCTION, "b = a\n    c = (\n", NEXT),
    (FUNCTION, "b = a\n    \n\n", NEXT),
    ("x = f(", "\n    a,\nb,\nc,\n)\ny\n", "\n"),
    ("if a:\n", "\tb\n    c\n", "\n"),
    ("f() {", "\n  a\n}\nb\n", "\n}\n"),
    ("f(a", "b)\n  return\n" + "  x\n" * 12, "\n  return\n"),
)


def check_fixed_texts() -> None:
    for prefix, text, suffix in FIXED:
        for span in ("line", "block"):
            for is_python in (True, False):
                check(text, prefix, suffix, span, is_python=is_python)
                check([text], prefix, suffix, span, is_python=is_python)


def test_what_mutants_fail_on_passes_unchanged() -> None:
    check_fixed_texts()


class NeverPending(blocks.BlockEnd):
    def _first_pending(self, line: str) -> None:  # noqa: ARG002
        return None


class KeepsBlankLines(blocks.BlockEnd):
    def _trimmed(self) -> int:
        return self._start


class AlwaysStatement(blocks.BlockEnd):
    def _parse(self, end: int) -> None:
        self._statement = True
        super()._parse(end)


class NeverStatement(blocks.BlockEnd):
    def _parse(self, end: int) -> None:
        self._statement = False
        super()._parse(end)


class NothingAtTheEnd(blocks.BlockEnd):
    def finish(self) -> None:
        pass


class CutsBrackets(middle._LineEnd):
    def _cut(self, line: str) -> int:
        return len(line.removesuffix(self._rest))


class CutsNothing(middle._LineEnd):
    def _cut(self, line: str) -> int:
        return len(line)


class ForgetsWhatBegan(repeats.RepeatedLines):
    def line(self, text: str, place: int, *, first: bool) -> int | None:
        self._begun = []
        return super().line(text, place, first=first)


@pytest.mark.parametrize(
    ("module", "name", "mutant"),
    [
        (middle, "BlockEnd", NeverPending),
        (middle, "BlockEnd", KeepsBlankLines),
        (middle, "BlockEnd", AlwaysStatement),
        (middle, "BlockEnd", NeverStatement),
        (middle, "BlockEnd", NothingAtTheEnd),
        (middle, "_LineEnd", CutsBrackets),
        (middle, "_LineEnd", CutsNothing),
        (middle, "_runs", lambda *_: ()),
        (middle, "RUN", 20),
        (blocks, "RepeatedLines", ForgetsWhatBegan),
        (repeats, "has_substance", lambda _: True),
        (repeats, "has_substance", lambda _: False),
        (blocks, "parses", lambda _: True),
        (blocks, "parses", lambda _: False),
        (blocks, "PATIENCE", 1),
        (blocks, "MAX_PARSED_CHARS", 0),
        (blocks, "indentation", lambda line: len(line) - len(line.lstrip())),
        (blocks, "bracket_balance", lambda _: 0),
        (source.Nesting, "level", 0),
    ],
)
def test_mutants_break_the_law(
    module: object, name: str, mutant: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, mutant)
    with pytest.raises(AssertionError):
        check_fixed_texts()
