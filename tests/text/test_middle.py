"""Where middles end: the scanner against a twin that sees the whole output at once."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.records import Span
from bigcode_cli.text.middle import MiddleScanner
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


@settings(max_examples=1500)
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
