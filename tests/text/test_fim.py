"""Prompts, id by id. Text ids are those of StarCoder's vocabulary."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.errors import InputError, ModelUnsupportedError, UsageError
from bigcode_cli.records import ContextFile, InfillOrder
from bigcode_cli.text.fim import Assembly, Dialect, assemble, find_dialect, psm, spm
from bigcode_cli.text.tokenizer import Tokenizer
from tests.tokenizers import (
    SPECIAL_TOKENS,
    starcoder_json,
    starcoder_tokenizer,
    tiny_document,
    tiny_tokenizer,
)

STARCODER = Dialect("starcoder", prefix_id=1, suffix_id=3, middle_id=2, filename_id=5, repo_id=18)
SANTACODER = Dialect("santacoder", prefix_id=49153, suffix_id=49155, middle_id=49154)
SANTACODER_TOKENS = ("<|endoftext|>", "<fim-prefix>", "<fim-middle>", "<fim-suffix>", "<fim-pad>")

DEF, F, PARENS, NEWLINE_4, NEWLINE = 589, 296, 2262, 275, 203
"""``def``, `` f``, ``():``, a newline and four blanks, a newline."""

X, Y, IS, ONE, DOT_PY = 106, 107, 280, [225, 35], [32, 978]
"""``x``, ``y``, `` =``, `` 1``, ``.py``."""


def santacoder_document() -> dict[str, Any]:
    """SantaCoder's layout: 49,152 plain tokens, of which none is a control token, and five more."""
    document: dict[str, Any] = json.loads(starcoder_json())
    entry = document["added_tokens"][0]
    document["added_tokens"] = [
        entry | {"id": id_, "content": text} for id_, text in enumerate(SANTACODER_TOKENS, 49152)
    ]
    vocabulary = document["model"]["vocab"]
    del vocabulary["<|endoftext|>"]
    vocabulary["<|endoftext"] = 0
    return document


@pytest.fixture(scope="module")
def santacoder() -> Tokenizer:
    return Tokenizer.from_json(json.dumps(santacoder_document()))


def build(
    prefix: str,
    suffix: str,
    *,
    tokenizer: Tokenizer | None = None,
    order: InfillOrder = "psm",
    room: int = 1000,
    **names: Any,
) -> Assembly:
    tokenizer = tokenizer or starcoder_tokenizer()
    dialect = find_dialect(tokenizer)
    assembly = assemble(tokenizer, dialect, prefix, suffix, order=order, room=room, **names)
    assert len(assembly.ids) <= room
    assert assembly.text == tokenizer.decode(assembly.ids)
    assert sum(section.tokens for section in assembly.sections) == len(assembly.ids)
    return assembly


def sizes(assembly: Assembly) -> list[tuple[str, str, int, int]]:
    return [
        (section.kind, section.label, section.tokens, section.dropped_tokens)
        for section in assembly.sections
    ]


class TestDialects:
    def test_starcoder_is_found_by_its_strings(self) -> None:
        assert find_dialect(starcoder_tokenizer()) == STARCODER
        assert find_dialect(tiny_tokenizer()) == STARCODER
        assert find_dialect(starcoder_tokenizer(), "starcoder") == STARCODER

    def test_santacoder_is_found_by_its_strings(self, santacoder: Tokenizer) -> None:
        assert find_dialect(santacoder) == SANTACODER
        assert find_dialect(santacoder, "santacoder") == SANTACODER
        assert santacoder.eos_id == 49152
        assert santacoder.vocab_size == 49157

    @pytest.mark.parametrize("missing", SANTACODER_TOKENS[1:4])
    def test_none_without_all_three_santacoder_tokens(self, missing: str) -> None:
        document = santacoder_document()
        for token in document["added_tokens"]:
            if token["content"] == missing:
                token["content"] = "<other>"
        with pytest.raises(ModelUnsupportedError, match="no fill-in-the-middle tokens"):
            find_dialect(Tokenizer.from_json(json.dumps(document)))

    @pytest.mark.parametrize("missing", ["<fim_prefix>", "<fim_middle>", "<fim_suffix>"])
    def test_none_without_all_three_starcoder_control_tokens(self, missing: str) -> None:
        document = tiny_document()
        document["added_tokens"] = [
            token for token in document["added_tokens"] if token["content"] != missing
        ]
        tokenizer = Tokenizer.from_json(json.dumps(document))
        assert tokenizer.token_id(missing) is not None  # there, but as a plain token
        for name in (None, "starcoder"):
            with pytest.raises(ModelUnsupportedError, match="no fill-in-the-middle tokens"):
                find_dialect(tokenizer, name)

    def test_names_have_no_tokens_where_their_spellings_are_plain(self) -> None:
        document = tiny_document()
        document["added_tokens"] = [
            token
            for token in document["added_tokens"]
            if token["content"] not in ("<filename>", "<reponame>")
        ]
        dialect = find_dialect(Tokenizer.from_json(json.dumps(document)))
        assert (dialect.filename_id, dialect.repo_id) == (None, None)

    def test_two_dialects_need_a_choice(self) -> None:
        document = tiny_document()
        size = len(document["model"]["vocab"])
        document["added_tokens"] += [
            document["added_tokens"][0] | {"id": id_, "content": text}
            for id_, text in enumerate(SANTACODER_TOKENS[1:4], size)
        ]
        tokenizer = Tokenizer.from_json(json.dumps(document))
        with pytest.raises(ModelUnsupportedError, match="several dialects") as error:
            find_dialect(tokenizer)
        assert error.value.hint == "choose one: --dialect starcoder or santacoder"
        assert find_dialect(tokenizer, "santacoder").prefix_id == size
        assert find_dialect(tokenizer, "starcoder").prefix_id == 1

    def test_a_dialect_of_another_model_is_refused(self, santacoder: Tokenizer) -> None:
        with pytest.raises(UsageError, match="dialect starcoder") as error:
            find_dialect(santacoder, "starcoder")
        assert error.value.hint == "it has those of santacoder"
        with pytest.raises(UsageError, match="unknown dialect 'codellama'"):
            find_dialect(santacoder, "codellama")


