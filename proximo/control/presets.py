"""Presets as data: what each one changes in `Config`, and where its numbers come from."""

from typing import Any

from proximo.core import Clip, ClippedSquaredError, PolicyGradient, Unclipped
from proximo.learn.actor_steps import (
    AdaptiveGradient,
    AverageTrustRegion,
    CrossEntropy,
    NaturalGradient,
    SingleGradient,
    TrustRegion,
)
from proximo.policies.convolution import A3c, Impala, Nature

PAPER: dict[str, Any] = dict(  # Schulman 2017, table 3; where it is silent, the authors' released code
    steps=1_000_000,
    num_envs=1,
    horizon=2048,
    learning_rate=3e-4,
    epochs=10,
    minibatch_size=64,
    gamma=0.99,
    gae_lambda=0.95,
    objective=Clip(0.2),
    hidden=(64, 64),
    activation="tanh",
    initial_log_std=0.0,
    entropy_coefficient=0.0,
    anneal=True,
    advantages="once",
    vectorization_mode="auto",
)


# The methods of Figure 3 and of the text, on the paper's networks and normalisation. The paper gives no
# options for them; what differs from PAPER is what the method is, with the numbers of its own source.
A2C_STEP: dict[str, Any] = dict(
    num_envs=16,
    horizon=5,
    epochs=1,
    minibatch_size=80,
    learning_rate=7e-4,
    gae_lambda=1.0,
    objective=PolicyGradient(),
    advantage_normalisation="none",
)
A2C = (
    PAPER | A2C_STEP
)  # Mnih 2016 made synchronous, k-step returns; sizes and rate as baselines' a2c, with Adam
TRPO_STEP: dict[str, Any] = dict(
    objective=Unclipped(),
    actor_step=TrustRegion(max_kl=0.01, damping=0.1, iterations=10),
    advantage_normalisation="batch",
    learning_rate=1e-3,
    anneal=False,
    epochs=5,
)
TRPO = PAPER | TRPO_STEP  # Schulman 2015; KL, damping and the critic's rate are those of baselines' trpo_mpi
REINFORCE = TRPO | dict(  # Williams 1992, with returns to the end of the episode
    objective=PolicyGradient(),
    actor_step=SingleGradient(),
    gae_lambda=1.0,
    learning_rate=1e-3,
)
METHODS: dict[str, dict[str, Any]] = {
    "paper": PAPER,
    "a2c": A2C,
    "a2c-trust-region": A2C | dict(actor_step=AverageTrustRegion(limit=1.0, decay=0.99)),  # Wang 2016
    "vanilla-policy-gradient": TRPO
    | dict(objective=PolicyGradient(), actor_step=AdaptiveGradient(target_kl=0.01)),
    "reinforce": REINFORCE,
    "reinforce-without-baseline": REINFORCE
    | dict(baseline=False, advantage_normalisation="none"),  # to subtract the batch's mean is a baseline too
    "natural-policy-gradient": TRPO
    | dict(actor_step=NaturalGradient(max_kl=0.01, damping=0.1)),  # Kakade 2001
    "trpo": TRPO,
    "cem": PAPER  # Szita and Lorincz 2006; num_envs is the population
    | dict(num_envs=24, horizon=256, actor_step=CrossEntropy(elite=5, initial_std=1.0, extra_std=0.1)),
    "roboschool": PAPER  # Schulman 2017, table 4; the KL it adjusts the step size to is not given
    | dict(
        num_envs=32,
        horizon=512,
        epochs=15,
        minibatch_size=4096,
        learning_rate_kl=0.01,
        anneal=False,
        initial_log_std=-0.7,
        final_log_std=-1.6,
    ),
}

