"""The command line of the recipe: its options, its defaults and its README."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

import jointdit.recipes.tiny
from jointdit.errors import InputError
from jointdit.recipes.tiny.__main__ import APART, COMMANDS, MILESTONES, _parser, main, recipe_of
from jointdit.recipes.tiny.recipe import Budget, TinyRecipe


def parsed(*words: str) -> TinyRecipe:
    options = vars(_parser().parse_args(words))
    return recipe_of(options.pop("command"), options)


@pytest.mark.parametrize("command", COMMANDS)
def test_without_options_a_command_has_the_recipes_settings(command):
    words = ["--output", "jointdit/tiny"] if command in ("attributes", "suggestions", "pair") else []
    plain = TinyRecipe()
    assert parsed(command, *words) == (plain.on_coarse_grid() if command in APART else plain)


def test_the_readmes_commands_are_the_recipe():
    readme = Path(jointdit.recipes.tiny.__file__).with_name("README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("python -m jointdit.recipes.tiny ")]
    commands = [line for line in commands if "milestone" not in line]  # of any run
    assert [line.split()[3] for line in commands] == [
        name for name in COMMANDS if name not in ("attributes", "suggestions", *MILESTONES)
    ]
    plain = TinyRecipe()
    for line in commands:
        recipe = parsed(*shlex.split(line)[3:])
        assert recipe.videos in (plain.videos, replace(plain.videos, bfloat16=True))
        assert recipe.sounds in (plain.sounds, replace(plain.sounds, bfloat16=True))
        assert recipe.video_alone in (plain.video_alone, replace(plain.video_alone, bfloat16=True))
        recipe = replace(recipe, videos=plain.videos, sounds=plain.sounds, video_alone=plain.video_alone)
        apart = line.split()[3] in APART  # which need a model for its encoders
        if apart:
            recipe = replace(recipe, start=None, output=plain.output)
        assert recipe == (plain.on_coarse_grid() if apart else plain)


def test_torchrun_takes_the_readmes_commands():
    readme = Path(jointdit.recipes.tiny.__file__).with_name("README.md").read_text(encoding="utf-8")
    lines = [shlex.split(line)[1:] for line in readme.splitlines() if line.startswith("torchrun ")]
    assert lines
    for words in lines:
        words = ["2" if word == "N" else word for word in words]
        given = get_args_parser().parse_args(words)  # it would take `--start` for its own `--start-method`
        assert given.training_script == "jointdit.recipes.tiny"
        parsed(*given.training_script_args)


def test_options_replace_settings_of_their_command():
    recipe = parsed("sounds", "--runs", "there", "--start", "model", "--steps", "5", "--rate", "6e-4", "--seed", "45")
    plain = TinyRecipe()
    assert recipe == replace(
        plain,
        runs=Path("there"),
        start=Path("model"),
        sounds=replace(plain.sounds, budget=Budget(steps=5), rate=6e-4, seed=45),
    )
    assert parsed("cache", "--part", "2/3", "--clips", "7").cache == replace(plain.cache, part=(2, 3), clips=7)
    assert parsed("suggestions", "--output", "there", "--steps", "5").suggestions.steps == 5
    assert parsed("videos", "--bfloat16").videos.bfloat16
    assert parsed("sounds", "--bfloat16").sounds.bfloat16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--bfloat16"], "--bfloat16"),  # its rounding would be learned
        (["train", "--steps", "1", "--minutes", "1"], "--minutes"),
        (["train", "--minutes", "-1"], "the budget is steps=None, minutes=-1.0"),
        (["cache", "--part", "3/2"], "part 3/2"),
        (["videos", "--runs", "nowhere"], "nowhere/latents: the cache has no shards"),
        (["words", "--wordnet", "nowhere"], "wordnet-base"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "budget", [{}, {"steps": 3, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}, {"minutes": math.nan}]
)
def test_a_budget_that_is_none_is_named(budget):
    with pytest.raises(InputError, match="the budget is"):
        Budget(**budget)


def test_progress_is_of_steps_or_of_minutes():
    assert Budget(steps=4).progress(1, 1e9) == 0.25
    assert Budget(minutes=2).progress(10**9, 30.0) == 0.25
