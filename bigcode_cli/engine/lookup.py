"""Prompt lookup: what followed when a text's last tokens stood in it before.

Code repeats itself, and an edit most of all: names, calls and whole lines stand in the prefix, in
the suffix and in what was just written (Saxena 2023, prompt lookup decoding; Yang et al. 2023,
inference with reference). The longer the match, the likelier it goes on alike, and how likely is
counted: also where no guess was verified, since what was sampled tells.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile

from bigcode_cli.engine.pace import Rate
from bigcode_cli.engine.protocol import Prompt

MAX_MATCH = 16
"""Tokens up to which matches are told apart."""

MAX_PLACES = 8
"""Places where the last two tokens stood before that are compared, the latest first."""

_GUESSED = 15

Index = dict[tuple[int, int], list[int]]
"""Where the token behind a pair of tokens stands."""


def lookup_rates() -> list[Rate]:
    """By the length of a match, how often the next token is the one that followed then.

    The priors are what the built-in model does where it fills in lines and blocks of code.
    """
    return [Rate(min(0.48 + 0.055 * length, 0.9), 8) for length in range(MAX_MATCH + 1)]


class Lookup:
    """One row's text so far, and what it repeats.

    Args:
        ids: of its prompt.
        index: of the prompt's pairs but the last, which may be shared.
        rates: see ``lookup_rates``; they are added to.
    """

    def __init__(self, ids: Sequence[int], index: Index, rates: Sequence[Rate]) -> None:
        self._ids = list(ids)
        self._prompted = index
        self._own: Index = defaultdict(list)
        self._rates = rates
        self._found: tuple[list[int], int] | None = None

    @classmethod
    def of(cls, prompt: Prompt, rates: Sequence[Rate]) -> "list[Lookup]":
        """One for each of a prompt's samplers."""
        index: Index = defaultdict(list)
        for place in range(2, len(prompt.ids)):
            index[prompt.ids[place - 2], prompt.ids[place - 1]].append(place)
        return [cls(prompt.ids, index, rates) for _ in prompt.samplers]

    def guess(self, count: int) -> list[int]:
        """What may come next."""
        return self._find()[0][:count]

    def chances(self, count: int) -> list[float]:
        """Of each guess, that it holds if those before it do."""
        guess, match = self._find()
        return [self._rate(match + place).mean for place in range(min(len(guess), count))]

    def learn(self, ids: Sequence[int]) -> None:
        """Add sampled tokens, and count which of them could have been guessed."""
        guess, match = self._find()
        for place, pair in enumerate(zip(guess, ids, strict=False)):
            held = pair[0] == pair[1]
            self._rate(match + place).add(float(held))
            if not held:
                break
        for id_ in ids:
            if len(self._ids) >= 2:
                self._own[self._ids[-2], self._ids[-1]].append(len(self._ids))
            self._ids.append(id_)
        self._found = None

    def _rate(self, match: int) -> Rate:
        return self._rates[min(match, MAX_MATCH)]

    def _find(self) -> tuple[list[int], int]:
        """What followed the longest match, of equals the latest, and how long that is."""
        if self._found is None:
            place, match = self._place()
            self._found = (self._follow(place), match) if match else ([], 0)
        return self._found

    def _place(self) -> tuple[int, int]:
        ids = self._ids
        if len(ids) < 2:
            return 0, 0
        key = ids[-2], ids[-1]
        places = [*self._prompted.get(key, [])[-MAX_PLACES:], *self._own.get(key, [])][-MAX_PLACES:]
        best, longest = 0, 0
        for place in reversed(places):
            before = zip(
                reversed(ids[max(place - MAX_MATCH, 0) : place]), reversed(ids), strict=False
            )
            match = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], before))
            if match > longest:
                best, longest = place, match
        return best, longest

    def _follow(self, place: int) -> list[int]:
        """The tokens from a place on; where the text ends there, as if it went on repeating."""
        text = self._ids[place : place + _GUESSED]
        while len(text) < _GUESSED:
            text += text[: _GUESSED - len(text)]
        return text