RECIPES: dict[str, dict[str, Any]] = {  # `default`, by the family of the environment
    # Small networks on dense rewards learn fastest from short rollouts, high rates and a shorter
    # horizon of credit; the shape is RL Baselines3 Zoo's for CartPole-v1.
    "classic_control": dict(
        steps=200_000,
        num_envs=8,
        horizon=128,
        minibatch_size=128,
        epochs=10,
        learning_rate=1e-3,
        gae_lambda=0.9,
    ),
    # Long flights with a sparse end: RL Baselines3 Zoo's gamma and lambda for LunarLander.
    "box2d": dict(
        steps=1_000_000,
        num_envs=16,
        horizon=512,
        minibatch_size=128,
        epochs=8,
        gamma=0.999,
        gae_lambda=0.98,
        entropy_coefficient=0.01,
        vectorization_mode="auto",
    ),
    # Environments of one's own, or of packages that are not named here: docs/recipe.md. Stepped in this
    # process: another one may not find a class of a script, nor what it remembers.
    "other": dict(
        num_envs=8,
        horizon=128,
        minibatch_size=128,
        learning_rate=2e-3,
        gamma=0.995,
        gae_lambda=0.9,
        entropy_coefficient=0.01,
    ),
    # What `proximo reproduce recipe` found: docs/recipe.md.
    "mujoco": dict(
        steps=1_000_000, initial_log_std=-0.5, critic_hidden=(256, 256), vectorization_mode="auto"
    ),
}
# Atari. All of them learn from the sign of the score, and a lost life ends the value (Mnih 2015).
ATARI_PAPER = PAPER | dict(  # Schulman 2017, table 5 and section 6.4; the loss there has no 0.5
    steps=10_000_000,
    num_envs=8,
    horizon=128,
    learning_rate=2.5e-4,
    epochs=3,
    minibatch_size=256,
    objective=Clip(0.1),
    anneal_clip=True,
    value_coefficient=2.0,
    entropy_coefficient=0.01,
    image_network=A3c(),
    shared=True,
    hidden=(),
    normalise_observations=False,
    normalise_rewards=False,
    clip_rewards=True,
    life_loss=True,
    vectorization_mode="vector_entry_point",
)
ATARI: dict[str, dict[str, Any]] = {
    "paper": ATARI_PAPER,
    # What baselines' ppo2 has for Atari: the network of Mnih 2015, 4 epochs.
    "ppo2": ATARI_PAPER | dict(epochs=4, value_coefficient=0.5, image_network=Nature()),
    # Mnih 2016 made synchronous: the paper's baseline; sizes and rate as baselines' a2c, with Adam.
    "a2c": ATARI_PAPER | A2C_STEP | dict(anneal_clip=False, value_coefficient=0.5),
}
# MinAtar (Young and Tian 2019): gymnax-blines' recipe, whose network reads the board as one vector.
RECIPES["minatar"] = dict(
    steps=10_000_000,
    num_envs=64,
    horizon=128,
    learning_rate=5e-4,
    anneal=False,
    epochs=4,
    minibatch_size=1024,
    gamma=0.999,
    entropy_coefficient=0.01,
    hidden=(256, 256),
    activation="relu",
    flatten=True,
    normalise_observations=False,
    normalise_rewards=False,
    advantages="once",
    vectorization_mode="auto",
)
# Procgen (Cobbe 2020): the options of OpenAI's train-procgen.
RECIPES["procgen"] = dict(
    steps=25_000_000,
    num_envs=64,
    horizon=256,
    learning_rate=5e-4,
    anneal=False,
    epochs=3,
    minibatch_size=2048,
    gamma=0.999,
    gae_lambda=0.95,
    objective=Clip(0.2),
    value_loss=ClippedSquaredError(0.2),
    entropy_coefficient=0.01,
    image_network=Impala(),
    shared=True,
    hidden=(),
    normalise_observations=False,
    advantages="once",
    vectorization_mode="vector_entry_point",
)
# What makes MinAtar's recipe another method.
MINATAR_A2C = A2C_STEP | dict(num_envs=64, minibatch_size=64 * A2C_STEP["horizon"])
MINATAR_TRPO = TRPO_STEP
ATARI["default"] = RECIPES["atari"] = ATARI["ppo2"]
ATARI_ALONE = ("ppo2",)
PRESETS = ("default", *METHODS, *ATARI_ALONE)