class TestOrders:
    def test_psm_is_prefix_suffix_middle(self) -> None:
        assert psm(STARCODER, [10, 11], [20, 21]) == [1, 10, 11, 3, 20, 21, 2]
        assert psm(SANTACODER, [10, 11], [20]) == [49153, 10, 11, 49155, 20, 49154]

    def test_spm_is_the_order_that_was_trained(self) -> None:
        assert spm(STARCODER, [10, 11], [20, 21]) == [1, 3, 20, 21, 2, 10, 11]
        assert spm(SANTACODER, [10, 11], [20]) == [49153, 49155, 20, 49154, 10, 11]

    def test_prefix_and_suffix_may_be_empty(self) -> None:
        assert psm(STARCODER, [], []) == list(build("", "").ids) == [1, 3, 2]
        assert spm(STARCODER, [], []) == list(build("", "", order="spm").ids) == [1, 3, 2]


class TestIds:
    def test_the_plain_prompt_is_as_trained(self, santacoder: Tokenizer) -> None:
        prefix, suffix = "def f():\n    ", "\n"
        text = (DEF, F, PARENS, NEWLINE_4)
        assert build(prefix, suffix).ids == (1, *text, 3, NEWLINE, 2)
        assert build(prefix, suffix, order="spm").ids == (1, 3, NEWLINE, 2, *text)
        assert build(prefix, suffix, tokenizer=santacoder).ids == (
            49153, *text, 49155, NEWLINE, 49154,
        )  # fmt: skip
        assert build(prefix, suffix, tokenizer=santacoder, order="spm").ids == (
            49153, 49155, NEWLINE, 49154, *text,
        )  # fmt: skip

    def test_a_path_alone_changes_nothing(self) -> None:
        assert build("x", "y", path="a.py").ids == build("x", "y").ids == (1, X, 3, Y, 2)

    def test_names_and_context_stand_before_the_prefix(self) -> None:
        names: dict[str, Any] = {
            "path": "f.py",
            "repo": "y/x",
            "context": (ContextFile("x.py", "x = 1\n"), ContextFile("y.py", "y")),
        }
        slash_x = starcoder_tokenizer().encode("/x")
        head = (
            18, Y, *slash_x,
            5, X, *DOT_PY, NEWLINE, X, IS, *ONE, NEWLINE,
            5, Y, *DOT_PY, NEWLINE, Y,
            5, 88, *DOT_PY, NEWLINE,
        )  # fmt: skip
        text = (DEF, F, PARENS, NEWLINE_4)
        got = build("def f():\n    ", "\n", **names)
        assert got.text == (
            "<fim_prefix><reponame>y/x<filename>x.py\nx = 1\n<filename>y.py\ny<filename>f.py\n"
            "def f():\n    <fim_suffix>\n<fim_middle>"
        )
        assert (got.prefix_tokens, got.suffix_tokens) == (4, 1)
        assert got.ids == (1, *head, *text, 3, NEWLINE, 2)
        got = build("def f():\n    ", "\n", order="spm", **names)
        assert got.ids == (1, 3, NEWLINE, 2, *head, *text)
        assert [section.kind for section in got.sections] == [
            "control", "control", "suffix", "control", "repo", "context", "context", "file",
            "prefix",
        ]  # fmt: skip

    def test_a_repository_alone_brings_the_path_too(self) -> None:
        assert build("x", "y", path="f.py", repo="x").ids == (
            1, 18, X, 5, 88, *DOT_PY, NEWLINE, X, 3, Y, 2,
        )  # fmt: skip
        assert build("x", "y", repo="x").ids == (1, 18, X, X, 3, Y, 2)

    def test_without_tokens_for_names_context_is_plain_text(self, santacoder: Tokenizer) -> None:
        got = build(
            "x", "y", tokenizer=santacoder, path="f.py", repo="me/it",
            context=[ContextFile("x.py", "x = 1\n"), ContextFile("y.py", "y")],
        )  # fmt: skip
        assert got.ids == (
            49153, X, IS, *ONE, NEWLINE, NEWLINE, Y, NEWLINE, X, 49155, Y, 49154,
        )  # fmt: skip
        assert sizes(got)[1:3] == [("context", "x.py", 6, 0), ("context", "y.py", 2, 0)]

    def test_a_name_that_is_no_utf8_is_shown_with_replacements(self) -> None:
        assert "<filename>f\ufffd.py\n" in build("x", "y", repo="r", path="f\udcff.py").text
        with pytest.raises(InputError, match="surrogate"):
            build("x\udcff", "y")


