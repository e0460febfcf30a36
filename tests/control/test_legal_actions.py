"""Which actions are legal is asked of the environment, and no policy takes another one.

The mask of an observation stands beside it, `obs["legal"]`, so that it is stored, learned from and played
with it.
"""

from functools import partial
from pathlib import Path

import gymnasium as gym
import jax
import mask_probes
import numpy as np
import pytest
from gymnasium import spaces
from mask_probes import Bandit, Closes, Game, Identity, Pair, Wrong
from probes import equal, first_rollout, small, turns

import proximo
from proximo import evaluate, training
from proximo.cli import main
from proximo.control.ensemble import ensemble, member_configs
from proximo.control.model import load_model, save_model
from proximo.core.types import LEGAL, VECTOR
from proximo.envs import make_envs
from proximo.errors import EnvironmentFault, EnvironmentRestarted, UserError
from proximo.learn.update import update

WAYS = ("info", "method", "part", "info+method", "info+part+method")


def bandit(**options):
    return small(partial(Bandit, **options), num_envs=4, horizon=16, minibatch_size=32, steps=640)


@pytest.mark.parametrize("mode", ["sync", "parallel"])
@pytest.mark.parametrize("how", WAYS)
def test_an_illegal_arm_is_never_pulled_however_the_mask_is_told_and_the_best_legal_one_is_learned(how, mode):
    if mode == "parallel" and how not in ("info", "part"):
        pytest.skip("workers read masks as this process does")
    config = proximo.with_options(bandit(how=how), vectorization_mode=mode)
    env = config.env
    *_, last = training(config)
    assert last.metrics["rollout/restarts"] == 0 and last.mean_return > 1.0  # an illegal arm would raise
    for deterministic in (True, False):
        found = evaluate(last.agent, env, episodes=20, deterministic=deterministic)
        assert set(found.returns) <= {0.0, 2.0}
    assert evaluate(last.agent, env, episodes=4).mean == 2.0


def test_the_mask_is_a_part_of_the_observation_that_no_network_sees_and_no_normaliser_touches():
    learner, rollout, _ = first_rollout(bandit(how="part"))
    assert list(rollout.obs) == [VECTOR, LEGAL]
    assert rollout.obs[VECTOR].shape == (17, 4, 1)  # `one` alone
    assert rollout.obs[LEGAL].dtype == bool and rollout.obs[LEGAL].shape == (17, 4, 5)
    assert learner.observations.active.shape == (1,)
    assert set(np.unique(rollout.action[rollout.mask > 0])) == {0, 2}


def test_without_masks_an_observation_is_one_array_as_before():
    _, rollout, _ = first_rollout(small("CartPole-v1"))
    assert isinstance(rollout.obs, np.ndarray)


def test_the_ratio_is_1_and_what_lies_under_the_mask_of_rows_changes_nothing():
    config = small(partial(Identity, 7, 4, 5), num_envs=4, horizon=12, minibatch_size=48, epochs=1)
    for learner, rollout, _, after, metrics in turns(config, 2):
        assert abs(metrics["train/approx_kl"]) < 1e-6 and metrics["train/clip_fraction"] == 0.0
        spliced = jax.tree.map(np.array, rollout)
        seams = np.flatnonzero(rollout.mask.reshape(-1) == 0)
        if not seams.size:
            continue
        spliced.action.reshape(-1)[seams] = 6
        spliced.obs[LEGAL][:-1].reshape(-1, 7)[seams] = np.arange(7) % 2 == 0
        again, same = update(learner, spliced, config.update, 1.0)
        for name in ("train/policy_gradient_loss", "train/entropy"):
            assert same[name] == metrics[name]
        jax.tree.map(np.testing.assert_array_equal, again.policy, after.policy)


def test_the_identity_of_70_actions_of_which_55_are_illegal_scores_90_after_2048_steps():
    """sb3-contrib's test_identity with its options, a constant learning rate among them."""
    config = small(
        Identity,
        num_envs=1,
        horizon=2048,
        minibatch_size=64,
        epochs=2,
        steps=2048,
        learning_rate=3e-4,
        anneal=False,
        hidden=(64, 64),
        gamma=0.1,
        clip=0.4,
    )
    *_, last = training(config)
    assert evaluate(last.agent, Identity, episodes=20).mean >= 90  # seeds 0, 1, 2 and 32: 91.7 to 93.5


