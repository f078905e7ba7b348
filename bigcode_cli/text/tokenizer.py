"""A byte-level BPE tokenizer that takes the user's text for nothing but text.

``tokenizer.json`` comes with a checkpoint and is not trusted. Of what it can ask for:

- refused, because the model would be shown a text other than the user's: a normalizer, a
  pre-tokenizer that drops or adds characters, a vocabulary that cannot spell ASCII, a model
  other than byte-level BPE;
- set aside, because it does not belong to the text: truncation, padding, dropout, and the
  post-processor (whoever wants an ``<|endoftext|>`` in front adds its id).

The ``tokenizers`` library is imported when the first tokenizer is loaded.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bigcode_cli.errors import (
    InputError,
    ModelCorruptError,
    ModelIncompleteError,
    ModelUnsupportedError,
)
from bigcode_cli.text.terminal import escape_control

if TYPE_CHECKING:
    import tokenizers

FILE_NAME = "tokenizer.json"
END_OF_TEXT = "<|endoftext|>"
MAX_FILE_BYTES = 64 * 2**20
"""Far above any tokenizer of the family (StarCoder: 2 MB)."""

CHUNK_CHARACTERS = 2**17
PIECE_CHARACTERS = 2**14
"""Of a text that is encoded piece by piece: what is held, and what one core is given."""

_BEFORE_BLANK = re.compile(r"[!-~](?=[ \t\r\n])")

JsonObject = dict[str, Any]


def _byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte (GPT-2's ``bytes_to_unicode``)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(0x100 + rank) for rank, byte in enumerate(others)
    }


CHAR_OF_BYTE = _byte_alphabet()
BYTE_OF_CHAR = {ord(char): chr(byte) for byte, char in CHAR_OF_BYTE.items()}


class Tokenizer:
    """Text to ids and ids to bytes; made by ``load`` or ``from_json``.

    Attributes:
        vocab_size: the highest id + 1; every id below it is a token.
        control_ids: tokens that no text encodes to: all that were added to the BPE vocabulary,
            marked special or not, and ``<|endoftext|>``.
        eos_id: of ``<|endoftext|>``.
    """

    def __init__(
        self,
        library: "tokenizers.Tokenizer",
        spellings: list[str],
        control: dict[str, int],
        *,
        cuts: bool,
    ) -> None:
        self._library = library
        self._cuts = cuts
        # Bytes as characters of the byte alphabet: a list of these is half the size of one of
        # bytes, and joined it decodes in one go.
        self._spellings = spellings
        self._control = control
        known = {spelling for spelling in spellings if len(spelling) == 1}
        self._unspelled = bytes(byte for byte, char in CHAR_OF_BYTE.items() if char not in known)
        self.vocab_size = len(spellings)
        self.control_ids = frozenset(control.values())
        self.eos_id = control[END_OF_TEXT]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``tokenizer.json`` of a model folder.

        Raises:
            ModelIncompleteError: there is none, or it cannot be read.
            ModelCorruptError: it is not a tokenizer.
            ModelUnsupportedError: it is one of a kind that would change the user's text.
        """
        path = folder / FILE_NAME
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ModelIncompleteError(
                f"cannot read {path}: {error.strerror}", "the model needs its tokenizer.json"
            ) from error
        if len(data) > MAX_FILE_BYTES:
            raise ModelCorruptError(f"{path} is larger than {MAX_FILE_BYTES // 2**20} MiB")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelCorruptError(f"{path} is not UTF-8") from error
        return cls.from_json(text)

    @classmethod
    def from_json(cls, data: str) -> Self:
        """Make a tokenizer from the content of a ``tokenizer.json``.

        Raises:
            ModelCorruptError, ModelUnsupportedError: as ``load``.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelCorruptError(f"{FILE_NAME} is not JSON: {_line(error)}") from error
        if not isinstance(document, dict):
            raise ModelCorruptError(f"{FILE_NAME} is not a JSON object")
        vocabulary = _plain_vocabulary(document)
        _refuse_changes_of_text(document)
        control = _control_tokens(document, vocabulary)
        spellings = _spellings(vocabulary, control)
        library = _library_tokenizer(document, data)
        if library.get_vocab_size(with_added_tokens=True) != len(spellings) or any(
            library.token_to_id(text) != id_ for text, id_ in control.items()
        ):
            raise ModelCorruptError(f"{FILE_NAME}: an added token's id does not follow the others")
        return cls(library, spellings, control, cuts=_cuts_before_blanks(document))

    def encode(self, text: str) -> list[int]:
        """The ids of a text; a control token's spelling in it is text like any other.

        Raises:
            InputError: the text holds a lone surrogate, which UTF-8 has no bytes for, or a
                character with a byte that has no token (StarCoder: U+40000 to U+7FFFF, which
                Unicode has not assigned); the library would drop that byte.
            ModelUnsupportedError: the vocabulary's own merges spell a control token.
        """
        return self._encode([text])

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[list[int]]:
        """The ids of a text that comes in pieces: joined, they equal ``encode`` of the whole.

        Some ``CHUNK_CHARACTERS`` are held at a time, where the tokenizer is of a kind that can be
        cut, as all of the family are; else the whole text.

        Raises:
            InputError, ModelUnsupportedError: as ``encode``.
        """
        held = ""
        for piece in pieces:
            held += piece
            if self._cuts and len(held) >= CHUNK_CHARACTERS:
                *whole, held = _cut(held)
                yield self._encode(whole)
        yield self._encode([held])

    def _encode(self, texts: Sequence[str]) -> list[int]:
        """The ids of texts that are encoded by themselves, side by side on several cores."""
        for text in texts:
            self._check(text)
        ids = [
            id_
            for encoded in self._library.encode_batch_fast(texts, add_special_tokens=False)
            for id_ in encoded.ids
        ]
        if not self.control_ids.isdisjoint(ids):
            raise ModelUnsupportedError(f"{FILE_NAME}: plain text encodes to a control token")
        return ids

    def _check(self, text: str) -> None:
        """Raise ``InputError`` where the library would raise another or drop a byte."""
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"the text holds a lone surrogate (U+{ord(text[error.start]):04X})",
                "it was decoded wrongly; see --encoding",
            ) from error
        if len(data.translate(None, self._unspelled)) < len(data):
            strange = next(char for char in text if set(char.encode()) & set(self._unspelled))
            raise InputError(f"the tokenizer has no token for the character U+{ord(strange):04X}")

    def decode(self, ids: Iterable[int]) -> str:
        """The bytes of all ids joined, as UTF-8 with U+FFFD; control tokens are spelled out.

        Raises:
            ValueError: an id is no token.
        """
        return _to_bytes("".join(map(self._spelling, ids))).decode("utf-8", "replace")

    def token_bytes(self, id_: int) -> bytes:
        """The bytes that a token stands for; a control token's are its spelling.

        Raises:
            ValueError: the id is no token.
        """
        return _to_bytes(self._spelling(id_))

    @cached_property
    def byte_lengths(self) -> list[int]:
        """How many bytes each id stands for."""
        return [len(self.token_bytes(id_)) for id_ in range(self.vocab_size)]

    def token_id(self, text: str) -> int | None:
        """The control token of this spelling, or else the plain token that stands for ``text``."""
        if text in self._control:
            return self._control[text]
        id_: int | None = self._library.token_to_id(_to_spelling(text.encode("utf-8")))
        return id_

    def ids_starting_with(self, prefix: bytes) -> tuple[int, ...]:
        """All plain tokens whose bytes begin with ``prefix``, in ascending order."""
        start = _to_spelling(prefix)
        return tuple(
            id_
            for id_, spelling in enumerate(self._spellings)
            if spelling.startswith(start) and id_ not in self.control_ids
        )

    def _spelling(self, id_: int) -> str:
        if not 0 <= id_ < self.vocab_size:
            raise ValueError(f"no token has the id {id_}; the vocabulary has {self.vocab_size}")
        return self._spellings[id_]


def _cuts_before_blanks(document: JsonObject) -> bool:
    r"""Whether a text can be cut before any blank behind a printable ASCII character.

    True of GPT-2's pattern, alone or behind single digits: a blank begins a new part there, and no
    part depends on what stands before it. So the parts, and with them the tokens, are the same.
    """
    *before, last = _pre_tokenizers(document.get("pre_tokenizer"))
    return last.get("use_regex", True) and all(step.get("type") == "Digits" for step in before)


def _cut(text: str) -> list[str]:
    """A text in pieces of at least ``PIECE_CHARACTERS`` that are encoded apart, and the rest."""
    pieces, start = [], 0
    while place := _BEFORE_BLANK.search(text, start + PIECE_CHARACTERS):
        pieces.append(text[start : place.end()])
        start = place.end()
    return [*pieces, text[start:]]


def _to_bytes(spelling: str) -> bytes:
    return spelling.translate(BYTE_OF_CHAR).encode("latin-1")


def _to_spelling(data: bytes) -> str:
    return data.decode("latin-1").translate(CHAR_OF_BYTE)


def _line(error: BaseException) -> str:
    return escape_control(" ".join(str(error).split())) or type(error).__name__


def _refuse_changes_of_text(document: JsonObject) -> None:
    """Refuse what would show the model a text other than the user's."""
    if document.get("normalizer") not in (None, {"type": "Sequence", "normalizers": []}):
        raise ModelUnsupportedError(f"{FILE_NAME}: a normalizer would change the text")
    steps = _pre_tokenizers(document.get("pre_tokenizer"))
    if not steps or steps[-1].get("type") != "ByteLevel":
        raise ModelUnsupportedError(f"{FILE_NAME} is not byte-level")
    *before, last = steps
    if last.get("add_prefix_space"):
        raise ModelUnsupportedError(f"{FILE_NAME}: a space would be added before the text")
    for step in before:
        splits = step.get("type") in ("Split", "Punctuation") and step.get("behavior") != "Removed"
        if step.get("type") != "Digits" and not splits:
            raise ModelUnsupportedError(
                f"{FILE_NAME}: the pre-tokenizer {step.get('type')!r} would change the text"
            )


