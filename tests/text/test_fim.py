import json
from typing import Any

import pytest

from bigcode_cli.errors import ModelUnsupportedError
from bigcode_cli.text.fim import Dialect, find_dialect, psm, spm
from bigcode_cli.text.tokenizer import Tokenizer
from tests.tokenizers import starcoder_json, starcoder_tokenizer, tiny_document, tiny_tokenizer

STARCODER = Dialect("starcoder", prefix_id=1, suffix_id=3, middle_id=2, filename_id=5, repo_id=18)
SANTACODER_TOKENS = ("<|endoftext|>", "<fim-prefix>", "<fim-middle>", "<fim-suffix>", "<fim-pad>")


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


def test_starcoder_dialect_is_found_by_its_strings() -> None:
    assert find_dialect(starcoder_tokenizer()) == STARCODER
    assert find_dialect(tiny_tokenizer()) == STARCODER


def test_santacoder_dialect_is_found_by_its_strings() -> None:
    tokenizer = Tokenizer.from_json(json.dumps(santacoder_document()))
    dialect = find_dialect(tokenizer)
    assert dialect == Dialect("santacoder", prefix_id=49153, suffix_id=49155, middle_id=49154)
    assert tokenizer.eos_id == 49152
    assert tokenizer.vocab_size == 49157
    assert psm(dialect, [10, 11], [20]) == [49153, 10, 11, 49155, 20, 49154]
    assert spm(dialect, [10, 11], [20]) == [49153, 49155, 20, 49154, 10, 11]


@pytest.mark.parametrize("missing", SANTACODER_TOKENS[1:4])
def test_no_dialect_without_all_three_santacoder_tokens(missing: str) -> None:
    document = santacoder_document()
    for token in document["added_tokens"]:
        if token["content"] == missing:
            token["content"] = "<other>"
    with pytest.raises(ModelUnsupportedError, match="no fill-in-the-middle tokens"):
        find_dialect(Tokenizer.from_json(json.dumps(document)))


@pytest.mark.parametrize("missing", ["<fim_prefix>", "<fim_middle>", "<fim_suffix>"])
def test_no_dialect_without_all_three_starcoder_control_tokens(missing: str) -> None:
    document = tiny_document()
    document["added_tokens"] = [
        token for token in document["added_tokens"] if token["content"] != missing
    ]
    tokenizer = Tokenizer.from_json(json.dumps(document))
    assert tokenizer.token_id(missing) is not None  # there, but as a plain token
    with pytest.raises(ModelUnsupportedError, match="no fill-in-the-middle tokens"):
        find_dialect(tokenizer)


def test_psm_is_prefix_suffix_middle() -> None:
    assert psm(STARCODER, [10, 11], [20, 21]) == [1, 10, 11, 3, 20, 21, 2]


def test_spm_is_the_order_that_was_trained() -> None:
    assert spm(STARCODER, [10, 11], [20, 21]) == [1, 3, 20, 21, 2, 10, 11]


def test_prefix_and_suffix_may_be_empty() -> None:
    assert psm(STARCODER, [], []) == [1, 3, 2]
    assert spm(STARCODER, [], []) == [1, 3, 2]
