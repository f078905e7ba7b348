from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.cli.explain import ends, explain_lines
from bigcode_cli.text.fim import assemble, find_dialect
from tests.cli.test_terminal import CONTROLS
from tests.tokenizers import tiny_tokenizer

ODD = st.text(alphabet=st.sampled_from('a b\n\r\t\x1b\x00\u202eé日"\\'), max_size=200)


@given(ODD, st.integers(20, 120))
def test_ends_fit_and_are_those_of_the_text(text: str, width: int) -> None:
    shown = ends(text, width)
    assert len(shown) <= width
    assert not (CONTROLS | {"\n", "\t", "\u202e"}) & set(shown)
    if "…" in shown:
        plain = "".join(char if char.isalnum() or char == " " else "?" for char in text)
        first, last = shown[1], shown[-2]
        assert first == plain[0] or plain[0] == "?"
        assert last == plain[-1] or plain[-1] == "?"


@given(ODD, ODD, st.integers(40, 200))
def test_tokens_of_the_parts_are_those_of_the_prompt(prefix: str, suffix: str, room: int) -> None:
    tokenizer = tiny_tokenizer()
    assembly = assemble(
        tokenizer, find_dialect(tokenizer), prefix, suffix, order="psm", room=room,
        path="x.py", repo="us/ours",
    )  # fmt: skip
    head, columns, *rows, total = explain_lines(assembly, 2048, "x", 80)
    assert head == "prompt of x: psm order, starcoder dialect"
    end = columns.index("tokens") + len("tokens")
    told = [int(row[:end].split()[-1].replace(",", "")) for row in rows]
    assert sum(told) == len(assembly.ids)
    assert total.split()[0] == f"{len(assembly.ids):,}"
    assert max(map(len, rows)) <= 80
