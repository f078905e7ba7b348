"""Where in a text its tokens begin, as they go by."""

_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that begin no character."""


class Places:
    r"""Lines end with ``\n`` alone; lines and columns count from 1, columns in code points."""

    def __init__(self) -> None:
        self._line = 1
        self._begun = 0  # characters of this line

    def take(self, data: bytes) -> tuple[int, int]:
        """Line and column of the next token's first character.

        Args:
            data: the token's bytes. If they begin within a character, its place is given.
        """
        within = data[0] in _CONTINUATION
        place = self._line, self._begun + (not within)
        newlines = data.count(b"\n")
        if newlines:
            self._line += newlines
            self._begun = 0
        self._begun += len(data[data.rfind(b"\n") + 1 :].translate(None, _CONTINUATION))
        return place
