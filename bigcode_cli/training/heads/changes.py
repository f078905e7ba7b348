"""How seldom neighbouring tokens of labelled texts are not in the same part."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from bigcode_cli.records import ChangeCosts
from bigcode_cli.text.spans import read_tags
from bigcode_cli.text.tag_paths import FREE, MARK, WORD, boundaries, goes_on
from bigcode_cli.text.tokenizer import Tokenizer
from bigcode_cli.training.heads.examples import Example, bio_tags


def change_costs(examples: Iterable[Example], tokenizer: Tokenizer) -> ChangeCosts:
    """What changes are to cost a token head that learns from these, each as it is rare.

    Of a kind of boundary it is ``-log((changes + 1) / (boundaries + 2))``, in nats: Laplace's rule
    of succession, by which no cost is infinite.
    """
    seen: Counter[tuple[int, tuple[str, str]]] = Counter()
    for example in examples:
        lengths = [tokenizer.byte_lengths[id_] for id_ in tokenizer.encode(example.text)]
        tags = bio_tags(example.text, example.marks, lengths)
        seen.update(zip(boundaries(example.text, lengths), pairwise(tags), strict=True))
    places, changes = [0, 0, 0], [0, 0, 0]
    for (kind, pair), count in seen.items():
        places[kind] += count
        before, after = read_tags(pair)
        if not goes_on(before, after):
            changes[kind] += count
    costs = [math.log((n + 2) / (k + 1)) for n, k in zip(places, changes, strict=True)]
    return ChangeCosts(word=costs[WORD], mark=costs[MARK], free=costs[FREE])
