"""The scanner against a twin that sees the whole text at once."""

import re
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bigcode_cli.text.stops as stops
from bigcode_cli.records import StopAt, StopOptions
from bigcode_cli.text.stops import StopScanner

Outcome = tuple[str, bool, str | None]
"""The text before the stop, whether there is one, and the stop string."""


def line_end(text: str) -> int | None:
    begun = re.match(r"(\r?\n)*", text)
    assert begun is not None
    end = re.compile(r"\r?\n").search(text, begun.end())
    return end and end.start()


def indentation(line: str) -> int:
    """Columns; a carriage return that does not end the line has no width."""
    blank = line[: len(line) - len(line.lstrip(" \t\r"))]
    return len(blank.replace("\r", "").expandtabs(8))


def block_end(prompt: str, text: str) -> int | None:
    head = prompt.split("\n")[-1]
    first, *lines = text.split("\n")
    least, known = (indentation(head), False) if head.strip(" \t\r") else (0, False)
    if not head.strip(" \t\r") and first.strip(" \t\r"):
        least, known = indentation(head + first), True
    place = len(first) + 1
    for line in lines:
        if line.strip(" \t\r"):
            if indentation(line) < least:
                return place
            if not known:
                least, known = indentation(line), True
        place += len(line) + 1
    return None


def twin(text: str, options: StopOptions, prompt: str) -> Outcome:
    found = [(text.find(stop), -len(stop), stop) for stop in options.texts if stop in text]
    rule = {"eos": None, "line": line_end(text), "block": block_end(prompt, text)}[options.at]
    first = min(found, default=None)
    if rule is not None and (first is None or rule < first[0]):
        return text[:rule], True, None
    return (text, False, None) if first is None else (text[: first[0]], True, first[2])


def check(segments: Sequence[str], options: StopOptions, prompt: str) -> None:
    scanner = StopScanner(options, prompt)
    text = "".join(segments)
    expected, stopped, stop = twin(text, options, prompt)
    shown = ""
    seen = ""
    for segment in segments:
        was_stopped = scanner.stopped
        part = scanner.push(segment)
        assert not (was_stopped and part), "nothing after the stop"
        shown += part
        seen += segment
        assert expected.startswith(shown), "no part of a stop is shown"
        if scanner.stopped:
            assert shown == expected
        else:
            assert nothing_is_held_without_need(shown, seen, options, prompt)
    shown += scanner.flush()
    assert (shown, scanner.stopped, scanner.stop) == (expected, stopped, stop)
    assert scanner.push("more") == "" or not stopped
    assert scanner.flush() == "" or not stopped


def nothing_is_held_without_need(shown: str, seen: str, options: StopOptions, prompt: str) -> bool:
    """Whether some continuation would end the output just where the shown text ends."""
    ends = {text[cut:] for text in options.texts for cut in range(len(text))}
    return any(twin(seen + end, options, prompt)[0] == shown for end in ("", "\n", "x", *ends))


small_text = st.text(st.sampled_from("ab:\n\r \t"), max_size=24)
stop_texts = st.lists(st.text(st.sampled_from("ab\n\r "), min_size=1, max_size=4), max_size=3)
ats = st.sampled_from(["eos", "line", "block"])


@settings(max_examples=1500, deadline=None)
@given(st.lists(small_text, max_size=8), stop_texts, ats, small_text)
@example(["ab", "c"], ["abcd", "bc"], "eos", "")
@example(["a\n", "\n"], ["\n\n"], "line", "")
@example(["a\r", "\r", "\nb\n"], [], "line", "")
@example(["x\n", " b", "\n a", "b"], ["b\n a\t"], "line", "")
def test_any_segmentation_equals_the_twin_on_the_whole_text(
    segments: list[str], texts: list[str], at: StopAt, prompt: str
) -> None:
    check(segments, StopOptions(texts=tuple(texts), at=at), prompt)


@settings(max_examples=500, deadline=None)
@given(small_text, stop_texts, ats, small_text)
def test_single_characters_equal_the_twin_on_the_whole_text(
    text: str, texts: list[str], at: StopAt, prompt: str
) -> None:
    check(text, StopOptions(texts=tuple(texts), at=at), prompt)


def outcome(
    text: str, *texts: str, at: StopAt = "eos", prompt: str = "", width: int = 1
) -> Outcome:
    scanner = StopScanner(StopOptions(texts=texts, at=at), prompt)
    shown = [scanner.push(text[i : i + width]) for i in range(0, len(text), width)]
    return "".join([*shown, scanner.flush()]), scanner.stopped, scanner.stop


def test_without_stops_nothing_is_held_back() -> None:
    scanner = StopScanner(StopOptions())
    assert [scanner.push(part) for part in ("a\r", "\n", " ")] == ["a\r", "\n", " "]
    assert scanner.flush() == ""


def test_the_earliest_stop_wins_and_of_equals_the_longest() -> None:
    assert outcome("xabcdy", "bc", "abcd") == ("x", True, "abcd")
    assert outcome("xabcey", "bc", "abcd") == ("xa", True, "bc")
    assert outcome("xabcdy", "ab", "abc") == ("x", True, "abc")
    assert outcome("xab", "ab", "abc") == ("x", True, "ab")


