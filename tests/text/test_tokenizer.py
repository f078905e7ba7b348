import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from bigcode_cli.errors import (
    BigcodeError,
    InputError,
    ModelCorruptError,
    ModelIncompleteError,
    ModelUnsupportedError,
)
from bigcode_cli.text import tokenizer as tokenizer_module
from bigcode_cli.text.tokenizer import CHAR_OF_BYTE, FILE_NAME, MAX_FILE_BYTES, Tokenizer
from tests.tokenizers import (
    FIXTURES,
    SPECIAL_TOKENS,
    TINY_TEXT,
    TINY_VOCAB_SIZE,
    starcoder_json,
    starcoder_tokenizer,
    tiny_document,
    tiny_json,
    tiny_tokenizer,
)

VECTORS = json.loads((FIXTURES / "starcoder_vectors.json").read_text(encoding="utf-8"))

unicode_text = st.text(
    st.characters(exclude_categories=["Cs"]).filter(lambda c: not 0x40000 <= ord(c) < 0x80000)
)
code_text = st.lists(
    st.sampled_from(
        [*SPECIAL_TOKENS, "<fim-prefix>", "<|", "|>", "fim_", " ", "\n", "\t", "x", "é"]
    )
    | unicode_text
).map("".join)


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    document = tiny_document()
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_starcoder_texts_encode_to_the_published_ids(vector: dict[str, Any]) -> None:
    assert starcoder_tokenizer().encode(vector["text"]) == vector["ids"]
    assert starcoder_tokenizer().decode(vector["ids"]) == vector["text"]


def test_there_are_47_vectors() -> None:
    assert len(VECTORS) == 47


@settings(deadline=None)
@given(code_text)
def test_any_text_round_trips_without_a_control_token(text: str) -> None:
    for tokenizer in (starcoder_tokenizer(), tiny_tokenizer()):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.control_ids.isdisjoint(ids)


def test_a_file_full_of_control_spellings_is_plain_text() -> None:
    tokenizer = starcoder_tokenizer()
    text = "\r\n".join(f"  {a}{b} = '{a}'" for a in SPECIAL_TOKENS for b in SPECIAL_TOKENS)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.control_ids == frozenset(range(19))
    assert tokenizer.control_ids.isdisjoint(ids)


@settings(deadline=None)
@given(st.lists(st.integers(0, 49151)))
def test_decode_equals_the_library_on_random_ids(ids: list[int]) -> None:
    tokenizer = starcoder_tokenizer()
    library = LIBRARY.decode(ids, skip_special_tokens=False)
    assert tokenizer.decode(ids) == library
    assert b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace") == library


LIBRARY = tokenizers.Tokenizer.from_str(starcoder_json())


def test_control_tokens_are_found_and_spelled_out() -> None:
    for tokenizer in (starcoder_tokenizer(), tiny_tokenizer()):
        assert [tokenizer.token_id(text) for text in SPECIAL_TOKENS] == list(range(19))
        assert tokenizer.decode(range(19)) == "".join(SPECIAL_TOKENS)
        assert tokenizer.eos_id == 0
    assert starcoder_tokenizer().vocab_size == 49152
    assert tiny_tokenizer().vocab_size == TINY_VOCAB_SIZE


def test_plain_tokens_are_found_by_the_text_they_stand_for() -> None:
    tokenizer = starcoder_tokenizer()
    assert tokenizer.token_id("\n") == tokenizer.encode("\n")[0]
    assert tokenizer.token_id(" def") == tokenizer.encode(" def")[0]
    assert tokenizer.token_id("Ġdef") is None
    assert tokenizer.token_id("no such token") is None


@pytest.mark.parametrize("prefix", [b"", b" de", b"\n", b"<fim", b"<", b"\xe6\x97", b"\xff"])
def test_ids_starting_with_are_the_plain_tokens_whose_bytes_begin_so(prefix: bytes) -> None:
    tokenizer = starcoder_tokenizer()
    plain = (id_ for id_ in range(tokenizer.vocab_size) if id_ not in tokenizer.control_ids)
    assert tokenizer.ids_starting_with(prefix) == tuple(
        id_ for id_ in plain if tokenizer.token_bytes(id_).startswith(prefix)
    )