class TestUserText:
    def test_control_spellings_are_plain_text_wherever_they_stand(
        self, santacoder: Tokenizer
    ) -> None:
        spelled = "".join((*SPECIAL_TOKENS, *SANTACODER_TOKENS)) + "\n"
        for tokenizer in (starcoder_tokenizer(), santacoder):
            for order in ("psm", "spm"):
                got = build(
                    spelled, spelled * 2, tokenizer=tokenizer, order=order, room=10_000,
                    path=spelled, repo=spelled, context=[ContextFile(spelled, spelled)],
                )  # fmt: skip
                assert got.text.count(spelled) == (7 if tokenizer is not santacoder else 4)
                control = [id_ for id_ in got.ids if id_ in tokenizer.control_ids]
                dialect = find_dialect(tokenizer)
                names = [18, 5, 5] if tokenizer is not santacoder else []
                three = {dialect.prefix_id, dialect.suffix_id, dialect.middle_id}
                assert sorted(control) == sorted([*three, *names])
                assert (got.prefix, got.suffix) == (spelled, spelled * 2)

    @settings(max_examples=200)
    @given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(["psm", "spm"]))
    def test_any_text_is_found_again_between_the_three(
        self, prefix: str, suffix: str, order: InfillOrder
    ) -> None:
        tokenizer = tiny_tokenizer()
        ids = list(build(prefix, suffix, tokenizer=tokenizer, order=order).ids)
        assert [id_ for id_ in ids if id_ in tokenizer.control_ids] == ([1, 3, 2])
        if order == "psm":
            parts = ids[1 : ids.index(3)], ids[ids.index(3) + 1 : -1]
        else:
            parts = ids[ids.index(2) + 1 :], ids[2 : ids.index(2)]
        assert tuple(map(tokenizer.decode, parts)) == (prefix, suffix)


PREFIX = "".join(f"before = {i}\n" for i in range(200)) + "now = "
SUFFIX = "\n" + "".join(f"after = {i}\n" for i in range(200))


