import random
import re
import string

import pytest

from bigcode_cli.training.heads.pii.names import FAMILY, GIVEN
from bigcode_cli.training.heads.pii.templates import SLOT_LABELS, templates
from bigcode_cli.training.heads.pii.values import KEYS, Values

SLOT = re.compile(r"\{([a-z0-9_]+)\}")
SPLITS = ("train", "test")


def values(split: str, seed: int = 0) -> Values:
    return Values(split, random.Random(seed))


def test_the_splits_share_no_names_and_some_formats_of_keys() -> None:
    for names in (GIVEN, FAMILY):
        assert not set(names["train"].split()) & set(names["test"].split())
    assert set(KEYS["train"]) - set(KEYS["test"])
    assert set(KEYS["test"]) - set(KEYS["train"])


@pytest.mark.parametrize("split", SPLITS)
def test_every_slot_of_every_template_has_a_value(split: str) -> None:
    slots = {
        slot for lines in templates(split).values() for line in lines for slot in SLOT.findall(line)
    }
    assert set(SLOT_LABELS) <= slots
    for seed in range(50):
        for slot in slots:
            value = getattr(values(split, seed), slot)()
            assert value == value.strip()
            assert value


def test_held_out_templates_are_the_train_ones_and_more() -> None:
    train, test = templates("train"), templates("test")
    for kind, lines in train.items():
        assert test[kind][: len(lines)] == lines
        assert len(test[kind]) > len(lines)


@pytest.mark.parametrize("split", SPLITS)
def test_values_have_their_shapes(split: str) -> None:
    for seed in range(200):
        drawn = values(split, seed)
        assert re.fullmatch(r"[a-z0-9._+]+@[a-z0-9.-]+\.[a-z.]+", drawn.email())
        assert not drawn.email().endswith(("example.com", "example.org", "example.net"))
        assert re.fullmatch(r"[\d.]+|[0-9a-f:]+", drawn.ip())
        assert not drawn.ip().startswith(("127.", "0.", "255.", "192.0.2.", "2001:db8:"))
        assert not set(drawn.password()) & set(" \"'\n")
        assert not set(drawn.safe_password()) - set(string.ascii_letters + string.digits + "-_!")


def test_values_are_those_of_the_seed() -> None:
    first, again = values("train", 5), values("train", 5)
    for slot in sorted(SLOT_LABELS):
        assert getattr(first, slot)() == getattr(again, slot)()
