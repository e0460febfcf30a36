"""The command that makes a run again, and the run in a sentence."""

import json
import shlex
from pathlib import Path

import pytest

from proximo.arguments import config_from, parse_recipe
from proximo.commands.train import Train
from proximo.control.config import as_json, preset
from proximo.core import KLPenalty
from proximo.options import with_options
from proximo.rerun import policy_commands, read_back
from proximo.runs.report.read import RunData
from proximo.runs.report.recipe import options_of, sentence

CONFIGURATIONS = [
    ("default", "CartPole-v1", {}),
    ("default", "CartPole-v1", {"steps": 5, "hidden": (32, 16), "anneal": False, "target_kl": 0.02}),
    ("default", "Pendulum-v1", {"objective": KLPenalty(0.5), "shared": True, "until": -200.0}),
    ("default", "HalfCheetah-v5", {"learning_rate": 1e-5, "vectorization_mode": "sync"}),
    ("default", "FrozenLake-v1", {"env_kwargs": {"is_slippery": False, "map_name": "8x8"}}),
    ("paper", "HalfCheetah-v5", {"gamma": 0.995, "clip": 0.1}),
    ("trpo", "Hopper-v5", {}),
    ("a2c-trust-region", "Hopper-v5", {"num_envs": 8, "minibatch_size": 40}),
    ("cem", "Hopper-v5", {}),
    ("roboschool", "Hopper-v5", {"seed": 4}),
]


def commands(*described):
    """The command lines for runs of these configurations, and why there is none for others."""
    runs = [read_run_of(json.loads(json.dumps(one))) for one in described]
    return policy_commands(runs)


def read_run_of(config):
    nothing = dict(metrics={}, episodes=None, evaluation=None, started=None, written=None)
    return RunData(path=Path("runs/made"), config=config, saved=True, problems=[], **nothing)


@pytest.mark.parametrize(("name", "env", "options"), CONFIGURATIONS)
def test_the_command_from_the_options_makes_the_same_configuration(name, env, options):
    config = with_options(preset(name, env), **options)
    (line,), reasons = commands(as_json(config))
    words = shlex.split(line)
    assert words[:3] == ["proximo", "train", env] and "--preset" not in words and reasons == []
    assert config_from(parse_recipe(Train, "train", words[2:])) == config


def test_a_run_of_an_older_version_is_made_again_with_actions_as_they_were():
    older = as_json(preset("default", "Pendulum-v1"))
    del older["scale_actions"]
    (line,), _ = commands(older)
    assert "--no-scale-actions" in shlex.split(line)


@pytest.mark.parametrize(
    ("seeds", "ends"),
    [
        ([0], [""]),
        ([2], [" --seed 2"]),
        ([2, 0, 1], [" --seeds 3"]),
        ([5, 6], [" --seeds 2 --seed 5"]),
        ([0, 7], ["", " --seed 7"]),
    ],
)
def test_the_commands_for_seeds(seeds, ends):
    config = with_options(preset("default", "CartPole-v1"), restart_interval=7.5)
    lines, _ = commands(*(as_json(with_options(config, seed=seed)) for seed in seeds))
    (first,), _ = commands(as_json(config))
    assert lines == [first + end for end in ends]


TYPED = [  # the words that were typed; those that are printed, `...` for the same
    (["CartPole-v1", "--steps", "500"], ...),
    (["CartPole-v1", "--steps", "500", "--out", "a b", "--quiet", "--json", "--max-time", "9"],
     ["CartPole-v1", "--steps", "500"]),
    (["CartPole-v1", "--seed=3", "--n-epochs", "2"], ["CartPole-v1", "--seed", "3", "--n-epochs", "2"]),
    (["--quiet", "CartPole-v1", "--no-anneal"], ["CartPole-v1", "--no-anneal"]),
    (["CartPole-v1", "--seeds", "4", "--tensorboard", "--video-every", "3"], ["CartPole-v1", "--seeds", "4"]),
    (["FrozenLake-v1", "--env-kwargs", "is_slippery=false", "map_name=8x8", "--checkpoint-every", "0"],
     ["FrozenLake-v1", "--env-kwargs", "is_slippery=false", "map_name=8x8"]),
    (["Pendulum-v1", "--until=-200"], ["Pendulum-v1", "--until=-200"]),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "printed"), TYPED)
def test_what_was_typed_is_printed_without_what_decides_no_number(typed, printed):
    config = config_from(parse_recipe(Train, "train", typed))
    described = {**as_json(config), "command": ["train", *typed]}
    (line,), _ = commands(described)
    assert shlex.split(line)[2:] == (typed if printed is ... else printed)