class TestRoom:
    def test_what_fits_is_not_touched(self) -> None:
        whole = build(PREFIX, SUFFIX, room=100_000)
        assert (whole.prefix, whole.suffix) == (PREFIX, SUFFIX)
        assert (whole.prefix_dropped, whole.suffix_dropped) == (0, 0)
        assert build(PREFIX, SUFFIX, room=len(whole.ids)).ids == whole.ids
        tight = build(PREFIX, SUFFIX, room=len(whole.ids) - 1)
        assert tight.prefix_dropped + tight.suffix_dropped > 0

    def test_both_too_long_are_as_three_to_one(self) -> None:
        got = build(PREFIX, SUFFIX, room=403)
        assert 290 <= got.prefix_tokens <= 300
        assert 90 <= got.suffix_tokens <= 110
        assert PREFIX.endswith("\n" + got.prefix)
        assert SUFFIX.startswith(got.suffix)
        assert got.suffix.endswith("\n")
        line = len(starcoder_tokenizer().encode("before = 100\n"))
        assert len(got.ids) > 403 - line, "room for another line is used"

    def test_what_one_leaves_is_the_others(self) -> None:
        short = build("now = ", SUFFIX, room=403)
        assert short.prefix == "now = "
        assert 385 <= short.prefix_tokens + short.suffix_tokens <= 400
        short = build(PREFIX, "\n", room=403)
        assert short.suffix == "\n"
        assert 385 <= short.prefix_tokens + short.suffix_tokens <= 400

    def test_what_was_dropped_is_told(self) -> None:
        got = build(PREFIX, SUFFIX, room=403)
        encode = starcoder_tokenizer().encode
        assert got.prefix_dropped == len(encode(PREFIX)) - got.prefix_tokens
        assert got.suffix_dropped == len(encode(SUFFIX)) - got.suffix_tokens
        lines = {section.kind: section.dropped_lines for section in got.sections}
        assert lines["prefix"] == 201 - len(got.prefix.split("\n"))
        assert lines["suffix"] == 201 - got.suffix.count("\n")

    def test_context_takes_what_they_leave_and_the_nearest_stays_longest(self) -> None:
        context = [
            ContextFile(f"{name}.py", "".join(f"{name} = {i}\n" for i in range(20)))
            for name in ("far", "mid", "near")
        ]
        whole = build("x", "y", path="f.py", context=context)
        total = len(whole.ids)
        near, mid = whole.sections[3], whole.sections[2]
        kinds = ["control", "context", "context", "context", "file", "prefix"]
        for room in range(total, 20, -1):
            got = build("x", "y", path="f.py", context=context, room=room)
            assert (got.prefix, got.suffix) == ("x", "y")
            assert [section.kind for section in got.sections[:6]] == kinds
            dropped = [section.dropped_tokens > 0 for section in got.sections[1:4]]
            assert dropped == sorted(dropped, reverse=True), "the farthest goes first"
            shown = [section.text for section in got.sections[1:4]]
            for section, file in zip(got.sections[1:4], context, strict=True):
                header = f"<filename>{file.name}\n"
                if section.text:
                    assert section.text.startswith(header)
                    assert file.text.startswith(section.text.removeprefix(header))
                    assert section.text.endswith("\n")
                    assert section.text != header
                else:
                    assert (section.tokens, section.dropped_lines) == (0, 20)
            if shown[1] != mid.text:
                assert not shown[0]
            if shown[2] != near.text:
                assert not shown[1]

    def test_names_give_way_where_they_would_take_much(self) -> None:
        path = "a/long/path/" * 10
        got = build(PREFIX, SUFFIX, room=103, path=path, repo="me/it")
        assert "<reponame>" not in got.text
        assert "<filename>" not in got.text
        by_kind = {section.kind: section for section in got.sections}
        assert by_kind["repo"].dropped_tokens > 0
        assert by_kind["file"].dropped_tokens > 20
        got = build(PREFIX, SUFFIX, room=1003, path=path, repo="me/it")
        assert f"<reponame>me/it<filename>{path}\n" in got.text

    def test_a_line_longer_than_the_room_is_cut_inside(self) -> None:
        long = "x = [" + "12, 34, é日🙂, " * 300
        got = build(long, "]\n", room=103)
        assert 90 <= got.prefix_tokens <= 98
        assert long.endswith(got.prefix)
        got = build("", long, room=103)
        assert 90 <= got.suffix_tokens <= 100
        assert long.startswith(got.suffix)
        got = build(long + "\ny = ", "\n", room=103)
        assert got.prefix.endswith("🙂, \ny = ")
        assert len(got.ids) > 95

    def test_no_room_for_any_text_is_an_error(self) -> None:
        assert build("", "", room=3).ids == (1, 3, 2)
        for room in (-5, 2, 3):
            with pytest.raises(UsageError, match="no room for the text around the hole"):
                build("x", "y", room=room)
        assert build("x", "y", room=4).ids == (1, X, 3, 2)

    @settings(max_examples=150)
    @given(
        st.lists(
            st.sampled_from(["a", "\n", " ", "x = 1\n", "é", "🙂", "def f():\n"]), max_size=30
        ),
        st.lists(st.sampled_from(["b", "\n", "\n\n", "    y\n", "日", "return"]), max_size=30),
        st.integers(12, 60),
    )
    def test_any_cut_keeps_the_text_next_to_the_hole(
        self, before: list[str], after: list[str], room: int
    ) -> None:
        prefix, suffix = "".join(before), "".join(after)
        got = build(prefix, suffix, tokenizer=tiny_tokenizer(), room=room)
        assert prefix.endswith(got.prefix)
        assert suffix.startswith(got.suffix)
        assert (got.prefix_dropped > 0) == (got.prefix != prefix)
        assert (got.suffix_dropped > 0) == (got.suffix != suffix)
