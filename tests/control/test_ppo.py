"""The two Python faces: `proximo.train`, and the verbs of Stable-Baselines3."""

import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from probes import Probe, equal

import proximo
from proximo import PPO, UserError, with_options

TINY = dict(num_envs=2, horizon=16, minibatch_size=32, epochs=1, hidden=(8,))
GAMMA = proximo.preset("default", "CartPole-v1").update.gamma
OBS = np.array([0.0, 0.1, -0.1, 0.0], np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return proximo.train("CartPole-v1", steps=64, seed=3, out=folder, **TINY)


def test_train_evaluate_load_act(run):
    evaluation = run.evaluate(episodes=4)
    assert evaluation.episodes == 4 and evaluation.low <= evaluation.mean <= evaluation.high
    assert evaluation == run.evaluate(episodes=4)
    agent = proximo.load(run.folder)
    assert evaluation == proximo.evaluate(agent, episodes=4)  # the model knows where it was trained
    assert agent.act(OBS) == run.agent.act(OBS) and agent.act(OBS) in (0, 1)
    assert agent.act(np.stack([OBS, -OBS, OBS])).shape == (3,)


def test_numbers_of_numpy_are_as_good_as_pythons(run, model, tmp_path):
    numbers = {name: np.int64(x) if name != "hidden" else np.array(x) for name, x in TINY.items()}
    options = dict(steps=np.int32(64), seed=np.uint8(3), gamma=np.float64(GAMMA))
    again = proximo.train("CartPole-v1", out=tmp_path / "run", **options, **numbers)
    assert equal(again.agent.policy, run.agent.policy)
    assert json.dumps(again.evaluate(np.int64(2), seed=np.int64(1)).as_json())
    learned = PPO("CartPole-v1", seed=np.int64(3), **numbers).learn(np.int64(64))
    assert equal(learned.agent.policy, model.agent.policy)


def test_train_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(UserError, match="there is no option 'learning_rat'; the nearest: learning_rate"):
        proximo.train("CartPole-v1", learning_rat=1.0, out=tmp_path)
    with pytest.raises(UserError, match="did you mean CartPole-v1"):
        proximo.train("CartPol-v1", out=tmp_path)


@pytest.fixture(scope="module")
def model():
    return PPO("CartPole-v1", seed=3, **TINY).learn(64)


def test_learn_is_train(model, run):
    assert equal(model.agent.policy, run.agent.policy)


def test_predict(model):
    action, state = model.predict(OBS, deterministic=True)
    assert action == model.agent.act(OBS) and state is None
    actions, memory = model.predict(np.stack([OBS, OBS]), state="mine", episode_start=np.array([True, False]))
    assert actions.shape == (2,) and memory == "mine"
    # Sampled unless said otherwise, as in Stable-Baselines3.
    assert {int(model.predict(OBS)[0]) for _ in range(50)} == {0, 1}


def test_predict_in_the_usual_loop(model):
    env = gym.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    for _ in range(5):
        action, _ = model.predict(obs, deterministic=True)
        obs, *_ = env.step(action)


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "cartpole")
    again = PPO.load(tmp_path / "cartpole")
    assert again.predict(OBS, deterministic=True)[0] == model.predict(OBS, deterministic=True)[0]
    again.save(tmp_path / "copy")
    assert equal(PPO.load(str(tmp_path / "copy")).agent.policy, model.agent.policy)
    with pytest.raises(UserError, match="a loaded model has no environment"):
        again.learn(64)


def test_a_model_that_has_not_learned(tmp_path):
    with pytest.raises(UserError, match="this model is not trained yet"):
        PPO("CartPole-v1").predict(OBS)
    with pytest.raises(UserError, match="this model is not trained yet"):
        PPO("CartPole-v1").save(tmp_path)


def test_the_names_of_stable_baselines3():
    theirs = PPO(
        "CartPole-v1",
        n_envs=4,
        n_steps=64,
        n_epochs=3,
        batch_size=32,
        clip_range=0.1,
        ent_coef=0.01,
        vf_coef=0.5,
        max_grad_norm=1.0,
        target_kl=0.02,
        gamma=0.9,
        seed=1,
    )
    ours = dict(
        num_envs=4,
        horizon=64,
        epochs=3,
        minibatch_size=32,
        clip=0.1,
        entropy_coefficient=0.01,
        value_coefficient=1.0,  # our value loss has the factor 0.5 that theirs has not
        max_grad_norm=1.0,
        target_kl=0.02,
        gamma=0.9,
        seed=1,
    )
    assert theirs.config == with_options(proximo.preset("default", "CartPole-v1"), **ours)
    assert theirs.config == PPO("CartPole-v1", **ours).config


