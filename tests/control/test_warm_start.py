"""A new run can begin with the policy of another one, of equal spaces and networks."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from probes import Aim, BetterAction, Probe, RightAction, equal, small

import proximo
from proximo import UserError, ensemble, training, with_options
from proximo.cli import main
from proximo.control.learner import new_learner
from proximo.control.run import train_config
from proximo.control.streams import streams
from proximo.control.warm_start import warm_started
from proximo.envs import make_envs

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, hidden=(4,), steps=64)
NORMALISED = dict(TINY, normalise_observations=True)


class Far(Probe):
    """What it shows lies so far from 0 that the policy sees it relative to the first observation."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    place = 1e6

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([self.place + self.np_random.normal()]), {}

    def step(self, action):
        _, reward, terminated, truncated, info = super().step(action)
        return np.array([self.place]), reward, terminated, truncated, info


class Farther(Far):
    place = 1e6 + 50.0


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return train_config(small(RightAction, **NORMALISED), out=tmp_path_factory.mktemp("first") / "run")


def start_of(env, agent, **options):
    """The learner after one update whose steps are too small to move the policy."""
    config = small(env, **{**NORMALISED, "steps": 1, "learning_rate": 1e-30, "seed": 7, **options})
    return next(training(config, start_from=agent)).learner


def test_a_run_begins_with_the_policy_and_the_observation_statistics_of_another(first):
    learner = start_of(BetterAction, first.agent)  # another environment, of equal spaces
    assert equal(learner.policy, first.agent.policy)
    before, after = first.agent.observations.moments, learner.observations.moments
    assert float(after.count) > float(before.count) > 0  # they go on from there
    assert not equal(start_of(BetterAction, None).policy, first.agent.policy)


def test_the_optimiser_the_scale_of_rewards_and_the_counts_begin_anew(first):
    with_it, without = start_of(RightAction, first.agent), start_of(RightAction, None)
    assert int(with_it.steps) == int(without.steps) and float(with_it.rewards.moments.count) == float(
        without.rewards.moments.count
    )
    assert with_it.optimiser.count == without.optimiser.count


def test_observations_stay_relative_to_what_the_policy_was_trained_on():
    agent = next(training(small(Far, **NORMALISED))).agent
    offset = np.asarray(agent.observations.offset)
    assert abs(offset[0] - 1e6) < 10
    np.testing.assert_array_equal(start_of(Farther, agent).observations.offset, offset)


def test_all_members_of_an_ensemble_and_a_population_can_begin_so(first):
    config = small(BetterAction, **{**NORMALISED, "steps": 1, "learning_rate": 1e-30})
    members = next(ensemble([config, with_options(config, seed=1)], start_from=first.agent))
    assert all(equal(member.agent.policy, first.agent.policy) for member in members)
    population = with_options(proximo.preset("cem", BetterAction), hidden=(4,), normalise_observations=True)
    with make_envs(BetterAction, population.num_envs) as envs:
        new = new_learner(population, envs, streams(0))
        learner = warm_started(new, first.agent, population, envs)
    expected = population.update.actor_step.start(first.agent.policy)
    assert equal(learner.actor_memory, expected) and not equal(new.actor_memory, expected)


def test_where_a_run_began_is_recorded_and_it_can_be_resumed(first, tmp_path):
    options = dict(NORMALISED, normalise_rewards=False, learning_rate=0.01)
    run = proximo.train(BetterAction, start_from=first.folder, out=tmp_path / "run", **options)
    said = json.loads((run.folder / "config.json").read_text())["start_from"]
    assert said["path"] == str(first.folder) and said["env"] == "RightAction" and len(said["sha256"]) == 64
    again = proximo.train(BetterAction, start_from=first.agent, out=tmp_path / "again", **options)
    assert equal(again.agent.policy, run.agent.policy)
    resumed = proximo.resume(run.folder, steps=128, env=BetterAction)
    kept = json.loads((resumed.folder / "config.json").read_text())["start_from"]
    assert kept == said


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (
            Aim,
            {},
            "was trained on RightAction, but Aim has different spaces: the action is a Box, not a Discrete",
        ),
        (
            BetterAction,
            {"hidden": (5,)},
            r"has different networks \(hidden is \(5,\), not \(4,\)\): pass --hidden 4$",
        ),
        (BetterAction, {"activation": "relu"}, "pass --activation tanh$"),
        (BetterAction, {"shared": True}, "pass --no-shared$"),
        (
            BetterAction,
            {"normalise_observations": False},
            "trained with normalised observations: pass --normalise-observations",
        ),
    ],
)
def test_other_spaces_or_networks_are_refused_in_one_line_before_there_is_a_run(
    first, tmp_path, env, options, message
):
    with pytest.raises(UserError, match=message):
        proximo.train(env, start_from=first.folder, out=tmp_path / "run", **{**NORMALISED, **options})
    assert not (tmp_path / "run").exists()


class Wide(Aim):
    action_space = spaces.Box(-20.0, 20.0, (1,), np.float32)


def test_other_bounds_of_actions_are_other_actions_where_the_policy_acts_from_minus_1_to_1():
    agent = next(training(small(Aim, **NORMALISED))).agent
    with pytest.raises(UserError, match=r"Wide has different spaces: the low of the action is -20, not -2"):
        next(training(small(Wide, **NORMALISED), start_from=agent))
    unscaled = next(training(small(Aim, **NORMALISED, scale_actions=False))).agent
    next(training(small(Wide, **NORMALISED, scale_actions=False), start_from=unscaled))


def test_from_on_the_command_line(tmp_path, capsys):
    words = ["CartPole-v1", "--num-envs", "2", "--horizon", "32", "--minibatch-size", "32", "--hidden", "4"]
    words += ["--epochs", "1", "--steps", "100", "--quiet"]
    assert main(["train", *words, "--out", str(tmp_path / "a")]) == 0
    told = ["--from", str(tmp_path / "a"), "--seeds", "2", "--out", str(tmp_path / "b")]
    assert main(["train", *words, *told]) == 0
    for seed in (0, 1):
        said = json.loads((tmp_path / "b" / f"seed-{seed}" / "config.json").read_text())["start_from"]
        assert said["path"] == str(tmp_path / "a")
    capsys.readouterr()
    assert main(["train", *words, "--from", str(tmp_path / "a" / "model"), "--out", str(tmp_path / "c")]) == 0
    assert main(["train", *words, "--from", str(tmp_path / "none"), "--out", str(tmp_path / "d")]) == 2
    assert "there is no model in" in capsys.readouterr().err
