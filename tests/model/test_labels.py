from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigcode_cli.errors import ModelUnsupportedError
from bigcode_cli.model.labels import MAX_LABELS, label_maps

labels = st.lists(st.text(max_size=4), min_size=1, max_size=6, unique=True)


def test_two_labels_unless_told() -> None:
    expected = {0: "LABEL_0", 1: "LABEL_1"}, {"LABEL_0": 0, "LABEL_1": 1}
    assert label_maps(None, None, None) == expected
    assert label_maps(1, None, None) == ({0: "LABEL_0"}, {"LABEL_0": 0})
    assert len(label_maps(MAX_LABELS, None, None)[0]) == MAX_LABELS


@given(labels, st.randoms())
def test_one_map_gives_the_other_and_their_number(names: list[str], draw: Random) -> None:
    id2label = dict(enumerate(names))
    label2id = {name: at for at, name in enumerate(names)}
    shuffled = list(id2label.items())
    draw.shuffle(shuffled)
    for forth in (id2label, dict(shuffled), {str(at): name for at, name in shuffled}, None):
        for back in (label2id, None):
            for count in (len(names), None):
                if forth or back:
                    maps = label_maps(count, forth, back)
                    assert maps == (id2label, label2id)
                    assert list(maps[0]) == list(range(len(names)))


def test_the_maps_are_copies() -> None:
    given_map = {0: "a"}
    found, _ = label_maps(None, given_map, None)
    given_map[0] = "b"
    assert found == {0: "a"}


@pytest.mark.parametrize(
    ("num_labels", "id2label", "label2id", "message"),
    [
        (0, None, None, "num_labels must be an integer from 1"),
        (MAX_LABELS + 1, None, None, "num_labels must be an integer from 1"),
        (True, None, None, "num_labels must be an integer from 1"),
        ("2", None, None, "num_labels must be an integer from 1"),
        (3, {0: "a", 1: "b"}, None, "num_labels is 3, but 2 labels have names"),
        (1, None, {"a": 0, "b": 1}, "num_labels is 1, but 2 labels have names"),
        (None, {}, None, "id2label must map"),
        (None, ["a", "b"], None, "id2label must map"),
        (None, {0: "a", "0": "b"}, None, "id2label must map"),
        (None, {0: "a", 1: None}, None, "id2label must map"),
        (None, {1: "a", 2: "b"}, None, "the ids of id2label must be 0, 1"),
        (None, {0: "a", -1: "b"}, None, "the ids of id2label must be 0, 1"),
        (None, {False: "a", 1: "b"}, None, "the ids of id2label must be 0, 1"),
        (None, {"0": "a", "one": "b"}, None, "the ids of id2label must be 0, 1"),
        (None, {"0": "a", "\u0661": "b"}, None, "the ids of id2label must be 0, 1"),
        (None, {"0": "a", "1" * 9999: "b"}, None, "the ids of id2label must be 0, 1"),
        (None, {0: "a", 1: "a"}, None, "names a label twice"),
        (None, {0: "a", 1: "b"}, {"a": 1, "b": 0}, "label2id contradicts id2label"),
        (None, {0: "a", 1: "b"}, {"a": 0}, "label2id contradicts id2label"),
        (None, {0: "a"}, {"LABEL_0": 0}, "label2id contradicts id2label"),
        (None, {0: "a"}, ["a"], "label2id must map"),
        (None, None, {}, "label2id must map"),
        (None, None, {"a": 0, "b": 0}, "label2id must map"),
        (None, None, {"a": "0"}, "label2id must map"),
        (None, None, {"a": False}, "label2id must map"),
        (None, None, {0: 0}, "label2id must map"),
        (None, None, {"a": 1}, "the ids of label2id must be 0, 1"),
    ],
)
def test_labels_that_make_no_sense_are_refused(
    num_labels: object, id2label: object, label2id: object, message: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=message):
        label_maps(num_labels, id2label, label2id)