@pytest.mark.parametrize("id_", [-1, TINY_VOCAB_SIZE, 2**31, 2**64])
def test_ids_beyond_the_vocabulary_raise(id_: int) -> None:
    with pytest.raises(ValueError, match="no token has the id"):
        tiny_tokenizer().decode([30, id_])
    with pytest.raises(ValueError, match="no token has the id"):
        tiny_tokenizer().token_bytes(id_)


def test_a_lone_surrogate_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"U\+DC80"):
        tiny_tokenizer().encode("a\udc80")


def test_a_character_that_would_lose_a_byte_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"U\+50000"):
        starcoder_tokenizer().encode("a\U00050000")
    assert tiny_tokenizer().decode(tiny_tokenizer().encode("a\U00050000")) == "a\U00050000"


def add_template(document: dict[str, Any]) -> None:
    document["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
        },
    }


def add_truncation(document: dict[str, Any]) -> None:
    document["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }


def add_padding(document: dict[str, Any]) -> None:
    document["padding"] = {
        "strategy": {"Fixed": 4096},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }


def add_dropout(document: dict[str, Any]) -> None:
    document["model"]["dropout"] = 0.9


def make_added_tokens_greedy(document: dict[str, Any]) -> None:
    for token in document["added_tokens"]:
        token |= {"special": False, "lstrip": True, "rstrip": True}


def drop_model_type(document: dict[str, Any]) -> None:
    del document["model"]["type"]


@pytest.mark.parametrize(
    "change",
    [
        add_template,
        add_truncation,
        add_padding,
        add_dropout,
        make_added_tokens_greedy,
        drop_model_type,
    ],
)
def test_what_does_not_belong_to_the_text_is_set_aside(
    change: Callable[[dict[str, Any]], object],
) -> None:
    text = TINY_TEXT + "  <fim_middle>  <|endoftext|>"
    tokenizer = Tokenizer.from_json(changed(change))
    assert tokenizer.encode(text) == tiny_tokenizer().encode(text)
    assert tokenizer.control_ids == tiny_tokenizer().control_ids


def test_added_tokens_beyond_the_vocabulary_are_control_tokens() -> None:
    def change(document: dict[str, Any]) -> None:
        for id_, text in enumerate(("<two words>", "Ġé"), TINY_VOCAB_SIZE):
            document["added_tokens"].append(
                document["added_tokens"][0] | {"id": id_, "content": text, "special": False}
            )

    tokenizer = Tokenizer.from_json(changed(change))
    assert tokenizer.vocab_size == TINY_VOCAB_SIZE + 2
    assert tokenizer.decode([384, 30, 385]) == "<two words>" + tokenizer.decode([30]) + "Ġé"
    assert tokenizer.token_id("Ġé") == 385
    assert tokenizer.encode("<two words>Ġé") == tiny_tokenizer().encode("<two words>Ġé")


def test_end_of_text_is_a_control_token_even_if_not_added() -> None:
    tokenizer = Tokenizer.from_json(changed(lambda d: d["added_tokens"].clear()))
    assert tokenizer.control_ids == {0}
    assert tokenizer.eos_id == 0


def test_merges_that_spell_a_control_token_are_refused_when_met() -> None:
    def change(document: dict[str, Any]) -> None:
        document["model"]["ignore_merges"] = True
        document["pre_tokenizer"]["pretokenizers"][-1]["use_regex"] = False

    tokenizer = Tokenizer.from_json(changed(change))
    assert tokenizer.decode(tokenizer.encode("plain")) == "plain"
    with pytest.raises(ModelUnsupportedError, match="control token"):
        tokenizer.encode("<fim_middle>")


def put(*path: str | int, value: object) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def rename_vocabulary(old: str, new: str) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        document["model"]["vocab"][new] = document["model"]["vocab"].pop(old)

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("normalizer", value={"type": "NFC"}),
        put("normalizer", value={"type": "Strip", "strip_left": True, "strip_right": True}),
        put("normalizer", value={"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}),
        put("pre_tokenizer", value=None),
        put("pre_tokenizer", value={"type": "Whitespace"}),
        put("pre_tokenizer", value={"type": "Sequence", "pretokenizers": []}),
        put("pre_tokenizer", value={"type": "Sequence", "pretokenizers": "ByteLevel"}),
        put("pre_tokenizer", "pretokenizers", 0, value={"type": "WhitespaceSplit"}),
        put("pre_tokenizer", "pretokenizers", 0, value={"type": ["Digits"]}),
        put(
            "pre_tokenizer",
            "pretokenizers",
            0,
            value={
                "type": "Split",
                "pattern": {"String": " "},
                "behavior": "Removed",
                "invert": False,
            },
        ),
        put("pre_tokenizer", "pretokenizers", 1, "add_prefix_space", value=True),
        put("model", "type", value="Unigram"),
        put("model", "type", value="WordPiece"),
        put("model", "continuing_subword_prefix", value="##"),
        put("model", "end_of_word_suffix", value="</w>"),
        put("model", "byte_fallback", value=True),
        put("model", "vocab", "▁the", value=TINY_VOCAB_SIZE),
        rename_vocabulary("a", "▁"),
        lambda d: (rename_vocabulary("<|endoftext|>", "<eos>")(d), d["added_tokens"].pop(0)),
    ],
)
def test_what_would_change_the_text_is_unsupported(
    change: Callable[[dict[str, Any]], object],
) -> None:
    with pytest.raises(ModelUnsupportedError):
        Tokenizer.from_json(changed(change))


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        "1" * 100_000,
        changed(put("model", value=[])),
        changed(put("model", "vocab", value=[])),
        changed(put("model", "vocab", "a", value="30")),
        changed(put("model", "vocab", "a", value=True)),
        changed(put("model", "vocab", "a", value=-1)),
        changed(put("model", "vocab", "a", value=31)),
        changed(put("model", "vocab", "a", value=2**32 - 1)),
        changed(put("model", "vocab", "a", value=10**400)),
        changed(put("model", "vocab", "zz", value=TINY_VOCAB_SIZE + 1)),
        changed(put("model", "merges", value=[["no such", "token"]])),
        changed(put("model", "merges", value=7)),
        changed(put("model", "dropout", value="much")).replace('"much"', "NaN,"),
        changed(put("added_tokens", value={})),
        changed(put("added_tokens", value=[7])),
        changed(put("added_tokens", 3, "id", value=4)),
        changed(put("added_tokens", 3, "id", value="3")),
        changed(put("added_tokens", 3, "content", value="")),
        changed(put("added_tokens", 3, "content", value="\ud800")),
        changed(put("added_tokens", 3, "content", value="a")),
        changed(put("added_tokens", 3, "content", value="<unheard>")),
        changed(lambda d: d["added_tokens"].append(d["added_tokens"][0] | {"id": 384})),
        changed(
            lambda d: d["added_tokens"].append(
                d["added_tokens"][0] | {"id": 2**31, "content": "<far>"}
            )
        ),
        changed(put("decoder", value={"type": "No\x1b[31m such\n"})),
    ],
)
def test_what_is_no_tokenizer_is_corrupt(data: str) -> None:
    with pytest.raises(ModelCorruptError) as raised:
        Tokenizer.from_json(data)
    assert raised.value.message.isprintable()


