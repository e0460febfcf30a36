"""The options: which there are, what they may be, and where the numbers of a preset come from."""

import dataclasses
import json
import math

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
from probes import Probe

from proximo import Config, UserError, preset, with_options
from proximo.control.config import as_json, from_json, validate
from proximo.control.presets import ATARI_ALONE, METHODS, PRESETS, RECIPES
from proximo.core import (
    Clip,
    ClippedSquaredError,
    DualClip,
    Huber,
    KLPenalty,
    LogClip,
    PolicyGradient,
    Unclipped,
)
from proximo.core.arrays import traceable
from proximo.learn.actor_steps import AverageTrustRegion, CrossEntropy, SingleGradient, TrustRegion
from proximo.learn.options import UpdateOptions
from proximo.options import flat_options, is_part, own_options
from proximo.policies import NetworkOptions


@dataclasses.dataclass(frozen=True)
class Unseen:
    """An objective that JAX cannot see into: it is not `@traceable`."""

    width: float = 0.2


# Frozen: a new option needs a reason, a test and a line here; a lost one breaks someone's command.
OPTIONS = [
    "activation",
    "actor_step",
    "adam_epsilon",
    "advantage_normalisation",
    "advantages",
    "anneal",
    "anneal_clip",
    "baseline",
    "clip_rewards",
    "critic_hidden",
    "critic_only",
    "distribution",
    "embedding",
    "entropy_coefficient",
    "env",
    "env_kwargs",
    "epochs",
    "final_log_std",
    "flatten",
    "gae_lambda",
    "gamma",
    "hidden",
    "horizon",
    "image_network",
    "initial_log_std",
    "initialiser",
    "layers",
    "learning_rate",
    "learning_rate_kl",
    "life_loss",
    "max_grad_norm",
    "max_restarts",
    "minibatch_size",
    "modulate",
    "network",
    "normalise_observations",
    "normalise_rewards",
    "num_envs",
    "objective",
    "policy_gain",
    "restart_interval",
    "scale_actions",
    "seed",
    "separate_critic",
    "shared",
    "step_timeout",
    "steps",
    "target_kl",
    "text_features",
    "until",
    "value_coefficient",
    "value_loss",
    "vectorization_mode",
]


def test_the_list_of_options():
    assert sorted(flat_options(Config)) == OPTIONS


def test_no_two_parts_have_an_option_of_one_name():
    # They are flat on the command line.
    kinds = (Config, UpdateOptions, NetworkOptions)
    options = [own for kind in kinds for own in own_options(kind).items()]
    names = [name for name, option in options if not is_part(option)]
    assert len(names) == len(set(names)) == len(OPTIONS)


def test_the_defaults_are_valid():
    assert validate(Config("CartPole-v1")) == Config("CartPole-v1")


def test_options_by_their_flat_names():
    config = with_options(Config("A"), gamma=0.5, hidden=(3,), seed=7, value_loss=Huber(2.0))
    assert config.update.gamma == 0.5 and config.network.hidden == (3,) and config.seed == 7
    assert config.update.value_loss == Huber(2.0)
    assert with_options(Config("A"), clip=0.3).update.objective == Clip(0.3)
    assert config == with_options(
        with_options(Config("A"), gamma=0.5, hidden=(3,)), seed=7, value_loss=Huber(2.0)
    )


COMPUTED = {  # by a sweep, say: each is the plain number beside it
    "gamma": (np.float32(0.5), 0.5),
    "steps": (np.int64(1024), 1024),
    "seed": (np.uint32(3), 3),
    "anneal": (np.bool_(False), False),
    "until": (np.array(475.0), 475.0),
    "target_kl": (jnp.float32(0.25), 0.25),
    "hidden": (np.array([8, 4]), (8, 4)),
    "critic_hidden": ([np.int32(8), 4], (8, 4)),
    "objective": (Clip(np.float64(0.1)), Clip(0.1)),
    "vectorization_mode": (np.str_("parallel"), "parallel"),
}


