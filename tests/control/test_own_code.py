"""A network, an objective, a value loss or an actor step of one's own, wherever one of ours can stand."""

import copy
import json
import pickle
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from probes import Probe, equal

import proximo
from proximo import PPO, UserError
from proximo.cli import main
from proximo.commands.train import read
from proximo.core import Clip
from proximo.core.arrays import traceable, with_numbers
from proximo.errors import OwnCodeMissing, OwnCodeUnnamed
from proximo.importing import typed_by_user

TINY = dict(num_envs=2, horizon=8, minibatch_size=8, epochs=1, steps=16)
STEADY = dict(anneal=False)  # the same however many steps are to come
FILE = "tests/control/test_own_code.py"


class Network(eqx.Module):
    """Two small networks."""

    actor: eqx.nn.MLP
    critic: eqx.nn.MLP

    def __init__(self, key, sizes, width=4):
        keys = jax.random.split(key)
        self.actor = eqx.nn.MLP(sizes.features, sizes.outputs, width, 1, key=keys[0])
        self.critic = eqx.nn.MLP(sizes.features, 1, width, 1, key=keys[1])

    def __call__(self, obs):
        return self.actor(obs), self.critic(obs)


@traceable
@dataclass(frozen=True)
class Scaled:
    """r A, scaled."""

    k: float = 2.0

    def __call__(self, log_ratio, advantage, kl=None):
        return self.k * jnp.exp(log_ratio) * advantage


def ratio(log_ratio, advantage, kl, k=1.0):
    """r A."""
    return k * jnp.exp(log_ratio) * advantage


def absolute_error(value, old_value, target):
    """|V - target|."""
    return jnp.abs(value - target)


@traceable
@dataclass(frozen=True)
class Nothing:
    """Moves no actor, and counts its calls."""

    joint: ClassVar[bool] = True

    def start(self, policy):
        return jnp.zeros(())

    def __call__(self, policy, memory, problem):
        return policy, memory + 1.0, {"train/calls": memory + 1.0}


OWN = dict(network=Network, objective=Scaled(3.0), value_loss=absolute_error, actor_step=Nothing())


def trained(tmp_path, **options):
    return proximo.train("CartPole-v1", out=tmp_path / "run", **{**TINY, **options})


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run with code of one's own everywhere."""
    return trained(tmp_path_factory.mktemp("begun"), **STEADY, **OWN)


