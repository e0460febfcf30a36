"""Environments whose answer is known in closed form, and PPO small enough for a test.

Each probe adds one thing that a learner must get right to the ones before it: when a probe fails and the
earlier ones pass, the fault is in that thing.
"""

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from proximo import Config, with_options
from proximo.control.acting import actor_of, on_host
from proximo.control.arena import environments
from proximo.control.collect import Stream, collect, rows_of
from proximo.control.learner import new_learner
from proximo.control.seen import codec_of
from proximo.control.streams import environment_seeds, streams
from proximo.core.types import Experience
from proximo.learn.update import update


class Probe(gym.Env):
    """One step, one number to see, reward 1, whatever is done. V = 1."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)
    seen = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.begin()
        return np.array([self.seen], np.float32), {}

    def step(self, action):
        reward, terminated, truncated = self.turn(action)
        return np.array([self.seen], np.float32), float(reward), terminated, truncated, {}

    def begin(self):
        """Before an episode."""

    def turn(self, action):
        """One step: reward, terminated, truncated."""
        return 1.0, True, False


class SeenReward(Probe):
    """The reward is what was seen, +1 or -1. V(s) = s."""

    def begin(self):
        self.seen = self.np_random.choice([-1.0, 1.0])

    def turn(self, action):
        return self.seen, True, False


class TwoSteps(Probe):
    """Sees 0, then 1; the reward 1 comes with the second step. V(0) = gamma, V(1) = 1."""

    def begin(self):
        self.seen = 0.0

    def turn(self, action):
        reward, self.seen = self.seen, 1.0
        return reward, reward == 1.0, False


class BetterAction(Probe):
    """Action 1 is worth 1, action 0 is worth -1."""

    def turn(self, action):
        return 2.0 * int(action) - 1.0, True, False


class RightAction(SeenReward):
    """Sees +1 or -1; worth 1 is action 1 at +1 and action 0 at -1, the other one -1."""

    def turn(self, action):
        return self.seen * (2.0 * int(action) - 1.0), True, False


class Endless(Probe):
    """Reward 1 for ever, cut after 5 steps by a time limit that it does not show. V = 1 / (1 - gamma)."""

    def begin(self):
        self.clock = 0

    def turn(self, action):
        self.clock += 1
        return 1.0, False, self.clock == 5


class Aim(Probe):
    """Reward -(a - 0.5)^2: the best action is 0.5."""

    action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)

    def turn(self, action):
        return -((action[0] - 0.5) ** 2), True, False


class Choices(Probe):
    """Two choices of unequal size; 1 for each that is the last of its size: (1, 2)."""

    action_space = spaces.MultiDiscrete([2, 3])

    def turn(self, action):
        assert self.action_space.contains(action)
        return (action[0] == 1) + (action[1] == 2), True, False


class Switches(Probe):
    """Three switches; 1 for each that stands as in (1, 0, 1)."""

    action_space = spaces.MultiBinary(3)

    def turn(self, action):
        return sum(action == [1, 0, 1]), True, False


class Ends(Probe):
    """Three steps to an episode; the first one ends in a termination, the second is cut, and so on.

    No two observations are equal (they count up by 0.01), and so neither are the rewards. Nothing is
    random, and actions change nothing.
    """

    count = -1
    episode = -1

    def begin(self):
        self.episode, self.clock = self.episode + 1, 0
        self._count()

    def turn(self, action):
        self.clock += 1
        self._count()
        over, dies = self.clock == 3, self.episode % 2 == 0
        return 1.0 + 10.0 * self.seen, over and dies, over and not dies

    def _count(self):
        self.count += 1
        self.seen = 0.01 * self.count


class Lucky(Probe):
    """Two steps to an episode, which is a success where the environment was begun with an odd seed."""

    def reset(self, *, seed=None, options=None):
        self.clock, self.seeded = 0, self.seeded if seed is None else seed
        return super().reset(seed=seed)

    def step(self, action):
        self.clock += 1
        over = self.clock == 2
        info = {"is_success": bool(self.seeded % 2)} if over else {}
        return np.zeros(1, np.float32), 1.0, over, False, info


class Walk(Probe):
    """A random walk over numbers far from 0 and 1, of every kind of action, that ends in both ways."""

    observation_space = spaces.Box(-100.0, 100.0, (2,), np.float32)

    def __init__(self, action_space=Probe.action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        self.position, self.clock = self.np_random.normal(50.0, 5.0), 0
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.position += self.np_random.normal() + np.sum(action)
        self.clock += 1
        terminated, truncated = self.position > 55.0, self.clock == 7
        return self._observation(), float(self.position), bool(terminated), bool(truncated), {}

    def _observation(self):
        return np.array([self.position, self.clock], np.float32)


KINDS = {
    "Discrete": spaces.Discrete(3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(3),
    "Box": spaces.Box(-1.0, 1.0, (2,), np.float32),
}


def walk(kind):
    """A constructor of `Walk` with that kind of action."""
    return lambda: Walk(KINDS[kind])


def by_hand(**arrays):
    """Experience written down row by row; `over` and `start` follow from the other flags."""
    over = arrays["terminated"] | arrays["truncated"]
    begins = over if "final_obs" in arrays else arrays["mask"] == 0
    start = np.concatenate([np.ones_like(over[:1]), begins])
    return jax.tree.map(jnp.asarray, Experience(over=over, start=start, **arrays))


def small(env, **options):
    """A configuration that compiles fast and learns a probe in a second."""
    defaults = dict(
        num_envs=8,
        horizon=16,
        minibatch_size=64,
        epochs=4,
        steps=6000,
        learning_rate=0.01,
        hidden=(16,),
        normalise_observations=False,
        normalise_rewards=False,
    )
    return with_options(Config(env), **(defaults | options))


def beginning(config):
    """What `training` makes before its first turn: the learner, the stream of experience, the actor."""
    seeds = streams(config.seed)
    envs = environments(config, config.num_envs)
    learner = new_learner(config, envs, seeds)
    carry = learner.policy.begin(envs.num_envs)
    first = environment_seeds(seeds.environments, envs.num_envs)
    stream = Stream(envs, first, carry=carry, codec=codec_of(learner.policy, envs.spaces))
    return learner, stream, actor_of(learner.policy, learner.observations)


def first_rollout(config):
    """What an untrained learner does: the learner, its rollout, and the noise it was drawn with."""
    learner, stream, actor = beginning(config)
    shape = (config.horizon, config.num_envs)
    noise = on_host(learner.policy.head.noise(jax.random.key(0), shape))
    flat = actor.parameters(learner.policy, learner.observations)
    rollout = collect(actor.stepper(flat, stream.obs, rows_of(noise)[0]), stream, noise)
    stream.envs.close()
    return learner, rollout, noise


def turns(config, count):
    """The loop of `training`, opened; each turn is (learner, rollout, noise, learner after it, metrics)."""
    learner, stream, actor = beginning(config)
    for number in range(count):
        shape = (config.horizon, config.num_envs)
        noise = on_host(learner.policy.head.noise(jax.random.key(number), shape))
        flat = actor.parameters(learner.policy, learner.observations)
        rollout = collect(actor.stepper(flat, stream.obs, rows_of(noise)[0]), stream, noise)
        after, metrics = update(learner, rollout, config.update, 1.0)
        yield learner, rollout, noise, after, metrics
        learner = after
    stream.envs.close()


def arrays(tree):
    """Every array of a tree as NumPy; a random key as its numbers."""

    def numbers(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [numbers(leaf) for leaf in jax.tree.leaves(tree)]


def equal(a, b):
    """Whether two trees hold the same numbers, to the last bit."""
    return all(np.array_equal(x, y) for x, y in zip(arrays(a), arrays(b), strict=True))


def close(a, b, tolerance=1e-5):
    """Whether two trees hold the same numbers, to rounding."""
    pairs = zip(arrays(a), arrays(b), strict=True)
    return all(np.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in pairs)