def test_a_line_that_would_make_another_run_is_not_printed():
    config = preset("default", "CartPole-v1")
    for typed in (
        ["CartPole-v1", "--gamma", "0.5"],
        ["CartPole-v1", "--gone", "3"],
        ["Acrobot-v1"],
        ["--help"],
    ):
        (line,), _ = commands({**as_json(config), "command": ["train", *typed]})
        asked, seeds = read_back(shlex.split(line)[2:])
        assert asked == options_of(json.loads(json.dumps(as_json(config)))) and 0 in seeds, line


def test_a_resumed_run_is_made_in_one_go_or_part_by_part():
    config = with_options(preset("default", "CartPole-v1"), steps=9000, until=400.0)
    typed = ["train", "CartPole-v1", "--total-timesteps", "9000", "--out", "here"]
    again = {"resumed_with": [["train", "--resume", "here"], ["train", "--resume", "here", "--until", "400"]]}
    (line,), _ = commands({**as_json(config), "command": typed, **again})
    assert line == "proximo train CartPole-v1 --total-timesteps 9000 --until 400.0"
    # With other steps the learning rate falls otherwise: each part is a command.
    typed[3], again = "500", {"resumed_with": [["train", "--resume", "here", "--steps=9000"]]}
    lines, _ = commands({**as_json(config), "until": None, "command": typed, **again})
    assert lines == [
        "proximo train CartPole-v1 --total-timesteps 500 --out made-again",
        "proximo train --resume made-again --steps 9000",
    ]
    own = {**as_json(config), "env": "Mine-v7", "command": ["train", "my_module:Mine-v7", "--gamma", "0.9"]}
    own["until"] = None
    assert commands(own).lines == ["proximo train my_module:Mine-v7 --gamma 0.9"]
    assert commands({**own, **again}).lines == [
        "proximo train my_module:Mine-v7 --gamma 0.9 --out made-again",
        "proximo train my_module:Mine-v7 --resume made-again --steps 9000",
    ]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"env": "Nowhere-v0"}, "Nowhere-v0 is not registered here"),
        ({"env": "os:CartPole-v1"}, "is not registered here"),
        ({"objective": {"name": "Own", "strength": 2.0}}, "there is no 'own'"),
        ({"gone": 3}, "gone"),
        ({"env_description": {"kwargs": {}, "wrappers": [["FlattenObservation", {}]]}}, "wrapped in Flatten"),
        (
            {"env_description": {"kwargs": {}, "wrappers": [], "obstacle": "its vector is wrapped"}},
            "its vector",
        ),
        ({"env_description": {"kwargs": {"f": {"__object__": "function g"}}, "wrappers": []}}, "env_kwargs"),
    ],
)
def test_where_no_command_makes_the_run_again_the_report_says_so(changed, why):
    config = as_json(preset("default", "CartPole-v1"))
    if "objective" in changed:
        config["update"] |= changed
    lines, (reason,) = commands({**config, **({} if "objective" in changed else changed)})
    assert (
        lines == [] and why in reason and reason.startswith("runs/made cannot be reproduced by a command: ")
    )


def test_a_name_from_a_file_is_one_word_and_imports_nothing():
    evil = "x'; rm -rf ~ #:Env-v0"
    (line,), _ = commands({"env": "Env-v0", "command": ["train", evil, "$(date)"], "gamma": 0.9})
    assert shlex.split(line)[:3] == ["proximo", "train", evil]
    assert commands({"env": "nowhere_at_all:Env-v0", "gamma": 0.9}).lines == []


@pytest.mark.parametrize("recorded", [None, "ppo", {}, ["train", 3], 3, ["sweep", "CartPole-v1"]])
def test_a_command_line_that_is_none_is_not_shown(recorded):
    config = {**as_json(preset("default", "CartPole-v1")), "command": recorded, "resumed_with": recorded}
    (line,), _ = commands(config)
    assert line.startswith("proximo train CartPole-v1 --") and " --horizon " in line


def test_the_sentence():
    options = options_of(as_json(with_options(preset("paper", "Hopper-v5"), gamma=0.9)))
    clipped = "Proximal Policy Optimization with the clipped objective (epsilon 0.2)."
    assert sentence(options, "paper") == f"{clipped} Preset: paper."
    assert sentence(options, None) == clipped
    options = options_of(as_json(preset("trpo", "Hopper-v5")))
    assert sentence(options, None) == "Trust Region Policy Optimization."
    assert "objective unknown" in sentence({"actor_step": {"name": []}, "objective": "clip"}, None)