@pytest.fixture
def run(begun, tmp_path, monkeypatch):
    """A copy of it, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(begun.folder, "run"))


# ---- trained, saved by its name, given again


def test_a_run_with_own_code_everywhere_is_saved_loaded_and_resumed_bit_for_bit(begun, run, tmp_path):
    written = json.loads((run / "config.json").read_text())
    assert written["update"]["objective"] == {"name": "Scaled", "own": f"{FILE}:Scaled", "k": 3.0}
    assert written["network"]["network"] == {"name": "Network", "own": f"{FILE}:Network"}
    agent = proximo.load(run, network=Network)
    assert equal(agent.policy, begun.agent.policy) and agent.value(np.zeros(4)).shape == ()
    assert proximo.evaluate(agent, episodes=2) == begun.evaluate(2)
    again = proximo.resume(run, steps=32, **{**OWN, "objective": Scaled, "actor_step": Nothing})
    whole = proximo.with_options(proximo.preset("default", "CartPole-v1"), **TINY, **STEADY, **OWN, seed=0)
    *_, last = proximo.training(proximo.with_options(whole, steps=32))
    assert equal(again.agent.policy, last.agent.policy)


@pytest.mark.parametrize("folder", ["run", "run/model", "run/checkpoints/000000000016"])
def test_what_is_missing_is_named_with_the_line_to_paste(run, folder):
    with pytest.raises(OwnCodeMissing) as caught:
        proximo.load(folder)
    assert str(caught.value) == (
        "run was trained with code of your own (network Network), which run files never import. Pass it "
        f"again: proximo evaluate run --network {FILE}:Network, or in Python proximo.load('run', "
        f"network=Network)"
    )


def test_to_resume_everything_that_is_missing_stands_in_one_line(run):
    with pytest.raises(OwnCodeMissing) as caught:
        proximo.resume("run", steps=32)
    assert str(caught.value) == (
        "run was trained with code of your own (network Network, objective Scaled, value loss "
        "absolute_error, actor step Nothing), which run files never import. Pass it again: "
        "proximo train --resume run "
        f"--network {FILE}:Network --objective {FILE}:Scaled:k=3.0 --value-loss {FILE}:absolute_error "
        f"--actor-step {FILE}:Nothing, or in Python proximo.resume('run', network=Network, objective=Scaled, "
        "value_loss=absolute_error, actor_step=Nothing)"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": ratio}, "its network is Network, not ratio: pass Network again"),
        ({"objective": Scaled(1.0)}, r"its objective is Scaled, which has k=3.0, not k=1.0: leave k out"),
        ({"objective": Clip()}, "its objective is Scaled, not Clip"),
        ({"network": partial(Network, width=7)}, "which has no width, not width=7"),
    ],
)
def test_other_code_than_the_runs_own_is_refused(run, given, message):
    with pytest.raises(OwnCodeMissing, match=message):
        proximo.resume(run, steps=32, **{**OWN, **given})


def test_own_code_that_a_run_does_not_have_is_refused():
    old = Path(__file__).parents[1] / "data" / "version-0.1" / "cartpole"
    with pytest.raises(UserError, match="has no network of your own: leave network out"):
        proximo.load(old, network=Network)
    with pytest.raises(UserError, match="has no objective of your own: leave objective out"):
        proximo.resume(old, steps=10_000, objective=Scaled)


@pytest.fixture(scope="module")
def model():
    return PPO("CartPole-v1", network=partial(Network, width=5), **TINY).learn(16)


def test_an_agent_with_an_own_network_is_copied_and_handed_on(model):
    agent = model.agent
    for again in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert equal(again.policy, agent.policy) and again.policy.options == agent.policy.options


def test_ppo_saves_and_loads_an_own_network(model, tmp_path):
    model.save(tmp_path / "model")
    again = PPO.load(tmp_path / "model", network=Network)  # its width is in the file
    seen = np.zeros((3, 4), np.float32)
    assert np.array_equal(again.predict(seen)[0], model.predict(seen)[0])
    with pytest.raises(UserError, match=r"proximo.load\('.*model', network=Network\)"):
        PPO.load(tmp_path / "model")


def test_an_own_loop_with_own_code(begun):
    config = proximo.with_options(proximo.preset("default", "CartPole-v1"), **TINY, **STEADY, **OWN)
    (iteration,) = proximo.training(config)
    assert iteration.metrics["train/calls"] == 1.0
    assert equal(iteration.agent.policy, begun.agent.policy)


def test_seeds_with_own_code_are_the_runs_that_each_would_be(begun, tmp_path):
    runs = proximo.train_ensemble("CartPole-v1", seeds=2, out=tmp_path / "both", **TINY, **STEADY, **OWN)
    for ours, own in zip(*(jax.tree.leaves(run.agent.policy) for run in (runs[0], begun)), strict=True):
        np.testing.assert_allclose(ours, own, atol=1e-5)
    loaded = proximo.load(runs[1].folder, network=Network)
    assert equal(loaded.policy, runs[1].agent.policy) and not equal(loaded.policy, begun.agent.policy)


def test_a_function_learns_what_the_class_with_its_numbers_learns():
    base = proximo.with_options(proximo.preset("default", "CartPole-v1"), **TINY)
    learned = [
        next(proximo.training(proximo.with_options(base, objective=objective))).agent.policy
        for objective in (Scaled(3.0), partial(ratio, k=3.0))
    ]
    assert equal(*learned)


# ---- what has no name


def test_a_lambda_is_told_of_before_the_first_step_and_is_given_again_in_python(tmp_path):
    make = lambda key, sizes: Network(key, sizes)  # noqa: E731
    with pytest.warns(OwnCodeUnnamed, match="network .*<lambda> has no name that a command can use"):
        run = trained(tmp_path, network=make, **STEADY, **{k: v for k, v in OWN.items() if k != "network"})
    assert equal(proximo.load(run.folder, network=make).policy, run.agent.policy)
    with pytest.raises(OwnCodeMissing, match=r"Pass it again: proximo.load\('.*', network=<lambda>\)"):
        proximo.load(run.folder)


# ---- what cannot be is refused before anything is trained


class Unlike(Network):
    """A network whose answer is given."""

    answer: object = eqx.field(static=True)

    def __init__(self, key, sizes, answer=None):
        super().__init__(key, sizes)
        self.answer = answer

    def __call__(self, obs):
        outputs, value = self.actor(obs), self.critic(obs)
        return {
            "three": lambda: (outputs[:1], value),
            "values": lambda: (outputs, outputs),
            "whole": lambda: (outputs.astype(int), value),
            "one": lambda: outputs,
            "fails": lambda: self.actor(value),
        }[self.answer]()


class Counting(eqx.Module):
    """Nothing that learns."""

    count: jax.Array

    def __init__(self, key, sizes):
        self.count = jnp.zeros(3, jnp.int32)


class Lambda(Network):
    """Another one each time."""

    last: object = eqx.field(static=True)

    def __init__(self, key, sizes):
        super().__init__(key, sizes)
        self.last = lambda x: x


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            partial(Unlike, answer="three"),
            r"Unlike returned outputs of float32\[1\] for one observation, float32"
            r"\[4\]: it must return float32\[2\]",
        ),
        (partial(Unlike, answer="values"), r"returned value of float32\[2\] .*: it must return float32\[1\]"),
        (partial(Unlike, answer="whole"), r"returned outputs of int32\[2\] .*: it must return float32\[2\]"),
        (partial(Unlike, answer="one"), r"returned float32\[2\] .*: it must return \(outputs, value\)"),
        (partial(Unlike, answer="fails"), r"the network Unlike failed with an observation, float32\[4\]: "),
        (Lambda, "the network Lambda is another one each time it is made: give the functions in it names"),
        (Counting, "the network Counting makes a Counting without arrays to learn"),
        (
            lambda key: None,
            r"could not be made with \(key, sizes\), Sizes\(features=4, outputs=2, images={}, ",
        ),
    ],
)
def test_a_network_that_returns_what_it_should_not_is_refused_in_one_line(network, message):
    config = proximo.with_options(proximo.preset("default", "CartPole-v1"), network=network)
    with pytest.raises(UserError, match=message) as caught:
        next(proximo.training(config))
    assert "\n" not in str(caught.value)


@traceable
@dataclass(frozen=True)
class Adapting(Scaled):
    """One whose next is not like it."""

    def adapted(self, kl):
        return kl


@traceable
@dataclass(frozen=True)
class Following(Scaled):
    """One that follows the KL, as ours."""

    def adapted(self, kl):
        return with_numbers(self, k=self.k + kl)


@traceable
@dataclass(frozen=True)
class Shrinking(Nothing):
    """An actor step that loses the policy's shape."""

    def __call__(self, policy, memory, problem):
        return jax.tree.map(lambda x: x[..., :1], policy), memory, {}


