"""Ids to text as they come: no segment holds half a character."""

import codecs

from bigcode_cli.text.tokenizer import Tokenizer


class StreamDecoder:
    """Decodes one output token by token.

    Law: the segments joined, ``flush``'s included, equal ``Tokenizer.decode`` of all ids,
    whatever the ids. A token's text depends on its neighbours where characters are split between
    them, so the bytes are decoded, never a lone token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id_: int) -> str:
        """The text that is final with this token; empty inside a character.

        Raises:
            ValueError: the id is no token.
        """
        return self._decoder.decode(self._tokenizer.token_bytes(id_))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was never finished."""
        return self._decoder.decode(b"", final=True)