PLACES = [
    ("normalizer",),
    ("pre_tokenizer",),
    ("pre_tokenizer", "pretokenizers"),
    ("pre_tokenizer", "pretokenizers", 0),
    ("pre_tokenizer", "pretokenizers", 0, "type"),
    ("pre_tokenizer", "pretokenizers", 1),
    ("pre_tokenizer", "pretokenizers", 1, "use_regex"),
    ("decoder",),
    ("post_processor",),
    ("truncation",),
    ("padding",),
    ("added_tokens",),
    ("added_tokens", 5),
    ("added_tokens", 5, "content"),
    ("added_tokens", 5, "id"),
    ("added_tokens", 5, "special"),
    ("model",),
    ("model", "type"),
    ("model", "vocab"),
    ("model", "vocab", "ab"),
    ("model", "merges"),
    ("model", "merges", 0),
    ("model", "dropout"),
    ("model", "unk_token"),
    ("model", "fuse_unk"),
    ("model", "ignore_merges"),
    ("model", "end_of_word_suffix"),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), json_values)
def test_a_mangled_file_is_refused_or_keeps_the_text(
    place: tuple[str | int, ...], value: object
) -> None:
    try:
        tokenizer = Tokenizer.from_json(changed(put(*place, value=value)))
    except BigcodeError:
        return
    text = TINY_TEXT + "  <fim_middle> "
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_load_reads_the_folder(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(tiny_json(), encoding="utf-8")
    assert Tokenizer.load(tmp_path).encode("def") == tiny_tokenizer().encode("def")


def test_load_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelIncompleteError, match=FILE_NAME):
        Tokenizer.load(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_bytes(b"\xff")
    with pytest.raises(ModelCorruptError, match="UTF-8"):
        Tokenizer.load(tmp_path)
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ModelCorruptError, match="larger than"):
        Tokenizer.load(tmp_path)