@traceable
@dataclass(frozen=True)
class Lame(Nothing):
    """An actor step that fails."""

    def __call__(self, policy, memory, problem):
        raise ValueError("no such thing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"objective": lambda log_ratio, advantage, kl: jnp.sum(advantage)},
            r"returned float32\[\] for \(log_ratio, advantage, kl\), each float32\[4\]: it must return "
            r"float32\[4\], a number for each transition",
        ),
        (
            {"objective": lambda log_ratio, advantage: advantage},
            "the objective <lambda> failed with .*TypeError",
        ),
        ({"objective": lambda log_ratio, advantage, kl: advantage > 0}, r"returned bool\[4\]"),
        ({"objective": Adapting()}, r"Adapting returned .* from adapted\(kl\): it must return Adapting"),
        ({"objective": Scaled}, r"Scaled is a class: write Scaled\(\)"),
        ({"objective": "scaled"}, "objective is 'scaled': it must be Clip or"),
        (
            {"value_loss": lambda value, old, target: (value - target)[..., 0]},
            r"value loss .*float32\[4\] for",
        ),
        ({"actor_step": ratio}, r"ratio is not an actor step: it needs `joint`"),
        ({"actor_step": Shrinking()}, "Shrinking returned a policy of .*: it must be as the one before"),
        ({"actor_step": Lame()}, "the actor step Lame failed: ValueError: no such thing"),
        (
            {"network": "Network"},
            "network is 'Network': it must be Lstm or Gru or Transformer or a class or a function or None",
        ),
        ({"network": partial(Network, width=jnp.tanh)}, "Network has width=.*, which cannot be saved"),
        (
            {"network": Network, "hidden": (7,)},
            "hidden is an option of Proximo's networks, which your network Netw",
        ),
        (
            {"network": Network, "preset_name": "trpo"},
            "TrustRegion updates only the actor, but in your network",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line_before_anything_is_trained(tmp_path, options, message):
    with pytest.raises(UserError, match=message) as caught:
        trained(tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("run/checkpoints/*")) and not (tmp_path / "run/model").exists()


def test_an_objective_that_follows_the_kl_needs_no_beta():
    config = proximo.with_options(proximo.preset("default", "CartPole-v1"), objective=Following(), **TINY)
    (iteration,) = proximo.training(config)
    assert iteration.learner.objective.k == 2.0 + np.float32(iteration.metrics["train/kl"])


# ---- a network sees what it asks for


class Eyes(eqx.Module):
    """Sees the picture as bytes, beside the numbers."""

    in_parts = True
    layer: eqx.nn.Linear
    outputs: int = eqx.field(static=True)

    def __init__(self, key, sizes):
        (height, width), self.outputs = sizes.images["picture"], sizes.outputs
        self.layer = eqx.nn.Linear(sizes.features + height * width, sizes.outputs + 1, key=key)

    def __call__(self, obs):
        pixels = obs["picture"].reshape(-1).astype(jnp.float32) / 255.0
        said = self.layer(jnp.concatenate([obs["vector"], pixels]))
        return said[: self.outputs], said[self.outputs]


def test_a_network_that_asks_for_images_gets_them_and_is_saved(tmp_path):
    class Seen(Probe):
        observation_space = spaces.Dict(
            clock=spaces.Box(-1.0, 1.0, (1,), np.float32), picture=spaces.Box(0, 255, (3, 3), np.uint8)
        )

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def turn(self, action):
            return 1.0, True, False

        def step(self, action):
            return self.observation_space.sample(), 1.0, True, False, {}

    run = proximo.train(Seen, out=tmp_path / "run", network=Eyes, **TINY)
    agent = proximo.load(run.folder, network=Eyes)
    assert equal(agent.policy, run.agent.policy) and agent.act(Seen.observation_space.sample()) in (0, 1)
    assert proximo.resume(run.folder, env=Seen, network=Eyes, steps=32).folder == run.folder


# ---- on the command line


MODULE = """
from dataclasses import dataclass
import equinox as eqx, jax, jax.numpy as jnp
from proximo.core.arrays import traceable

@traceable
@dataclass(frozen=True)
class Mine:
    k: float = 2.0
    def __call__(self, log_ratio, advantage, kl=None):
        return self.k * jnp.exp(log_ratio) * advantage

def error(value, old_value, target):
    return jnp.abs(value - target)

class Net(eqx.Module):
    layer: eqx.nn.Linear
    def __init__(self, key, sizes, scale=1.0):
        self.layer = eqx.nn.Linear(sizes.features, sizes.outputs + 1, key=key)
    def __call__(self, obs):
        said = self.layer(obs)
        return said[:-1], said[-1]
"""
SHORT = ["--num-envs=2", "--horizon=8", "--minibatch-size=8", "--epochs=1", "--steps=16", "--quiet"]


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / f"mine_{tmp_path.name.replace('-', '_')}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return next(tmp_path.glob("*.py")).name


def proximo_(capsys, *words):
    """The exit status, and what was said."""
    status = main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out + said.err


@pytest.mark.parametrize("as_module", [False, True])
def test_own_code_is_typed_and_every_line_that_is_printed_works_as_it_is(file, capsys, as_module):
    name = file.removesuffix(".py") if as_module else file
    own = [
        f"--network={name}:Net:scale=2.5",
        "--objective",
        f"{name}:Mine:k=3",
        "--value-loss",
        f"{name}:error",
    ]
    status, said = proximo_(capsys, "train", "CartPole-v1", *own, *SHORT, "--out", "run")
    assert status == 0, said
    assert f"next: proximo evaluate run --network {file}:Net:scale=2.5\n" in said
    assert proximo_(capsys, "report", "run")[0] == 0  # the command as it was typed, which imports nothing
    assert f"--objective {name}:Mine:k=3 --value-loss {name}:error" in Path("run/report.html").read_text()
    assert proximo_(capsys, "evaluate", "run", "--network", f"{file}:Net:scale=2.5", "--episodes", 2)[0] == 0
    status, said = proximo_(capsys, "evaluate", "run")
    assert status == 2 and f"proximo evaluate run --network {file}:Net:scale=2.5, or in Python" in said
    status, said = proximo_(capsys, "train", "--resume", "run", "--steps", 32)
    line = said.partition("Pass it again: proximo ")[2].partition(", or in Python")[0]
    assert status == 2 and line.startswith("train --resume run ")
    status, said = proximo_(capsys, *line.split(), "--steps", 32, "--quiet")
    assert status == 0 and "16 steps in" in said


def test_seeds_a_sweep_and_an_export_take_own_code(file, capsys):
    own = ["--objective", f"{file}:Mine:k=3", "--network", f"{file}:Net"]
    status, said = proximo_(capsys, "train", "CartPole-v1", *own, *SHORT, "--seeds", 2, "--out", "both")
    assert status == 0, said
    status, said = proximo_(capsys, "export", "both/seed-0", "--onnx", "--network", f"{file}:Net")
    assert status == 0, said
    vary = f"objective={file}:Mine:k=1|{file}:Mine:k=2|clip:0.1"
    words = ["sweep", "CartPole-v1", "--network", f"{file}:Net", *SHORT, "--trials", 1, "--vary", vary]
    status, said = proximo_(capsys, *words, "--steps", 300, "--out", "swept", "--json")
    assert status == 0 and json.loads(said)["best"], said


def test_code_that_a_file_names_is_not_imported(file, capsys):
    """A word is read where the user typed it, and nowhere else: a run's folder records commands too."""
    words = ["CartPole-v1", "--objective", f"{file}:Mine", "--network", f"{file}:Net"]
    for typed in ([], ["report", "run"], ["train", "CartPole-v1", "--network", "other.py:Net"]):
        with typed_by_user(typed), pytest.raises(UserError, match="was not typed: a file may not name code"):
            read(words)
    Path("options.toml").write_text(f'objective = "{file}:Mine"\n')
    status, said = proximo_(capsys, "train", "CartPole-v1", "--config", "options.toml", *SHORT)
    assert status == 2 and "a file may not import code: confirm it by typing --objective" in said
    assert file.removesuffix(".py") not in sys.modules
    with typed_by_user(words):
        assert read(words).options.update.objective.k == 2.0


@pytest.mark.parametrize(
    ("option", "word", "message"),
    [
        ("--objective", "FILE:Mien", "has no objective Mien: did you mean Mine?"),
        ("--objective", "FILE:Mine:q=1", "Mine has no 'q': it has k"),
        ("--objective", "FILE:Net", "Net cannot be made: TypeError: "),
        ("--objective", "clap", "or of your own module:objective or file.py:objective"),
        ("--value-loss", "nothing.py:error", "there is no file nothing.py"),
        ("--value-loss", "FILE:error:3", "'3' is not of the form KEY=VALUE: write the name too, as in k=3"),
        ("--network", "FILE", "or of your own module:class or file.py:class"),
    ],
)
def test_a_word_that_names_nothing_is_refused_in_one_line(file, capsys, option, word, message):
    status, said = proximo_(capsys, "train", "CartPole-v1", option, word.replace("FILE", file), *SHORT)
    assert status == 2 and message in said and said.count("\n") == 1
    assert not (proximo.paths.absolute("runs")).exists()