def test_numbers_of_numpy_and_jax_are_plain_numbers():
    given = {name: value for name, (value, _) in COMPUTED.items()}
    expected = with_options(Config("CartPole-v1"), **{name: plain for name, (_, plain) in COMPUTED.items()})
    # By their names, and put into a configuration by hand.
    own = {name: given[name] for name in ("steps", "seed", "until", "vectorization_mode")}
    update = {name: given[name] for name in ("gamma", "anneal", "target_kl", "objective")}
    network = NetworkOptions(hidden=(np.int64(8), np.int64(4)), critic_hidden=(8, np.int64(4)))
    by_hand = Config("CartPole-v1", **own, update=UpdateOptions(**update), network=network)
    for config in (with_options(Config("CartPole-v1"), **given), validate(by_hand)):
        assert repr(config) == repr(expected)  # the same numbers, and of the same types
        assert from_json(json.loads(json.dumps(as_json(config)))) == expected
    with pytest.raises(UserError, match=r"gamma is 1\.5: it must lie between 0 and 1"):
        validate(with_options(Config("CartPole-v1"), gamma=np.float32(1.5)))
    with pytest.raises(UserError, match=r"steps is 0\.5: it must be a whole number"):
        validate(with_options(Config("CartPole-v1"), steps=np.float64(0.5)))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("learning_rat", "learning_rate"),
        ("num_env", "num_envs"),
        ("clipp", "clip"),
        ("lr_", ""),
        ("update", ""),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_names(name, near):
    with pytest.raises(UserError, match=f"there is no option '{name}'") as caught:
        with_options(Config("A"), **{name: 1})
    assert near in str(caught.value) and "\n" not in str(caught.value)


