"""Actions in physical units: the policy acts from -1 to 1, and every face gives the environment the same."""

import hashlib
import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import registry
from probes import first_rollout, small

import proximo
from proximo import preset, training, with_options
from proximo.arguments import config_from
from proximo.commands.train import read
from proximo.control.config import Config, as_json, from_json
from proximo.control.ensemble import ensemble
from proximo.control.evaluate import Evaluator
from proximo.control.model import DESCRIPTION, agent_of, model_files
from proximo.control.presets import ATARI_ALONE, PRESETS
from proximo.control.watch import moments
from proximo.envs import make_envs
from proximo.errors import UserError
from proximo.experiments.cells import digest, flat
from proximo.learn.actor_steps import CrossEntropy

OLD = Path(__file__).parents[1] / "data" / "version-0.1" / "pendulum"
GIVEN = []  # what environments of this process were given, in order


class Thermostat(gym.Env):
    """A heater of 2000 W keeps a room at 21 degrees; it costs a point for each degree that is missing."""

    observation_space = spaces.Box(-50.0, 50.0, (2,), np.float32)  # degrees: inside above 21, outside
    action_space = spaces.Box(0.0, 2000.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock, self.inside = 0, self.np_random.uniform(10, 25)
        self.outside = self.np_random.uniform(-5, 10)
        return self.seen(), {}

    def seen(self):
        return np.array([self.inside - 21, self.outside], np.float32)

    def step(self, action):
        assert self.action_space.contains(action)
        GIVEN.append(action.copy())
        self.clock += 1
        self.inside += 0.1 * (self.outside - self.inside) + action[0] / 500
        return self.seen(), -abs(self.inside - 21), False, self.clock == 20, {}


TINY = dict(num_envs=2, horizon=16, minibatch_size=16, epochs=1, hidden=(4,), steps=64)


def test_a_thermostat_in_watts_learns_with_defaults_and_nothing_said(tmp_path):
    run = proximo.train(Thermostat, steps=10_000, out=tmp_path / "run")
    assert run.evaluate(20).mean > -25  # doing nothing costs 320, half power 70
    raw = with_options(preset("default", Thermostat), scale_actions=False)
    assert raw.scale_actions is False and preset("default", Thermostat).scale_actions is True


def given_by(work):
    """The actions that the environment got, and what `work` gave."""
    GIVEN.clear()
    result = work()
    return np.array(GIVEN), result


def test_evaluate_watch_act_and_predict_give_the_environment_the_same_action(tmp_path):
    run = proximo.train(Thermostat, out=tmp_path / "run", **TINY)
    agent, observations = proximo.load(run.folder), []
    evaluated, result = given_by(lambda: run.evaluate(1))
    env = Thermostat()
    obs, _ = env.reset(seed=result.environment_seeds[0])
    for action in evaluated[:20]:
        observations.append(obs)
        np.testing.assert_allclose(agent.act(obs), action, rtol=1e-6)
        obs, *_ = env.step(action)
    batch, episode = np.array(observations), evaluated[:20]
    assert episode.min() > 100 and episode.max() < 1900  # watts, not clipped
    assert len(np.unique(episode)) > 10
    np.testing.assert_allclose(agent.act(batch), episode, rtol=1e-6)
    model = proximo.PPO.load(run.folder)
    np.testing.assert_allclose(model.predict(batch, deterministic=True)[0], episode, rtol=1e-6)
    model.save(tmp_path / "saved")
    np.testing.assert_allclose(proximo.load(tmp_path / "saved").act(batch), episode, rtol=1e-6)

    with make_envs(Thermostat) as envs:
        played = Evaluator(agent, envs, 0, True)  # what `watch` shows
        watched, _ = given_by(lambda: list(moments(played, 1)))
    np.testing.assert_allclose(watched[:20], episode, rtol=1e-6)


def test_a_rollout_keeps_what_was_sampled_and_the_environment_gets_it_in_watts():
    given, (_, rollout, _) = given_by(lambda: first_rollout(small(Thermostat, num_envs=1, horizon=64)))
    sampled = rollout.action[:, 0]
    assert sampled.min() < -1 and sampled.max() > 1  # unmapped and unclipped
    acted = rollout.mask[:, 0] == 1  # the environment got nothing in a seam
    expected = 1000 * (np.clip(sampled[acted], -1, 1) + 1)
    np.testing.assert_allclose(given, expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize(
    "begun",
    [
        lambda: training(with_options(preset("paper", Thermostat), **TINY)),
        lambda: ensemble([with_options(preset("default", Thermostat), **TINY, seed=s) for s in (0, 1)]),
        lambda: training(
            with_options(preset("cem", Thermostat), **TINY | dict(actor_step=CrossEntropy(elite=1)))
        ),
    ],
    ids=["paper", "ensemble", "cem"],
)
def test_other_presets_ensembles_and_populations_act_in_watts_too(begun):
    given, _ = given_by(lambda: [None for _ in begun()])
    assert given.max() > 200  # a policy in single watts reaches four or five of them


def test_a_resumed_run_acts_as_the_one_that_was_never_cut(tmp_path):
    whole, _ = given_by(lambda: proximo.train(Thermostat, out=tmp_path / "whole", **TINY))
    proximo.train(Thermostat, out=tmp_path / "cut", **TINY | {"steps": 32})
    with pytest.warns(proximo.errors.EpisodesRestarted):
        rest, _ = given_by(lambda: proximo.resume(tmp_path / "cut", steps=64, env=Thermostat))
    assert rest.max() > 1500 and whole.max() > 1500


def test_an_ensembles_member_is_loaded_as_it_acted(tmp_path):
    runs = proximo.train_ensemble(Thermostat, seeds=2, out=tmp_path / "both", **TINY)
    for run in runs:
        assert proximo.load(run.folder).scale_actions
        given, _ = given_by(lambda run=run: run.evaluate(1))
        assert 500 < given.mean() < 1500  # near the middle, where an untrained policy acts


MUJOCO = [name for name in registry if name in ("HalfCheetah-v5", "Humanoid-v5", "InvertedPendulum-v4")]


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ATARI_ALONE])
@pytest.mark.parametrize("env", MUJOCO)
def test_every_preset_leaves_the_actions_of_mujoco_as_they_are(env, name):
    assert preset(name, env).scale_actions is False


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ATARI_ALONE])
def test_every_preset_scales_those_of_other_environments(name):
    assert preset(name, "Pendulum-v1").scale_actions is True
    assert preset(name, Thermostat).scale_actions is True