def _pre_tokenizers(value: object) -> list[JsonObject]:
    """The pre-tokenizer's steps; none where it is not made of objects."""
    steps: Any = [value]
    if isinstance(value, dict) and value.get("type") == "Sequence":
        steps = value.get("pretokenizers")
    if isinstance(steps, list) and all(isinstance(step, dict) for step in steps):
        return steps
    return []


def _plain_vocabulary(document: JsonObject) -> dict[str, int]:
    """The BPE model's own tokens, spelled in the byte alphabet, with their ids."""
    model = document.get("model")
    if not isinstance(model, dict):
        raise ModelCorruptError(f"{FILE_NAME} holds no model")
    # Files of old versions of the library do not name the type of a BPE model.
    if model.get("type", "BPE") != "BPE":
        raise ModelUnsupportedError(f"{FILE_NAME} is of type {model['type']!r}, not byte-level BPE")
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            raise ModelUnsupportedError(f"{FILE_NAME} is not byte-level: it has {key}")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not set(map(type, vocabulary.values())) <= {int}:
        raise ModelCorruptError(f"{FILE_NAME}: the vocabulary does not map tokens to ids")
    if any(CHAR_OF_BYTE[byte] not in vocabulary for byte in range(0x80)):
        raise ModelUnsupportedError(f"{FILE_NAME} is not byte-level: ASCII bytes have no token")
    return vocabulary


