import json
from dataclasses import replace
from pathlib import Path

import pytest

from bigcode_cli.errors import ModelOfflineError, ModelUnsupportedError
from bigcode_cli.hub.facts import describe
from bigcode_cli.hub.pull import pull
from bigcode_cli.model.checkpoint import save_model
from bigcode_cli.model.config import GPTBigCodeConfig
from bigcode_cli.records import Silence
from tests.hub.contents import model_files, write_folder
from tests.hub.loopback import COMMIT, LoopbackHub, Repo
from tests.sessions import random_model

NAME = "owner/tiny"


def test_facts_of_a_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", model_files())
    facts = describe(str(folder), report=Silence())
    config = GPTBigCodeConfig.from_file(folder)
    model = random_model(config)
    assert facts.here
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert facts.memory["float32"] == 2 * facts.memory["bfloat16"] == 4 * facts.parameters
    assert facts.memory["int4"] < facts.memory["int8"] < facts.memory["bfloat16"]
    assert (facts.fim, facts.tokens, facts.config.vocab_size) == ("starcoder", 384, 384)
    assert facts.licence is None
    assert facts.revision is None


def test_the_rows_of_the_weights_count_not_the_configuration(tmp_path: Path) -> None:
    wide = GPTBigCodeConfig.from_dict(json.loads(model_files()["config.json"]))
    folder = tmp_path / "model"
    save_model(random_model(replace(wide, vocab_size=400)), wide, folder)
    (folder / "tokenizer.json").write_bytes(model_files()["tokenizer.json"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 384}))
    facts = describe(str(folder), report=Silence())
    assert (facts.config.vocab_size, facts.tokens) == (400, 384)
    assert facts.parameters == wide.parameter_count() + 16 * wide.n_embd


def test_a_hub_model_is_described_without_its_weights(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(model_files(), card={"license": "bigcode-openrail-m"})
    facts = describe(NAME, report=Silence())
    assert (facts.name, facts.revision, facts.licence) == (NAME, COMMIT, "bigcode-openrail-m")
    assert not facts.here
    assert facts.memory["float32"] == 4 * facts.parameters
    assert hub.fetched("model.safetensors") == []
    with pytest.raises(ModelOfflineError):
        describe("owner/other", offline=True, report=Silence())


def test_a_pulled_model_is_described_without_the_network(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo(model_files())
    folder = pull(NAME, report=Silence())
    hub.seen.clear()
    facts = describe(NAME, offline=True, report=Silence())
    assert facts.here
    assert facts.licence is None
    assert hub.seen == []
    assert describe(NAME, report=Silence()).licence == "apache-2.0"
    hub.repos.clear()
    assert describe(NAME, report=Silence()).path == folder.path


def test_another_architecture_is_not_described(hub: LoopbackHub) -> None:
    hub.repos[NAME] = Repo({**model_files(), "config.json": b'{"model_type": "starcoder2"}'})
    with pytest.raises(ModelUnsupportedError, match="StarCoder2"):
        describe(NAME, report=Silence())
    assert len(hub.seen) == 2
