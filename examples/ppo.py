"""Proximal Policy Optimization on one page, from the environment to the gradient step: python -m examples.ppo

Read it from top to bottom, together with Schulman et al. 2017 (arXiv 1707.06347). N environments run side by
side for T time steps. Arrays are [T, N, ...], time first. The equations come from `proximo.core`, the rest is
on this page. It solves CartPole-v1 in about a minute, and its first update equals the library's
(`tests/test_one_page.py`).
"""

from collections import deque
from typing import NamedTuple

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import optax

from proximo.core import Clip, SquaredError, gae, masked_mean, permutation, whiten

STEPS = 200_000  # environment steps in all
N, T = 8, 128  # environments, and steps of each between two updates
EPOCHS, MINIBATCH = 10, 128  # passes over each rollout; samples in one gradient step
GAMMA, LAMBDA = 0.99, 0.9  # discount; bias against variance of the advantages
LEARNING_RATE, MAX_GRAD_NORM = 1e-3, 0.5
OBJECTIVE, VALUE_LOSS = Clip(0.2), SquaredError()  # eq. 7; 1/2 (V - target)^2
VALUE_COEFFICIENT = 0.5  # c1 of eq. 9; c2, of the entropy bonus, is 0


class ActorCritic(eqx.Module):
    """Two networks: the actor returns a logit for each action, the critic predicts the return."""

    actor: eqx.nn.MLP
    critic: eqx.nn.MLP

    def __init__(self, key, features, actions):
        actor_key, critic_key = jax.random.split(key)
        self.actor = eqx.nn.MLP(features, actions, 64, 2, jnp.tanh, key=actor_key)
        self.critic = eqx.nn.MLP(features, "scalar", 64, 2, jnp.tanh, key=critic_key)

    def __call__(self, obs):  # one observation; `jax.vmap` makes many of it
        return self.actor(obs), self.critic(obs)


class Rollout(NamedTuple):
    """Collected experience. It is used for one update and then discarded."""

    obs: np.ndarray  # [T + 1, N, features]; obs[t + 1] is what followed obs[t]
    action: np.ndarray  # [T, N]
    reward: np.ndarray  # [T, N]
    terminated: np.ndarray  # [T, N]: the episode came to its own end, and nothing follows
    over: np.ndarray  # [T, N]: it ended, perhaps by a time limit alone, beyond which more would follow
    mask: np.ndarray  # [T, N]: 0 where nobody acted


@eqx.filter_jit
def sample_actions(network, obs, key):
    """Actions [N], sampled from the actor's distribution."""
    logits, _ = jax.vmap(network)(obs)
    return jax.random.categorical(key, logits)


def collect(envs, network, obs, over, key):
    """Run T steps of every environment. Also returns the last observations, and which episodes ended."""
    rows, latest = [], obs
    for step_key in jax.random.split(key, T):
        # The step after an end starts Gymnasium's next episode, whatever the action: it counts for nothing.
        mask, obs = ~over, latest
        action = np.asarray(sample_actions(network, obs, step_key))
        latest, reward, terminated, truncated, _ = envs.step(action)
        over = terminated | truncated
        rows.append((obs, action, np.float32(reward), terminated, over, mask))
    obs, *others = map(np.stack, zip(*rows, strict=True))
    return Rollout(np.concatenate([obs, latest[None]]), *others), latest, over


def log_prob_of(logits, action):
    """log pi(action | obs), [...], from logits [..., actions]."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)[..., 0]


@eqx.filter_jit
def samples_of(network, rollout):
    """The inputs of `loss` for every transition of a rollout, [T * N, ...]."""
    logits, value = jax.vmap(jax.vmap(network))(rollout.obs)
    discount = GAMMA * (1.0 - rollout.terminated)
    advantage = gae(rollout.reward, value[:-1], value[1:], discount, 1.0 - rollout.over, LAMBDA)  # eq. 11
    log_prob, target = log_prob_of(logits[:-1], rollout.action), advantage + value[:-1]
    samples = (rollout.obs[:-1], rollout.action, log_prob, advantage, target, rollout.mask)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples)


def loss(network, obs, action, log_prob, advantage, target, mask):
    """The negative of eq. 9. `log_prob` and `advantage` belong to the policy that chose the action."""
    logits, value = jax.vmap(network)(obs)
    log_ratio = log_prob_of(logits, action) - log_prob  # how far the policy has moved since
    surrogate = OBJECTIVE(log_ratio, whiten(advantage, mask))
    return masked_mean(VALUE_COEFFICIENT * VALUE_LOSS(value, value, target) - surrogate, mask)


# Adam's epsilon is compared with the root of v before v is corrected for bias, as in the PPO authors' code.
# Optax compares it afterwards, so it is scaled here. The learning rate falls from update to update, to 0.
STEPS_OF_UPDATE = EPOCHS * (N * T // MINIBATCH)
ADAM = optax.inject_hyperparams(optax.adam)(
    learning_rate=lambda count: LEARNING_RATE * (1.0 - count // STEPS_OF_UPDATE * N * T / STEPS),
    eps=lambda count: 1e-5 / jnp.sqrt(1.0 - 0.999 ** (count + 1)),
)
OPTIMISER = optax.chain(optax.clip_by_global_norm(MAX_GRAD_NORM), ADAM)


@eqx.filter_jit
def gradient_step(network, optimiser, samples):
    """One gradient step on the loss of a minibatch."""
    gradients = eqx.filter_grad(loss)(network, *samples)
    changes, optimiser = OPTIMISER.update(gradients, optimiser)
    return eqx.apply_updates(network, changes), optimiser


def update(network, optimiser, rollout, key):
    """Update the policy with one rollout: several epochs of minibatches, each in a new random order."""
    samples = samples_of(network, rollout)
    for epoch_key in jax.random.split(key, EPOCHS):
        for rows in np.asarray(permutation(epoch_key, T * N)).reshape(-1, MINIBATCH):
            network, optimiser = gradient_step(network, optimiser, [part[rows] for part in samples])
    return network, optimiser


def train(env="CartPole-v1", seed=0):
    """Algorithm 1: collect a rollout, update, repeat. Yields the step count and the recent mean return."""
    envs, over = gym.make_vec(env, N), np.zeros(N, bool)
    obs, _ = envs.reset(seed=seed)
    key, network_key = jax.random.split(jax.random.key(seed))
    network = ActorCritic(network_key, obs.shape[1], int(envs.single_action_space.n))
    optimiser = OPTIMISER.init(eqx.filter(network, eqx.is_array))
    steps, returns, recent = 0, np.zeros(N), deque(maxlen=100)
    while steps < STEPS:
        key, action_key, shuffle_key = jax.random.split(key, 3)
        rollout, obs, over = collect(envs, network, obs, over, action_key)
        network, optimiser = update(network, optimiser, rollout, shuffle_key)
        steps += rollout.mask.sum()
        for reward, ended in zip(rollout.reward, rollout.over, strict=True):
            returns += reward
            recent.extend(returns[ended])
            returns[ended] = 0.0
        yield steps, np.mean(recent)


if __name__ == "__main__":
    for steps, mean_return in train():
        print(f"{steps:7,} steps: the last 100 episodes had a mean return of {mean_return:5.1f}")
        if mean_return >= 475:
            break