def _control_tokens(document: JsonObject, vocabulary: dict[str, int]) -> dict[str, int]:
    """The ids of the added tokens and of ``<|endoftext|>``, by their strings."""
    added = document.get("added_tokens")
    if added is None:
        added = []
    control: dict[str, int] = {}
    if not isinstance(added, list):
        raise ModelCorruptError(f"{FILE_NAME}: added_tokens is not a list")
    for token in added:
        text, id_ = (
            (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        )
        if not isinstance(text, str) or not text or type(id_) is not int:
            raise ModelCorruptError(f"{FILE_NAME}: an added token lacks its content or id")
        if control.setdefault(text, id_) != id_ or vocabulary.get(text, id_) != id_:
            raise ModelCorruptError(f"{FILE_NAME}: the token {text!r} has two ids")
        if any(0xD800 <= ord(char) < 0xE000 for char in text):
            raise ModelCorruptError(f"{FILE_NAME}: the token {text!r} is not Unicode")
    if END_OF_TEXT in vocabulary:
        control[END_OF_TEXT] = vocabulary[END_OF_TEXT]
    if END_OF_TEXT not in control:
        raise ModelUnsupportedError(f"{FILE_NAME} has no {END_OF_TEXT} token")
    return control


def _spellings(vocabulary: dict[str, int], control: dict[str, int]) -> list[str]:
    """What each id stands for, in the byte alphabet; the ids must be 0, 1, 2 … without holes."""
    plain = dict(vocabulary)
    for text in control:
        plain.pop(text, None)
    strange = set("".join(plain)) - set(CHAR_OF_BYTE.values())
    if strange:
        raise ModelUnsupportedError(
            f"{FILE_NAME} is not byte-level: a token holds {min(strange)!r}"
        )
    ids = sorted([*plain.values(), *control.values()])
    for rank, id_ in enumerate(ids):
        if id_ != rank:
            fault = f"no token has the id {rank}" if id_ > rank else f"two tokens have the id {id_}"
            raise ModelCorruptError(f"{FILE_NAME}: {fault}")
    spellings = [""] * len(ids)
    for text, id_ in plain.items():
        spellings[id_] = text
    for text, id_ in control.items():
        spellings[id_] = _to_spelling(text.encode("utf-8"))
    return spellings


def _library_tokenizer(document: JsonObject, data: str) -> "tokenizers.Tokenizer":
    """The library's tokenizer of a checked document, with what is set aside taken out."""
    plain = document | {
        "truncation": None,
        "padding": None,
        "post_processor": None,
        "model": document["model"] | {"type": "BPE", "dropout": None},
        # One that is not special would be found in text whatever the library is told.
        "added_tokens": [token | {"special": True} for token in document.get("added_tokens") or []],
    }
    import tokenizers

    try:
        # Writing it anew costs as much as reading it did: mostly the file is right as it is.
        library = tokenizers.Tokenizer.from_str(data if plain == document else json.dumps(plain))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the Rust library is no Exception
        raise ModelCorruptError(f"{FILE_NAME} is not a tokenizer: {_line(error)}") from error
    library.encode_special_tokens = True
    return library
