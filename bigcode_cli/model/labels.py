"""The labels of a classifier: from id to name and back, and nothing that contradicts itself."""

from collections.abc import Mapping

from bigcode_cli.errors import ModelUnsupportedError

MAX_LABELS = 2**16
DEFAULT_LABELS = 2


def label_maps(
    num_labels: object, id2label: object, label2id: object
) -> tuple[dict[int, str], dict[str, int]]:
    """The maps from id to label and from label to id that these three values mean together.

    Any of them may be ``None``. With neither map the labels are ``LABEL_0``, ``LABEL_1`` …, two
    of them unless ``num_labels`` says otherwise; one map alone gives the other. Ids may be
    decimal strings, as JSON has them.

    Raises:
        ModelUnsupportedError: a value of another form, ids that are not 0, 1 … in some order, a
            label that stands for two ids, or values that contradict each other.
    """
    if num_labels is not None and not (type(num_labels) is int and 1 <= num_labels <= MAX_LABELS):
        raise ModelUnsupportedError(
            f"configuration: num_labels must be an integer from 1 to {MAX_LABELS}"
        )
    if id2label is not None:
        names = _read_id2label(id2label)
    elif label2id is not None:
        names = {at: label for label, at in _read_label2id(label2id).items()}
        names = _in_order(names, "label2id")
    else:
        names = {at: f"LABEL_{at}" for at in range(num_labels or DEFAULT_LABELS)}
    ids = {label: at for at, label in names.items()}
    if len(ids) != len(names):
        raise ModelUnsupportedError("configuration: id2label names a label twice")
    if label2id is not None and _read_label2id(label2id) != ids:
        raise ModelUnsupportedError("configuration: label2id contradicts id2label")
    if num_labels is not None and num_labels != len(names):
        raise ModelUnsupportedError(
            f"configuration: num_labels is {num_labels}, but {len(names)} labels have names"
        )
    return names, ids


def _read_id2label(value: object) -> dict[int, str]:
    pairs = value.items() if isinstance(value, Mapping) else ()
    names = {_label_id(key): label for key, label in pairs if isinstance(label, str)}
    if not pairs or len(names) != len(pairs):
        raise ModelUnsupportedError("configuration: id2label must map each id to one label")
    return _in_order(names, "id2label")


def _read_label2id(value: object) -> dict[str, int]:
    pairs = value.items() if isinstance(value, Mapping) else ()
    ids = {key: at for key, at in pairs if isinstance(key, str) and type(at) is int}
    if not pairs or len(ids) != len(pairs) or len(set(ids.values())) != len(ids):
        raise ModelUnsupportedError("configuration: label2id must map each label to its own id")
    return ids


def _in_order(names: dict[int, str], source: str) -> dict[int, str]:
    if len(names) > MAX_LABELS or set(names) != set(range(len(names))):
        raise ModelUnsupportedError(
            f"configuration: the ids of {source} must be 0, 1 … without a gap, "
            f"at most {MAX_LABELS} of them"
        )
    return dict(sorted(names.items()))


def _label_id(key: object) -> int:
    """The id that a key means; −1, which no label has, where it means none."""
    if type(key) is int:
        return key
    if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= 9:
        return int(key)
    return -1
