"""The command that makes a run again, and the run in a sentence."""

import json
import shlex

import pytest

from proximo.arguments import config_from, parse_recipe
from proximo.commands.train import Train
from proximo.control.config import as_json, preset, with_options
from proximo.core import KLPenalty
from proximo.runs.report.recipe import command, options_of, recipe_of, sentence


@pytest.mark.parametrize(
    ("name", "env", "options"),
    [
        ("default", "CartPole-v1", {}),
        ("default", "CartPole-v1", {"steps": 5, "hidden": (32, 16), "anneal": False, "target_kl": 0.02}),
        ("default", "Pendulum-v1", {"objective": KLPenalty(0.5), "shared": True, "until": -200.0}),
        ("default", "HalfCheetah-v5", {"learning_rate": 1e-5, "vectorization_mode": "sync"}),
        ("paper", "HalfCheetah-v5", {"gamma": 0.995, "clip": 0.1}),
        ("trpo", "Hopper-v5", {}),
        ("a2c-trust-region", "Hopper-v5", {"num_envs": 8, "minibatch_size": 40}),
        ("cem", "Hopper-v5", {}),
        ("roboschool", "Hopper-v5", {"seed": 4}),
    ],
)
def test_the_command_makes_the_same_configuration(name, env, options):
    config = with_options(preset(name, env), **options)
    described = json.loads(json.dumps(as_json(config)))
    recipe = recipe_of(env, options_of(described))
    words = shlex.split(command(env, recipe, [config.seed]))
    assert recipe.preset == name and words[:2] == ["proximo", "train"]
    assert config_from(parse_recipe(Train, "train", words[2:])) == config


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([0], "proximo train CartPole-v1"),
        ([2], "proximo train CartPole-v1 --seed 2"),
        ([2, 0, 1], "proximo train CartPole-v1 --seeds 3"),
        ([5, 6], "proximo train CartPole-v1 --seeds 2 --seed 5"),
        ([0, 7], "for seed in 0 7; do proximo train CartPole-v1 --seed $seed; done"),
    ],
)
def test_the_command_for_seeds(seeds, words):
    recipe = recipe_of("CartPole-v1", options_of(as_json(preset("default", "CartPole-v1"))))
    assert command("CartPole-v1", recipe, seeds) == words


def test_a_name_from_a_file_cannot_leave_its_word_in_the_command():
    env = "x'; rm -rf ~ #"
    recipe = recipe_of(env, {"gamma": "$(date)"})
    words = shlex.split(command(env, recipe, [0]))
    assert not recipe.known and words[2] == f"MODULE:{env}" and words[-1] == "$(date)"


def test_a_module_in_a_file_is_not_imported():
    assert not recipe_of("nowhere_at_all:Env-v0", {"gamma": 0.9}).known


def test_the_sentence():
    options = options_of(as_json(with_options(preset("paper", "Hopper-v5"), gamma=0.9)))
    said = sentence(options, recipe_of("Hopper-v5", options))
    clipped = "Proximal Policy Optimization with the clipped objective (epsilon 0.2)."
    assert said == f"{clipped} Preset: paper, with gamma 0.9."
    options = options_of(as_json(preset("trpo", "Hopper-v5")))
    assert sentence(options, recipe_of("Hopper-v5", options)).startswith("Trust Region Policy Optimization.")
    odd = {"actor_step": {"name": []}, "objective": "clip"}
    assert "objective unknown" in sentence(odd, recipe_of("Hopper-v5", odd))
