"""The command that makes a run again, and the run in a sentence."""

import json
import shlex

import pytest

from proximo.arguments import config_from, parse_recipe
from proximo.commands.train import Train
from proximo.control.config import as_json, preset
from proximo.core import KLPenalty
from proximo.options import with_options
from proximo.runs.report.recipe import from_options, options_of, recorded_commands, sentence

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


@pytest.mark.parametrize(("name", "env", "options"), CONFIGURATIONS)
def test_the_command_from_the_options_makes_the_same_configuration(name, env, options):
    config = with_options(preset(name, env), **options)
    described = json.loads(json.dumps(as_json(config)))
    words = shlex.split(from_options(env, options_of(described), [config.seed]))
    assert words[:3] == ["proximo", "train", env] and "--preset" not in words
    assert config_from(parse_recipe(Train, "train", words[2:])) == config


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([], "proximo train CartPole-v1 --gamma 0.9"),
        ([0], "proximo train CartPole-v1 --gamma 0.9"),
        ([2], "proximo train CartPole-v1 --gamma 0.9 --seed 2"),
        ([2, 0, 1], "proximo train CartPole-v1 --gamma 0.9 --seeds 3"),
        ([5, 6], "proximo train CartPole-v1 --gamma 0.9 --seeds 2 --seed 5"),
        ([0, 7], "for seed in 0 7; do proximo train CartPole-v1 --gamma 0.9 --seed $seed; done"),
    ],
)
def test_the_command_for_seeds(seeds, words):
    assert from_options("CartPole-v1", {"gamma": 0.9}, seeds) == words


def test_a_name_from_a_file_cannot_leave_its_word_in_the_command():
    env = "x'; rm -rf ~ #"
    words = shlex.split(from_options(env, {"gamma": "$(date)"}, [0]))
    assert words[2] == f"MODULE:{env}" and words[-1] == "$(date)"
    (line,) = recorded_commands({"command": ["train", "$(date)", "; ls"]})
    assert shlex.split(line) == ["proximo", "train", "$(date)", "; ls"]


def test_a_module_in_a_file_is_not_imported():
    assert "MODULE:nowhere_at_all:Env-v0" in from_options("nowhere_at_all:Env-v0", {"gamma": 0.9}, [0])


@pytest.mark.parametrize("recorded", [None, "ppo", {}, ["train", 3], 3])
def test_a_command_line_that_is_none_is_not_shown(recorded):
    again = ["train", "--resume", "run"]
    assert recorded_commands({"command": recorded, "resumed_with": [again]}) == []
    assert recorded_commands({"command": ["train"], "resumed_with": recorded}) == ["proximo train"]
    found = recorded_commands({"command": ["train"], "resumed_with": [recorded, again]})
    assert found == ["proximo train", "proximo train --resume run"]


def test_the_sentence():
    options = options_of(as_json(with_options(preset("paper", "Hopper-v5"), gamma=0.9)))
    clipped = "Proximal Policy Optimization with the clipped objective (epsilon 0.2)."
    assert sentence(options, "paper") == f"{clipped} Preset: paper."
    assert sentence(options, None) == clipped
    options = options_of(as_json(preset("trpo", "Hopper-v5")))
    assert sentence(options, None) == "Trust Region Policy Optimization."
    assert "objective unknown" in sentence({"actor_step": {"name": []}, "objective": "clip"}, None)
