from collections.abc import Callable
from dataclasses import fields
from itertools import product
from typing import Any

import pytest
import torch

from bigcode_cli.model.outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    ModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from tests.model.models import random_ids, small_config, wide_model

BASE = ["past_key_values", "hidden_states", "attentions"]
FIELDS: dict[type[ModelOutput], list[str]] = {
    BaseModelOutputWithPastAndCrossAttentions: ["last_hidden_state", *BASE, "cross_attentions"],
    CausalLMOutputWithCrossAttentions: ["loss", "logits", *BASE, "cross_attentions"],
    SequenceClassifierOutputWithPast: ["loss", "logits", *BASE],
    TokenClassifierOutput: ["loss", "logits", "hidden_states", "attentions"],
}


def every_output() -> list[tuple[ModelOutput, dict[str, Any]]]:
    """Every record with every choice of the fields that are there, and what is there."""
    made = []
    for record, names in FIELDS.items():
        values: dict[str, Any] = {name: torch.tensor(at) for at, name in enumerate(names)}
        values["hidden_states"] = (torch.tensor(1), torch.tensor(2))
        for present in product((True, False), repeat=len(names)):
            if record is BaseModelOutputWithPastAndCrossAttentions and not present[0]:
                continue
            there = {
                name: values[name] for name, is_in in zip(names, present, strict=True) if is_in
            }
            made.append((record(**there), there))
    return made


def for_every_output(law: Callable[[ModelOutput, dict[str, Any]], None]) -> None:
    for output, there in every_output():
        law(output, there)


def test_fields_have_the_names_and_the_order_of_transformers() -> None:
    for record, names in FIELDS.items():
        assert [entry.name for entry in fields(record)] == names  # type: ignore[arg-type]


def test_what_is_not_given_is_not_there() -> None:
    def law(output: ModelOutput, there: dict[str, Any]) -> None:
        assert output.keys() == list(there)
        assert list(output) == list(there)
        assert len(output) == len(there)
        for name in FIELDS[type(output)]:
            assert (name in output) == (name in there)
            assert getattr(output, name) is there.get(name)
        assert "logit" not in output
        assert 0 not in output

    for_every_output(law)


def test_names_places_and_slices_find_the_same_values() -> None:
    def law(output: ModelOutput, there: dict[str, Any]) -> None:
        values = tuple(there.values())
        assert output.to_tuple() == values
        for at, (name, value) in enumerate(there.items()):
            assert output[name] is value
            assert output[at] is value
            assert output[at - len(there)] is value
        assert output[:] == values
        assert output[1:3] == values[1:3]
        assert output[::-1] == values[::-1]

    for_every_output(law)


def test_a_record_unpacks_as_a_mapping() -> None:
    def law(output: ModelOutput, there: dict[str, Any]) -> None:
        # The values are tensors, of which equality would ask for more than identity.
        assert {name: id(value) for name, value in dict(output).items()} == {
            name: id(value) for name, value in there.items()
        }
        assert type(output)(**output).to_tuple() == output.to_tuple()

    for_every_output(law)


def test_what_is_not_there_is_an_error() -> None:
    def law(output: ModelOutput, there: dict[str, Any]) -> None:
        for name in (*FIELDS[type(output)], "keys", "nothing"):
            if name not in there:
                with pytest.raises(KeyError, match=name):
                    output[name]
        for place in (len(there), -len(there) - 1):
            with pytest.raises(IndexError):
                output[place]

    for_every_output(law)


@torch.no_grad()
def test_a_model_gives_them_as_its_documentation_says() -> None:
    model = wide_model(small_config(), "auto")
    ids = random_ids(model.config, 2, 5)
    output = model(ids, labels=ids, output_attentions=True)
    assert type(output) is CausalLMOutputWithCrossAttentions
    loss, logits = output[:2]
    assert loss is output.loss is output["loss"] is output[0]
    assert logits is output.logits is output["logits"] is output[1]
    assert list(output) == ["loss", "logits", "past_key_values", "attentions"]
    base = model.transformer(ids, use_cache=False)
    assert type(base) is BaseModelOutputWithPastAndCrossAttentions
    assert len(base) == 1
    assert base[0] is base.last_hidden_state
