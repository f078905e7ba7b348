"""What is said of a run's model, program and machine."""

import json
from datetime import datetime

import torch

from bigcode_cli import __version__
from bigcode_cli.bench.environment import environment
from bigcode_cli.records import LoadOptions
from tests.sessions import random_session


def test_the_environment_is_that_of_this_run() -> None:
    options = LoadOptions(attention="eager")
    info = random_session().info
    told = environment(info, 0.5, model="own", revision="r1", options=options)
    assert told["load_s"] == 0.5
    assert (told["model"], told["revision"], told["bigcode"]) == ("own", "r1", __version__)
    assert told["torch"] == torch.__version__
    assert (told["device"], told["dtype"], told["backend"]) == ("cpu", "float32", "torch")
    assert (told["attention"], told["context"]) == ("eager", 128)
    assert told["threads"] == torch.get_num_threads()  # what loading has set
    assert told["gpu"] is None
    assert told["cpu"]
    age = datetime.now().astimezone() - datetime.fromisoformat(told["date"])
    assert 0 <= age.total_seconds() < 60
    assert json.loads(json.dumps(told)) == told
