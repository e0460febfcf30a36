"""A run is evaluated and resumed in the environment that it was trained in, or says what it needs."""

import json
import pickle
import shutil
import warnings
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from probes import Probe, small

import proximo
from proximo.control.resume import resume_run
from proximo.errors import EnvironmentDiffers, EnvironmentFault, UserError

QUICK = dict(num_envs=2, horizon=8, minibatch_size=8, epochs=1, hidden=(4,))
OLD = Path(__file__).parents[1] / "data" / "version-0.1" / "cartpole"


class Limit(Probe):
    """An episode has `limit` steps of reward 1."""

    def __init__(self, limit=3):
        self.limit = limit

    def begin(self):
        self.clock = 0

    def turn(self, action):
        self.clock += 1
        return 1.0, self.clock == self.limit, False


class Other(Limit):
    """As the first one to look at."""


def short():
    """CartPole-v1 that is cut after 5 steps: no policy falls earlier."""
    return gym.make("CartPole-v1", max_episode_steps=5)


def trained(env, tmp_path, **options):
    return proximo.train(env, out=tmp_path / "run", steps=32, **{**QUICK, **options})


def silent(work):
    """What it gives, without a warning that another environment is played."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", EnvironmentDiffers)
        return work()


# ---- what was made with arguments or wrappers


@pytest.mark.parametrize(
    ("env", "options"),
    [
        (short, {}),
        (lambda: short(), {}),
        ("CartPole-v1", {"env_kwargs": {"max_episode_steps": 5}}),
        ("CartPole-v1", {"env_kwargs": {"max_episode_steps": 5}, "vectorization_mode": "parallel"}),
        ("instance", {"num_envs": 1}),
        ("vector", {}),
    ],
    ids=["function", "lambda", "id", "parallel", "instance", "vector"],
)
def test_it_is_evaluated_and_resumed_as_it_was_made(tmp_path, env, options):
    objects = {"instance": short, "vector": lambda: gym.vector.SyncVectorEnv([short] * 2)}
    run = trained(objects[env]() if env in objects else env, tmp_path, **options)
    described = json.loads((run.folder / "config.json").read_text())["env_description"]
    assert (described["name"], described["kwargs"]) == ("CartPole-v1", {"max_episode_steps": 5})
    assert json.loads((run.folder / "config.json").read_text())["env"] == "CartPole-v1"
    for play in (
        run.evaluate,
        partial(proximo.evaluate, run.agent),
        partial(proximo.evaluate, proximo.load(run.folder)),
    ):
        assert silent(lambda play=play: play(episodes=2)).lengths == [5, 5]
    resumed = silent(lambda: proximo.resume(run.folder, steps=64))
    assert silent(lambda: resumed.evaluate(2)).lengths == [5, 5]
    assert resumed.agent.environment == run.agent.environment


def test_the_plain_one_is_another_environment(tmp_path):
    run = trained(short, tmp_path)
    with pytest.warns(EnvironmentDiffers, match="max_episode_steps is not given, in training it was 5"):
        assert proximo.evaluate(run.agent, "CartPole-v1", episodes=1, max_steps=500).lengths[0] > 5
    with pytest.warns(EnvironmentDiffers, match="max_episode_steps is 7, in training it was 5"):
        assert proximo.evaluate(run.agent, env_kwargs={"max_episode_steps": 7}, episodes=1).lengths == [7]
    with pytest.raises(UserError, match="on a different environment: max_episode_steps is not given"):
        resume_run(run.folder, env=gym.make("CartPole-v1"), steps=64)
    resume_run(run.folder, env="CartPole-v1", steps=64).folder.lock.release()  # the id of the recorded one


# ---- what no file makes again


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (Limit, r"Limit needs code of your own.*with env='test_identity:Limit', .*--env test_identity:Limit"),
        (lambda: Limit(), "lambda cannot be recreated from the run's files.*with env=.*--env mod"),
        (
            Limit(),
            "Limit needs code of your own.*with env='test_identity:Limit', .*--env test_identity:Limit",
        ),
    ],
    ids=["class", "lambda", "instance"],
)
def test_what_is_not_registered_is_asked_for(tmp_path, env, told):
    run = trained(env, tmp_path, num_envs=1)
    for ask in (lambda: proximo.evaluate(run.agent), lambda: proximo.resume(run.folder, steps=64)):
        with pytest.raises(UserError, match=told):
            ask()
    assert silent(lambda: run.evaluate(2)).lengths == [3, 3]
    assert silent(lambda: proximo.evaluate(run.agent, Limit, episodes=2)).lengths == [3, 3]
    with pytest.warns(EnvironmentDiffers, match="it is Other, in training it was Limit"):
        proximo.evaluate(run.agent, Other, episodes=1)
    with pytest.raises(UserError, match="on a different environment: it is Other, in training it was Limit"):
        resume_run(run.folder, env=lambda: Other(), steps=64)


def test_a_class_keeps_its_arguments(tmp_path):
    run = trained(Limit, tmp_path, env_kwargs={"limit": 4})
    assert silent(lambda: run.evaluate(1)).lengths == [4]
    assert silent(lambda: proximo.evaluate(proximo.load(run.folder), Limit, episodes=1)).lengths == [4]
    assert resume_run(run.folder, env=Limit, steps=64).config.env_kwargs == {"limit": 4}


def test_another_class_under_the_same_id_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(
        gym.registry, "Mine-v0", replace(gym.spec("CartPole-v1"), id="Mine-v0", entry_point=Limit)
    )
    run = trained("Mine-v0", tmp_path)
    monkeypatch.setitem(gym.registry, "Mine-v0", replace(gym.registry["Mine-v0"], entry_point=Other))
    with pytest.warns(
        EnvironmentDiffers, match="it is Other in TimeLimit, in training it was Limit in TimeLimit"
    ):
        run.evaluate(1)
    with pytest.raises(
        UserError, match="the run was trained on a different environment: it is Other in TimeLimit"
    ):
        resume_run(run.folder, steps=64)


# ---- spaces are compared by their structure


def in_order(*names):
    class Parts(Probe):
        observation_space = spaces.Dict(OrderedDict((name, spaces.Box(-1, 1, (1,))) for name in names))

        def reset(self, **options):
            return self.parts(super().reset(**options)[0]), {}

        def step(self, action):
            return self.parts(None), *super().step(action)[1:]

        def parts(self, _):
            return {name: np.zeros(1, np.float32) for name in names}

    return Parts


def test_an_order_that_changed_is_named(tmp_path):
    run = trained(in_order("a", "b"), tmp_path)
    message = (
        "Parts has different observations or actions than Parts, on which the agent was trained: the obs"
    )
    for ask in (
        lambda env: proximo.evaluate(run.agent, env, episodes=1),
        lambda env: resume_run(run.folder, env=env, steps=64),
    ):
        with pytest.raises(UserError, match=f"{message}ervation has the order b, a, not a, b"):
            ask(in_order("b", "a"))


# ---- one environment, one user


def test_an_instance_that_is_trained_on_is_not_evaluated_on_the_way():
    env = Limit()
    config = small(env, **{**QUICK, "num_envs": 1})
    iterations = proximo.training(config)
    agent = next(iterations).agent
    for inner in (env, gym.wrappers.TimeLimit(env, 2)):
        with pytest.raises(UserError, match="this Limit is in use by a training or an evaluation"):
            proximo.evaluate(agent, inner, episodes=1)
    iterations.close()
    assert proximo.evaluate(agent, env, episodes=1).lengths == [3]


class OneAlone(Limit):
    """A second one cannot exist beside it, as of a robot."""

    alive = 0

    def __init__(self):
        super().__init__()
        if OneAlone.alive:
            raise RuntimeError("the port is taken")
        OneAlone.alive += 1

    def close(self):
        OneAlone.alive -= 1


def test_where_one_copy_is_all_there_is(tmp_path, monkeypatch):
    run = trained(OneAlone, tmp_path, num_envs=1)
    assert run.evaluate(3, num_envs=1).lengths == [3, 3, 3]
    with pytest.raises(UserError, match=r"the port is taken.*; if fewer than 3 can exist .* --num-envs 1"):
        run.evaluate(3)
    monkeypatch.setattr(OneAlone, "alive", 0)
    with pytest.raises(UserError, match="num_envs is 0"):
        run.evaluate(3, num_envs=0)
    with pytest.raises(UserError, match="an instance is a single environment"):
        proximo.evaluate(run.agent, Limit(), episodes=3, num_envs=2)


# ---- an episode without an end


def test_an_episode_that_never_ends_is_told_and_given_up(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("proximo.control.evaluate.LONG", 50)
    run = trained(Limit, tmp_path, env_kwargs={"limit": 10**9})
    with pytest.raises(EnvironmentFault, match=r"has not ended in 80 steps: .*TimeLimit.*--max-steps"):
        run.evaluate(2, max_steps=80)
    assert capsys.readouterr().err.count("no episode of Limit has ended in 50 steps") == 1
    with pytest.warns(EnvironmentDiffers, match="limit is 80, in training it was 1000000000"):
        assert run.evaluate(1, env=partial(Limit, limit=80), max_steps=80).lengths == [80]  # 80 are allowed


# ---- folders


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("<lambda>", "lambda"),
        ("ALE/Pong-v5", "ALE-Pong-v5"),
        ("a:b*c?", "a-b-c"),
        ("Straße v0", "Stra-e-v0"),
        ("..", "environment"),
    ],
)
def test_a_name_becomes_a_folder_that_every_system_has(name, part):
    assert proximo.runs.folder.file_name(name) == part


def test_a_run_of_a_lambda_is_easily_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = proximo.train(lambda: Limit(), steps=16, **QUICK)
    assert run.folder.name.startswith("lambda-0-")


# ---- handed to another process


def test_a_run_survives_pickle(tmp_path):
    # A class goes by its name; what another process cannot have is left out: the agent knows what it was.
    run = trained(Limit, tmp_path)
    assert pickle.loads(pickle.dumps(run)).env is Limit
    for env, kept in (
        ("CartPole-v1", "CartPole-v1"),
        (lambda: short(), None),
        (Limit(), None),
        (short, short),
    ):
        again = pickle.loads(pickle.dumps(proximo.control.run.Run(run.folder, run.agent, env)))
        assert (again.env, again.folder) == (kept, run.folder)
    with pytest.raises(UserError, match="Limit cannot be recreated from the run's files"):
        pickle.loads(pickle.dumps(proximo.control.run.Run(run.folder, run.agent, Limit()))).evaluate(1)


# ---- runs of version 0.1, which recorded a name alone


def test_an_older_run_is_played_and_resumed(tmp_path):
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    for place in (run, run / "checkpoints" / "000000000615"):
        agent = proximo.load(place)
        assert agent.name == "CartPole-v1" and agent.environment.only_name
        assert len(silent(lambda agent=agent: proximo.evaluate(agent, episodes=2)).lengths) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", proximo.errors.MachineChanged)
        resumed = proximo.resume(run, steps=640)
    assert not resumed.agent.environment.only_name
    assert "env_description" in json.loads((run / "config.json").read_text())


def test_of_an_older_run_any_instance_of_its_id_will_do(tmp_path):
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", proximo.errors.MachineChanged)
        resumed = resume_run(run, env=partial(gym.make, "CartPole-v1", sutton_barto_reward=True), steps=640)
    assert resumed.config.env.keywords  # no arguments were recorded that they could be compared with
    with pytest.raises(UserError, match="Acrobot-v1 has different observations or actions than CartPole-v1"):
        resume_run(run, env=partial(gym.make, "Acrobot-v1"), steps=640)