@pytest.mark.parametrize(("at", "before", "stop"), [("line", "b", "\r"), ("block", "b\n", " ")])
def test_a_stop_that_nothing_can_beat_any_more_ends_at_once(
    at: StopAt, before: str, stop: str
) -> None:
    scanner = StopScanner(StopOptions(texts=(stop,), at=at), prompt="    a:")
    assert scanner.push(before + stop) == before
    assert scanner.stopped
    assert scanner.stop == stop


def test_a_stop_string_begun_but_not_finished_is_shown_at_the_end() -> None:
    assert outcome("xab", "abc") == ("xab", False, None)


@pytest.mark.parametrize("width", [1, 2, 3, 100])
def test_a_line_ends_before_its_first_line_end(width: int) -> None:
    def line(text: str) -> Outcome:
        return outcome(text, at="line", width=width)

    assert line("return 1\nx") == ("return 1", True, None)
    assert line("return 1\r\nx") == ("return 1", True, None)
    assert line("a\r\r\nx") == ("a\r", True, None)
    assert line("a\rb") == ("a\rb", False, None)
    assert line("a\r") == ("a\r", False, None)
    assert line("  \nx") == ("  ", True, None)
    assert line("\n\r\n  x\ny") == ("\n\r\n  x", True, None)
    assert line("\n") == ("\n", False, None)


@pytest.mark.parametrize("width", [1, 2, 3, 100])
def test_a_block_ends_before_the_first_line_indented_less(width: int) -> None:
    def block(prompt: str, text: str) -> Outcome:
        return outcome(text, at="block", prompt=prompt, width=width)

    body = "\n    if x:\n        return 1\n\n    return 2\n\n"
    assert block("def f():", body + "def g():") == (body, True, None)
    assert block("def f():", body + "   \n") == (body + "   \n", False, None)
    assert block("def f():\n    ", "x\n    y\nz") == ("x\n    y\n", True, None)
    assert block("def f():\n", "    x\n    y\nz") == ("    x\n    y\n", True, None)
    assert block("    x = ", "1\n\nz") == ("1\n\n", True, None)
    assert block("class A:\n    def f(self):", "\n        x\n    def g") == (
        "\n        x\n",
        True,
        None,
    )
    assert block("def f():\r\n", "\tx\r\n        y\r\n\r\nz") == (
        "\tx\r\n        y\r\n\r\n",
        True,
        None,
    )
    assert block("", "def f():\n    x\ny") == ("def f():\n    x\ny", False, None)


def test_a_stop_string_and_a_line_end_whichever_is_first() -> None:
    assert outcome("ab;c\n", ";", at="line") == ("ab", True, ";")
    assert outcome("ab\nc;", ";", at="line") == ("ab", True, None)
    assert outcome("ab\n\n", "\n\n", at="line") == ("ab", True, "\n\n")
    assert outcome("ab\nc", "\n\n", at="line") == ("ab", True, None)


class ShowsEverything(StopScanner):
    def _first_pending(self) -> stops._Stop | None:
        return None


class NeverReleases(StopScanner):
    def push(self, text: str) -> str:
        shown = super().push(text)
        if self.stopped:
            return shown
        self._held, self._offset = shown + self._held, self._offset - len(shown)
        return ""


class KeepsTheRestAtTheEnd(StopScanner):
    def flush(self) -> str:
        return ""


class ShowsTheStop(StopScanner):
    def _end(self, match: stops._Stop) -> str:
        return super()._end(match) + (match.text or "")


def no_overlap(_text: str, _stop: str) -> int:
    return 0


def shortest_overlap(text: str, stop: str) -> int:
    return next((n for n in range(1, len(stop)) if text.endswith(stop[:n])), 0)


def start_alone(self: stops._Stop, other: stops._Stop) -> bool:
    return self.start < other.start


@pytest.mark.parametrize(
    ("place", "mutant"),
    [
        ("tests.text.test_stops.StopScanner", ShowsEverything),
        ("tests.text.test_stops.StopScanner", NeverReleases),
        ("tests.text.test_stops.StopScanner", KeepsTheRestAtTheEnd),
        ("tests.text.test_stops.StopScanner", ShowsTheStop),
        ("bigcode_cli.text.stops._overlap", no_overlap),
        ("bigcode_cli.text.stops._overlap", shortest_overlap),
        ("bigcode_cli.text.stops._Stop.__lt__", start_alone),
        ("bigcode_cli.text.stops._LineEnd", lambda: stops._BlockEnd("")),
        ("bigcode_cli.text.stops._BlockEnd", lambda _: stops._LineEnd()),
        ("bigcode_cli.text.stops.TAB_WIDTH", 1),
    ],
)
def test_mutants_break_the_law(place: str, mutant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, mutant)
    with pytest.raises(AssertionError):
        check_fixed_texts()


def test_what_mutants_fail_on_passes_unchanged() -> None:
    check_fixed_texts()


def check_fixed_texts() -> None:
    texts = [
        "aabab",
        "ababba\n\n b",
        "a\n b\r\nba",
        "\n\tb\n  a\nb",
        "\n\ta\n        b\n  a",
        "aab",
    ]
    stop_texts = [(), ("abab", "bb"), ("ab", "aba"), ("\n\n", "a b")]
    ats: list[StopAt] = ["eos", "line", "block"]
    prompts = ["", "a:", "  a", "\t"]
    for text, stop, at, prompt in product(texts, stop_texts, ats, prompts):
        check(text, StopOptions(texts=stop, at=at), prompt)