def test_the_byte_alphabet_is_the_librarys() -> None:
    library = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    assert sorted(CHAR_OF_BYTE.values()) == sorted(library)
    for byte in range(0x80):
        ((piece, _),) = tokenizers.pre_tokenizers.ByteLevel(
            add_prefix_space=False, use_regex=False
        ).pre_tokenize_str(chr(byte))
        assert piece == CHAR_OF_BYTE[byte]


def test_the_library_is_imported_only_with_a_tokenizer() -> None:
    code = (
        "import sys, bigcode_cli.text.tokenizer, bigcode_cli.text.stream, bigcode_cli.text.stops,"
        " bigcode_cli.text.fim, bigcode_cli.text.terminal; sys.exit('tokenizers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PIECE_TEXTS = st.text(alphabet="ab1_('\"é日🙂\u00a0\u2028\x1c \t\r\n", max_size=400)


@settings(deadline=None, max_examples=150)
@given(PIECE_TEXTS, st.lists(st.integers(1, 60), max_size=20), st.integers(1, 12))
def test_a_text_in_pieces_encodes_to_the_same_ids(text: str, sizes: list[int], piece: int) -> None:
    pieces, rest = [], text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "CHUNK_CHARACTERS", 3 * piece)
        patch.setattr(tokenizer_module, "PIECE_CHARACTERS", piece)
        found = [*starcoder_tokenizer().encode_pieces([*pieces, rest])]
    assert [id_ for ids in found for id_ in ids] == starcoder_tokenizer().encode(text)


def test_pieces_of_a_long_text_are_encoded_as_they_come() -> None:
    taken = 0

    def pieces() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 400):  # noqa: B007
            yield "value = other + 1\n" * 500

    next(tiny_tokenizer().encode_pieces(pieces()))
    assert taken == -(-tokenizer_module.CHUNK_CHARACTERS // 9000)


def test_a_tokenizer_of_another_pattern_is_given_the_whole_text() -> None:
    document = tiny_document()
    *before, last = document["pre_tokenizer"]["pretokenizers"]
    pattern = {"type": "Split", "pattern": {"Regex": r"[^\w\s]+[\r\n]*"}, "invert": False}
    split = {**pattern, "behavior": "Isolated"}
    document["pre_tokenizer"]["pretokenizers"] = [*before, split, last]
    tokenizer = Tokenizer.from_json(json.dumps(document))
    text = "call(a)\n" * (tokenizer_module.CHUNK_CHARACTERS // 4)
    [ids] = tokenizer.encode_pieces([text[:1000], text[1000:]])
    assert ids == tokenizer.encode(text)


def test_byte_lengths_are_those_of_the_tokens() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.byte_lengths == [
        len(tokenizer.token_bytes(id_)) for id_ in range(tokenizer.vocab_size)
    ]
