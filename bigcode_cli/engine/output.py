"""One output as it grows: sampled ids in, final text out, and how it ended."""

from bisect import bisect_right
from time import perf_counter
from typing import Protocol

from bigcode_cli.engine.protocol import Token
from bigcode_cli.records import FinishReason, Passes, TokenLogprob
from bigcode_cli.text.stream import StreamDecoder
from bigcode_cli.text.tokenizer import Tokenizer


class Scanner(Protocol):
    """Passes the text of one output through, up to where it ends by itself.

    Attributes:
        stopped: nothing more will come.
        stop: the stop string that ended it, if one did.
    """

    stopped: bool
    stop: str | None

    def push(self, text: str) -> str:
        """The text that is safe to show; nothing once ``stopped``."""

    def flush(self) -> str:
        """The text held back at the output's end."""


class Output:
    """The text of one row, grown a token at a time.

    Args:
        request: the position of its request among those handed in.
        sample: its index within that request.
        scanner: decides what of the text is shown.
        budget: tokens that may be sampled.
        healed: text at the start of the first token that the prompt holds already.
        lead: text that the scanner puts in front.

    Attributes:
        finish_reason: ``None`` while the output grows.
        stop: the stop string that ended it, if one did.
        tokens: how many tokens were sampled.
        logprobs: a record a token, where the backend was asked for them.
        passes: what guesses came to; ``None`` where none are made.
    """

    def __init__(
        self,
        *,
        request: int,
        sample: int,
        tokenizer: Tokenizer,
        scanner: Scanner,
        budget: int,
        healed: str = "",
        lead: str = "",
    ) -> None:
        self.request = request
        self.sample = sample
        self.finish_reason: FinishReason | None = None
        self.stop: str | None = None
        self.tokens = 0
        self.logprobs: list[TokenLogprob] = []
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.passes: Passes | None = None
        self._tokenizer = tokenizer
        self._decoder = StreamDecoder(tokenizer)
        self._scanner = scanner
        self._budget = budget
        self._healed = healed
        self._scanned = len(lead)
        self._scanned_by: list[int] = []
        self._text = ""
        self._taken = 0

    @property
    def text(self) -> str:
        """All text that is final."""
        return self._text

    @property
    def tokens_of_text(self) -> int:
        """How many of the tokens, from the first, ``text`` is made of.

        The token at which it ended, by a stop or the end of the text, is counted in; those sampled
        while it was still unknown that there was a stop are not.
        """
        whole = bisect_right(self._scanned_by, len(self._text))
        return min(whole + 1, self.tokens)

    @property
    def left(self) -> int:
        """Tokens that may still be sampled."""
        return self._budget - self.tokens

    def count(self, guessed: int | None, tokens: int) -> None:
        """Note that a pass over as many guesses gave as many tokens, if it was one with any say."""
        if guessed is not None:
            self.passes = (self.passes or Passes()).plus(guessed, tokens)

    def take(self) -> str:
        """The text that became final since the last call."""
        start, self._taken = self._taken, len(self._text)
        return self._text[start:]

    def accept(self, token: Token) -> None:
        """Add a sampled token; a control token ends the output and is never shown."""
        now = perf_counter()
        self.first_token_at = self.first_token_at or now
        self.last_token_at = now
        self.tokens += 1
        if token.logprob is not None:
            self.logprobs.append(self._told(token, token.logprob))
        if token.id in self._tokenizer.control_ids:
            self.end("eos")
            return
        self._scan(self._decoder.push(token.id))
        self._scanned_by.append(self._scanned)
        if self._scanner.stopped:
            self.finish_reason, self.stop = "stop", self._scanner.stop
        elif self.tokens == self._budget:
            self.end("length")

    def end(self, reason: FinishReason) -> None:
        """Nothing follows, so what was held back for a stop string or half a character is due.

        What was held back may turn out to hold a stop, which is no reason of the one who broke the
        output off.
        """
        self._scan(self._decoder.flush())
        self._text += self._scanner.flush()
        if self._scanner.stopped and reason != "interrupted":
            self.finish_reason, self.stop = "stop", self._scanner.stop
        else:
            self.finish_reason = reason

    def _scan(self, segment: str) -> None:
        """Pass decoded text on, less what the prompt holds already."""
        if self._healed:
            known = min(len(self._healed), len(segment))
            self._healed, segment = self._healed[known:], segment[known:]
        self._scanned += len(segment)
        self._text += self._scanner.push(segment)

    def _told(self, token: Token, logprob: float) -> TokenLogprob:
        top = tuple(TokenLogprob(id_, self._spelled(id_), value) for id_, value in token.top)
        return TokenLogprob(token.id, self._spelled(token.id), logprob, top)

    def _spelled(self, id_: int) -> str:
        return self._tokenizer.token_bytes(id_).decode("utf-8", errors="replace")