# ---- what older versions wrote


def test_files_that_do_not_say_it_are_of_actions_as_they_are(tmp_path):
    assert proximo.load(OLD).scale_actions is False
    config = preset("default", "Pendulum-v1")
    assert from_json(as_json(config)) == config
    older = as_json(config)
    del older["scale_actions"]
    assert from_json(older) == with_options(config, scale_actions=False)


def test_a_model_says_whether_it_scales(tmp_path):
    run = proximo.train(Thermostat, out=tmp_path / "run", **TINY)
    file = run.folder / "model" / "model.json"
    description = json.loads(file.read_text())
    assert description["scale_actions"] is True
    assert json.loads((run.folder / "config.json").read_text())["scale_actions"] is True
    sight, files = np.ones(2, np.float32), model_files(run.agent)

    def acted(**changes):
        written = json.dumps({**json.loads(files[DESCRIPTION]), **changes})
        return agent_of({**files, DESCRIPTION: written.encode()}, tmp_path).act(sight)

    np.testing.assert_array_equal(acted(), run.agent.act(sight))
    assert acted() > 500 and acted(scale_actions=False) < 1  # watts
    with pytest.raises(UserError, match=r"does not describe a model .*scale_actions is 'yes'"):
        acted(scale_actions="yes")


@pytest.mark.filterwarnings("ignore::proximo.errors.EnvironmentAdvice")  # watts are out of reach
def test_a_model_of_version_0_2_acts_as_it_did(tmp_path):
    agent = proximo.train(Thermostat, out=tmp_path / "run", scale_actions=False, **TINY).agent
    files, sight = model_files(agent), np.ones(2, np.float32)
    description = json.loads(files[DESCRIPTION])
    assert description["format"] == 3  # which version 0.2 refuses: it would act in single watts
    del description["scale_actions"]
    with pytest.raises(UserError, match="does not describe a model"):
        agent_of({**files, DESCRIPTION: json.dumps(description).encode()}, tmp_path)
    description["format"] = 2
    older = agent_of({**files, DESCRIPTION: json.dumps(description).encode()}, tmp_path)
    np.testing.assert_array_equal(older.act(sight), agent.act(sight))


def test_results_of_mujoco_that_were_made_before_stay_those_of_their_configuration():
    config = preset("paper", MUJOCO[0])
    known = [name for name in flat(config) if name != "scale_actions"]
    assert digest(config, known) != digest(with_options(config, scale_actions=True), known)
    before = {name: value for name, value in flat(config).items() if name in known}
    before["vectorization_mode"] = "parallel"  # as `digest` calls it
    text = json.dumps(before, sort_keys=True)
    assert digest(config, known) == hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], True),
        (["--no-scale-actions"], False),
        (["--no-action-scaling"], False),
        (["--scale-actions"], True),
    ],
)
def test_the_command_line_can_leave_actions_as_they_are(words, expected):
    assert config_from(read(["Pendulum-v1", *words])).scale_actions is expected


def test_bounds_of_minus_1_and_1_are_trained_bit_for_bit_as_without_scaling():
    class Unit(Thermostat):
        action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    config = with_options(Config(Unit), **TINY)
    scaled, raw = (
        [it.metrics for it in training(with_options(config, scale_actions=s))] for s in (True, False)
    )
    assert scaled == raw