def test_every_object_is_welcome():
    for env in (Probe(), gym.vector.SyncVectorEnv([Probe] * 2)):
        model = PPO(env, epochs=1, hidden=(8,), minibatch_size=64)
        assert model.learn(64).last.mean_return == 1.0


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("MlpPolicy", "CartPole-v1"), {}),
        (("MlpPolicy",), {"env": "CartPole-v1"}),
        ((), {"policy": "MultiInputPolicy", "env": "CartPole-v1"}),
        (
            ("CartPole-v1",),
            {"verbose": 1, "device": "auto", "tensorboard_log": None, "normalize_advantage": True},
        ),
        (
            ("CartPole-v1",),
            {"use_sde": False, "policy_kwargs": None, "clip_range_vf": None, "stats_window_size": 100},
        ),
    ],
)
def test_words_of_stable_baselines3_that_ask_for_what_there_is_are_understood(words, names):
    assert PPO(*words, **names).config == PPO("CartPole-v1").config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: PPO("CnnPolicy", "CartPole-v1"),
            "there is no CnnPolicy: leave it out; images are read by convolutions",
        ),
        (lambda: PPO("MlpPolicy"), "pass one environment, then options by name"),
        (
            lambda: PPO("MlpPolicy", "CartPole-v1", 3e-4),
            r"then options by name: PPO\('CartPole-v1', gamma=0.99\)",
        ),
        (lambda: PPO("CartPole-v1", policy_kwargs={}), "use hidden, critic_hidden and activation"),
        (lambda: PPO("CartPole-v1", tensorboard_log="x"), "tensorboard_log: use tensorboard"),
        (
            lambda: PPO("CartPole-v1", learning_rate=lambda left: left),
            "give a number; anneal=True anneals it",
        ),
        (
            lambda: PPO("CartPole-v1", clip_range=lambda left: left),
            "give a number; anneal_clip=True anneals it",
        ),
        (lambda: PPO("CartPole-v1", n_steps=8, horizon=8), "n_steps and horizon both set horizon"),
        (lambda: PPO("CartPole-v1", n_stepz=8), "there is no option 'n_stepz'"),
        (lambda: PPO("CartPole-v1").learn(64, callback=print), "callback: write the loop: for iteration in"),
        (lambda: PPO("CartPole-v1").learn(64, reset_num_timesteps=False), "every call trains from scratch"),
        (
            lambda: proximo.train("CartPole-v1", vf_coef=0.5),
            r"value_coefficient: 2 \* vf_coef of Stable-Base",
        ),
        (lambda: proximo.train("CartPole-v1", capture_video=True), "capture_video: use video_every N"),
        (lambda: proximo.train("CartPole-v1", callback=print), "callback: write the loop"),
    ],
)
def test_words_that_mean_something_else_here_are_refused_with_our_own(make, message):
    with pytest.raises(UserError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_train_and_evaluate_know_the_words_of_other_libraries(run, tmp_path):
    words = dict(n_envs=2, num_steps=16, batch_size=32, update_epochs=1, verbose=0)
    again = proximo.train(
        "CartPole-v1", total_timesteps=6.4e1, seed=3, hidden=(8,), out=tmp_path / "run", **words
    )
    assert equal(again.agent.policy, run.agent.policy)
    assert (
        again.evaluate(n_eval_episodes=3) == proximo.evaluate(run.agent, n_eval_episodes=3) == run.evaluate(3)
    )
    with pytest.raises(UserError, match="return_episode_rewards: the result has `returns`"):
        run.evaluate(n_eval_episodes=3, return_episode_rewards=True)


def test_it_survives_pickle():
    model = PPO("CartPole-v1", n_envs=2, n_steps=8, batch_size=8, hidden=(4,)).learn(16)
    again = pickle.loads(pickle.dumps(model))
    seen = np.zeros(4, np.float32)
    assert again.predict(seen, deterministic=True)[0] == model.predict(seen, deterministic=True)[0]
    assert again.learn(16).agent is not None
    own = PPO(lambda: gym.make("CartPole-v1"))  # another process cannot have it: what was learned remains
    own.agent = model.agent
    with pytest.raises(UserError, match="a loaded model has no environment to train in"):
        pickle.loads(pickle.dumps(own)).learn(16)