IMPOSSIBLE = [
    ("max_restarts", -1),
    ("restart_interval", -1.0),
    ("step_timeout", 0.0),
    *(
        (name, value)
        for name in ("steps", "num_envs", "horizon", "epochs", "minibatch_size")
        for value in (0, -1)
    ),
    ("seed", -1),
    *((name, value) for name in ("gamma", "gae_lambda") for value in (-0.1, 1.1, 3, math.nan)),
    *(
        (name, value)
        for name in ("learning_rate", "max_grad_norm", "adam_epsilon", "target_kl")
        for value in (0.0, -1.0, math.nan)
    ),
    *((name, value) for name in ("value_coefficient", "entropy_coefficient") for value in (-0.1, math.nan)),
    *((name, "other") for name in ("activation", "initialiser", "advantages", "advantage_normalisation")),
    ("vectorization_mode", "other"),
    *((name, 8.5) for name in ("steps", "num_envs", "horizon", "seed", "epochs", "minibatch_size")),
    ("hidden", (64, 0)),
    ("critic_hidden", (64, 0)),
    *(("hidden", value) for value in (None, "64", (64.5,))),
    *(
        (name, value)
        for name in ("learning_rate", "gamma", "value_coefficient", "target_kl", "step_timeout")
        for value in ("3e-4", math.sqrt, True)
    ),
    ("learning_rate", None),
    *((name, "false") for name in ("anneal", "shared", "normalise_observations")),
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_what_cannot_be_is_refused_and_named(name, value):
    with pytest.raises(UserError, match=f"^{name} is ") as caught:
        validate(with_options(Config("A"), **{name: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": Clip(0.0)}, "Clip's epsilon is 0.0: it must be above 0"),
        (
            {"objective": lambda *words: 0.0},
            r"the objective <lambda> returned float32\[\] for .* float32\[4\]",
        ),
        ({"objective": Unseen()}, "Unseen cannot be compiled: .* with the decorator @traceable"),
        ({"objective": Unseen(width="wide")}, "Unseen cannot be compiled: .* of numbers"),
        ({"objective": Clip}, r"Clip is a class: write Clip\(\)"),
        ({"objective": Unclipped(), "anneal_clip": True}, "anneal_clip needs a clipped objective"),
        (
            {"actor_step": TrustRegion(), "target_kl": 0.01},
            "target_kl depends on the actor's KL .* TrustRegion",
        ),
        (
            {"actor_step": SingleGradient(), "learning_rate_kl": 0.01},
            "learning_rate_kl depends on the actor's KL",
        ),
        ({"objective": LogClip(), "anneal_clip": True, "target_kl": 0.0}, "target_kl is 0.0"),
        ({"learning_rate_kl": -1.0}, "learning_rate_kl is -1.0: it must be above 0"),
        ({"objective": DualClip(0.2, 1.0)}, "DualClip's bound is 1.0: it must be above 1"),
        ({"objective": KLPenalty(-1.0)}, "KLPenalty's beta is -1.0: it must be above 0"),
        ({"actor_step": TrustRegion(max_kl=0.0)}, "TrustRegion's max_kl is 0.0: it must be above 0"),
        ({"actor_step": TrustRegion(iterations=0)}, "TrustRegion's iterations is 0"),
        ({"actor_step": AverageTrustRegion(decay=1.0)}, "decay is 1.0: it must be above 0 and below 1"),
        ({"actor_step": AverageTrustRegion(limit=-1.0)}, "limit is -1.0: it must be at least 0"),
        ({"value_loss": Huber(-1.0)}, "Huber's delta is -1.0"),
        ({"value_loss": ClippedSquaredError(0.0)}, "ClippedSquaredError's epsilon is 0.0"),
        # 8 x 256 = 2048
        (
            {"minibatch_size": 4096},
            "minibatch_size is 4096, larger than the batch .* = 2048.*: take at most 2048",
        ),
        ({"minibatch_size": 100}, r"minibatch_size is 100, which does not divide .*: take 32, 64 or 128"),
        ({"num_envs": 3, "horizon": 5, "minibatch_size": 4}, "3 x 5 = 15.*: take 1, 3 or 5"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_what_would(options, message):
    with pytest.raises(UserError, match=message):
        validate(with_options(Config("A"), **options))


@pytest.mark.parametrize(
    "options",
    [
        {"actor_step": AverageTrustRegion(limit=0.0)},
        {"actor_step": CrossEntropy(extra_std=0.0)},
        {"gamma": 1.0, "gae_lambda": 0.0},
        {"gamma": 0.0, "gae_lambda": 1.0},
        {"value_coefficient": 0.0, "entropy_coefficient": 0.0},
        {"target_kl": 1e-9},
        {"hidden": ()},
        {"hidden": [8, 8]},  # a list is as good
        {"hidden": 64},  # one layer
        {"learning_rate": np.float32(1e-3), "gamma": 1},
        {"critic_hidden": ()},
        {"shared": True, "critic_hidden": (8,)},
        {"num_envs": 1, "horizon": 1, "minibatch_size": 1, "steps": 1, "epochs": 1},
        {"objective": PolicyGradient()},
    ],
)
def test_the_edges_are_allowed(options):
    validate(with_options(Config("A"), **options))


# ---- presets


def test_the_paper_preset_is_table_3():
    # Schulman 2017, table 3 (MuJoCo, 1 million steps): horizon 2048, Adam 3e-4, 10 epochs, minibatch 64,
    # gamma 0.99, lambda 0.95; section 6.1: clip 0.2 (table 1), two hidden layers of 64, tanh, no entropy
    # bonus, no shared parameters.
    config = preset("paper", "CartPole-v1")
    update, network = config.update, config.network
    assert (config.steps, config.num_envs, config.horizon) == (1_000_000, 1, 2048)
    assert (update.learning_rate, update.epochs, update.minibatch_size) == (3e-4, 10, 64)
    assert (update.gamma, update.gae_lambda, update.objective) == (0.99, 0.95, Clip(0.2))
    assert (network.hidden, network.activation, network.shared) == ((64, 64), "tanh", False)
    assert (update.entropy_coefficient, update.advantages) == (0.0, "once")


def test_the_roboschool_preset_is_table_4():
    # Schulman 2017, table 4: horizon 512, step size adjusted to the KL, 15 epochs, minibatch 4096, gamma
    # 0.99, lambda 0.95, 32 actors for locomotion, log standard deviation from -0.7 to -1.6.
    config = preset("roboschool", "Humanoid-v5")
    update, network = config.update, config.network
    assert (config.num_envs, config.horizon, update.epochs, update.minibatch_size) == (32, 512, 15, 4096)
    assert (update.gamma, update.gae_lambda, update.anneal) == (0.99, 0.95, False)
    assert update.learning_rate_kl is not None
    assert (network.initial_log_std, network.final_log_std) == (-0.7, -1.6)


def test_every_preset_names_options_that_exist_and_fit():
    for numbers in (*METHODS.values(), *RECIPES.values()):
        assert set(numbers) <= {*OPTIONS, "clip"}
        assert validate(with_options(Config("A"), **numbers))


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ATARI_ALONE])
@pytest.mark.parametrize("env", ["CartPole-v1", "HalfCheetah-v5", "LunarLander-v3", "FrozenLake-v1"])
def test_every_preset_fits_every_family(name, env):
    config = validate(preset(name, env))
    assert config.env == env


def test_the_default_preset_depends_on_the_family():
    assert (
        preset("default", "CartPole-v1").update.minibatch_size == RECIPES["classic_control"]["minibatch_size"]
    )
    assert preset("default", "LunarLander-v3").update.gamma == RECIPES["box2d"]["gamma"]
    assert preset("default", "FrozenLake-v1") == Config("FrozenLake-v1")


class OwnEnv(gym.Env):
    """An environment of one's own."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)


def test_an_environment_of_ones_own_gets_one_recipe_however_it_is_given(monkeypatch):
    monkeypatch.setitem(gym.registry, "Own-v0", gym.envs.registration.EnvSpec("Own-v0", OwnEnv))
    for env in (OwnEnv, lambda: OwnEnv(), "Own-v0"):
        assert preset("default", env) == with_options(Config(env), **RECIPES["other"])


def test_one_object_brings_one_environment_and_rollouts_stay_as_large():
    config = preset("default", OwnEnv())
    assert (config.num_envs, config.horizon) == (
        1,
        RECIPES["other"]["num_envs"] * RECIPES["other"]["horizon"],
    )
    assert config.update == with_options(Config(OwnEnv), **RECIPES["other"]).update


def test_an_unknown_preset_is_refused():
    with pytest.raises(UserError, match="there is no preset 'papers': take one of default, paper"):
        preset("papers", "CartPole-v1")


@pytest.mark.parametrize(
    ("env", "num_envs"),
    [
        (Probe, 8),
        (lambda: Probe(), 8),
        (Probe(), 1),
        (gym.vector.SyncVectorEnv([Probe] * 3), 3),
        (gym.make("CartPole-v1"), 1),
    ],
    ids=["class", "function", "instance", "vector", "registered instance"],
)
def test_an_object_brings_its_number_of_environments_along(env, num_envs):
    config = validate(preset("default", env))
    assert config.num_envs == num_envs


@traceable
@dataclasses.dataclass(frozen=True)
class Own:
    """An objective of the user's own."""

    shift: float = 0.0

    def __call__(self, log_ratio, advantage, kl):
        return advantage * (log_ratio + self.shift)


def test_what_the_numbers_of_an_own_objective_may_be_only_its_author_knows():
    config = validate(with_options(Config("CartPole-v1"), objective=Own()))
    with pytest.raises(UserError, match=r"its objective is Own, code of your own: pass it again"):
        from_json(as_json(config))
    assert from_json(as_json(config), {"objective": Own}) == config


# ---- as plain data


def test_a_configuration_as_plain_data():
    config = with_options(Config("CartPole-v1"), value_loss=Huber(2.0), objective=Unclipped(), hidden=(3, 4))
    data = as_json(config)
    assert json.loads(json.dumps(data)) == data
    assert data["env"] == "CartPole-v1"
    assert data["update"]["value_loss"] == {"name": "Huber", "delta": 2.0}
    assert data["update"]["objective"] == {"name": "Unclipped"}
    assert data["network"]["hidden"] == [3, 4]
    assert as_json(Config(Probe()))["env"] == "Probe"