def in_a_dict(*arguments):
    env = Identity(*arguments)
    return gym.wrappers.TransformObservation(
        env, lambda obs: {"obs": obs}, spaces.Dict(obs=env.observation_space)
    )


@pytest.mark.parametrize(
    "env",
    [
        partial(Identity, 20, 19),
        partial(Identity, 1400, 1399),
        partial(Identity, spaces.MultiDiscrete([2, 3]), 3),
        partial(Identity, spaces.MultiBinary(3), 3),
        partial(in_a_dict, 20, 19),
    ],
    ids=["discrete", "many", "choices", "switches", "in a dict"],
)
def test_where_all_but_the_right_values_are_illegal_a_policy_that_knows_nothing_is_perfect(env):
    first = next(training(small(env, num_envs=2, horizon=8, minibatch_size=16, epochs=1)))
    assert evaluate(first.agent, env, episodes=2).returns == [100.0, 100.0]


def test_an_agent_takes_the_mask_with_the_observation_or_out_of_it(tmp_path):
    *_, last = training(bandit(how="part"))
    agent, mask = last.agent, np.array([0, 1, 0, 0, 0])
    one = np.ones(1, np.float32)
    assert agent.act({"one": one, "action_mask": mask}) == 1
    assert agent.act({"one": one}, legal=mask) == 1
    batch = {"one": np.ones((5, 1), np.float32), "action_mask": np.eye(5, dtype=np.int8)}
    assert agent.act(batch).tolist() == agent.act(batch, deterministic=False).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(
        UserError, match=r"the action mask is an array of int64 \(3,\), its action space has 5"
    ):
        agent.act({"one": one}, legal=np.ones(3, int))
    with pytest.raises(UserError, match="the action mask allows no action"):
        agent.act({"one": one}, legal=np.zeros(5, int))
    save_model(agent, tmp_path / "model")
    assert load_model(tmp_path / "model").act(batch).tolist() == [0, 1, 2, 3, 4]


def test_predict_takes_action_masks_as_sb3_contrib_has_it():
    model = proximo.PPO(Bandit, num_envs=2, horizon=8, minibatch_size=16).learn(16)
    masks = np.eye(5, dtype=bool)
    actions, _ = model.predict(np.ones((5, 1), np.float32), action_masks=masks, deterministic=True)
    assert actions.tolist() == [0, 1, 2, 3, 4]


def game(**options):
    return small(Game, **(dict(num_envs=4, horizon=16, minibatch_size=32, epochs=1, steps=192) | options))


def test_members_of_an_ensemble_and_resumed_runs_take_legal_actions_alone():
    """Game raises at any other, and saves its state: a resumed run is the same, bit for bit."""
    *_, members = ensemble(member_configs(game(), 2))
    alone = list(training(game()))
    assert members[0].mean_return == pytest.approx(alone[-1].mean_return)
    half = next(training(game()))
    snapshot = half.snapshot()
    assert LEGAL in snapshot.stream["obs"]
    *_, last = training(game(), start=snapshot)
    assert last.steps == alone[-1].steps and equal(last.learner, alone[-1].learner)


def test_an_environment_that_is_restarted_in_its_process_takes_legal_actions_alone():
    config = game(env_kwargs={"fails_at": 30}, vectorization_mode="parallel", restart_interval=0.0)
    with pytest.warns(EnvironmentRestarted, match="RuntimeError: the simulator failed"):
        *_, last = training(config)
    assert last.metrics["rollout/restarts"] >= 4.0


def test_a_population_of_actors_takes_legal_actions_alone():
    config = proximo.with_options(proximo.preset("cem", Game), hidden=(4,), num_envs=6, horizon=32, steps=200)
    assert list(training(config))[-1].last


def test_every_command_that_acts_takes_legal_actions_alone(tmp_path, capsys):
    where = f"{Path(mask_probes.__file__)}:Game"
    words = "--num-envs 4 --horizon 16 --minibatch-size 32 --epochs 1 --hidden 16 --steps 192 --quiet"
    run = str(tmp_path / "run")
    evaluated = ["--eval-every", "64", "--eval-episodes", "2", "--out", run]
    assert main(["train", where, *words.split(), *evaluated]) == 0
    assert main(["evaluate", run, "--env", where, "--episodes", "4", "--best"]) == 0
    video = tmp_path / "play.mp4"
    assert main(["watch", run, "--env", where, "--episodes", "1", "--video", str(video)]) == 0
    assert video.stat().st_size > 0
    sizes = words.split()[:8]
    assert main(["bench", where, *sizes, "--repeats", "1", "--json"]) == 0
    assert "illegal" not in capsys.readouterr().err


