"""Places of tokens, wherever the text is cut."""

from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.engine.places import Places


@given(st.text(alphabet="a\n\r\té日🙂\u0301", max_size=30), st.data())
def test_places_are_those_of_the_characters(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(whole) - 1)), max_size=10)))
    ends = [cut for cut in cuts if cut < len(whole)]
    places = Places()
    for start, end in zip([0, *ends], [*ends, len(whole)], strict=True):
        if start == end:
            continue
        # The character that byte `start` belongs to, and the lines before it.
        before = whole[: start + 1].decode(errors="ignore")
        complete = len(before.encode()) == start + 1
        index = len(before) - complete
        line = text.count("\n", 0, index) + 1
        column = index - (text.rfind("\n", 0, index) + 1) + 1
        assert places.take(whole[start:end]) == (line, column)
