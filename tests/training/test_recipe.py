from pathlib import Path

import pytest

import bigcode_cli
from bigcode_cli.errors import InputError, UsageError
from bigcode_cli.training.recipe import Recipe

MINI = Path(bigcode_cli.__file__).parent / "builtin" / "mini" / "recipe.toml"


def test_minis_recipe_makes_minis_model() -> None:
    recipe = Recipe.load(MINI)
    assert recipe.model.parameter_count() == 36_365_568
    assert recipe.model.multi_query
    assert recipe.model.head_dim == 64
    assert recipe.model.eos_token_id == 0
    assert recipe.training.tokens_per_step % (recipe.model.n_positions * 32) == 0


def test_minutes_and_steps_replace_each_other() -> None:
    assert Recipe.load(MINI, minutes=1).training.minutes == 1
    shorter = Recipe.load(MINI, steps=7).training
    assert (shorter.steps, shorter.minutes) == (7, None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[training]\nsteps = 1\nsped = 2", UsageError),
        ("[trainin]\nsteps = 1", UsageError),
        ("[training]\n", UsageError),
        ("[training]\nsteps = 1\nminutes = 1", UsageError),
        ("[training]\nsteps = 0", UsageError),
        ("[training]\nsteps = 1\noptimizer = 'sgd'", UsageError),
        ("[training]\nsteps = 1\nwarm_up = 1.0", UsageError),
        ("[training\n", InputError),
    ],
)
def test_faults_of_a_recipe_are_told(tmp_path: Path, text: str, error: type[Exception]) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(error):
        Recipe.load(path)


def test_a_missing_recipe_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Recipe.load(tmp_path / "none.toml")