class Disagrees(Bandit):
    def action_masks(self):
        return np.array([1, 0, 0, 0, 0])


class Late(Bandit):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {}


WRONG = {
    "two places": (Disagrees, "its info has an 'action_mask' and .* a method .*, and they differ in flag 2"),
    "steps alone": (
        partial(Late, legal=range(5)),
        r"its info has an 'action_mask' in step\(\), and none in reset\(\); return one in",
    ),
    "nothing": (partial(Bandit, legal=()), "its action mask allows no action; allow one, or end the episode"),
    "nothing later": (
        partial(Wrong, np.zeros(5)),
        r"at step 2, .*its action mask allows no action; allow one",
    ),
    "another shape": (
        partial(Wrong, np.ones(4)),
        r"at step 2, .*is an array of float64 \(4,\), its action space has 5 values; return an int8 array of",
    ),
    "other values": (
        partial(Wrong, np.array([1, 0, 2, 0, 0])),
        r"at step 2, .*its action mask has values other than 0 and 1; return only these",
    ),
    "a part of another shape": (
        partial(Wrong, np.ones(4, np.int8), "part"),
        r"at step 2, .*observation\['action_mask'\] of shape \(4,\), but its space declares \(5,\); correct",
    ),
}


@pytest.mark.parametrize("own", [False, True], ids=["ours", "theirs"])
@pytest.mark.parametrize("what", WRONG)
def test_a_mask_that_cannot_be_is_refused_in_one_line_that_names_the_environment(what, own):
    env, says = WRONG[what]
    made = gym.vector.SyncVectorEnv([env, env]) if own else env
    config = small(made, num_envs=2, horizon=4, minibatch_size=8)
    with pytest.raises(EnvironmentFault, match=f"environment 0 of .*{says}") as caught:
        list(training(config))
    assert "\n" not in str(caught.value)


def test_the_mask_of_an_episodes_last_observation_may_allow_nothing():
    for made in (Closes, gym.vector.SyncVectorEnv([Closes, Closes])):
        with make_envs(made, 2) as envs:
            envs.reset([0, 1])
            assert envs.step(np.array([0, 2])).legal.all()  # the next action is ignored
            assert envs.step(np.array([1, 1])).legal.astype(int).tolist() == [[1, 0, 1, 0, 0]] * 2


# --- choices that depend on each other


def test_a_mask_of_the_shape_of_nvec_makes_choices_depend_on_each_other(tmp_path):
    config = small(Pair, num_envs=4, horizon=16, minibatch_size=32, steps=960)
    *_, last = training(config)
    assert last.mean_return > 1.0  # Pair raises at unequal choices
    assert evaluate(last.agent, Pair, episodes=8).mean == 2.0
    save_model(last.agent, tmp_path / "model")
    again = load_model(tmp_path / "model")
    only = np.zeros((3, 3), int)
    only[2, 0] = 1
    assert again.act(np.ones(1, np.float32), legal=only).tolist() == [2, 0]
    assert again.act(np.ones((2, 1), np.float32), legal=np.stack([only, only.T])).tolist() == [[2, 0], [0, 2]]


def test_too_many_combinations_are_refused_with_what_to_do():
    with pytest.raises(EnvironmentFault, match=r"a flag for each of 4,225 combinations, .* at most 4,096"):
        next(training(small(partial(Pair, 65))))


def test_an_agent_of_independent_choices_refuses_masks_of_combinations():
    class Independent(Pair):
        def reset(self, *, seed=None, options=None):
            obs, _ = super().reset(seed=seed)
            return obs, {"action_mask": np.array([1, 0, 0, 1, 0, 0])}

    first = next(training(small(Independent, num_envs=2, horizon=4, minibatch_size=8)))
    with pytest.raises(
        UserError, match=r"a flag for each combination of choices, those of .* one for each value"
    ):
        evaluate(first.agent, Pair, episodes=1)


def test_a_vector_tells_masks_of_combinations_too():
    for made in (Pair, gym.vector.SyncVectorEnv([Pair, Pair])):
        with make_envs(made, 2) as envs:
            envs.reset([0, 1])
            assert envs.legal.astype(int).tolist() == [np.eye(3, dtype=int).reshape(-1).tolist()] * 2
