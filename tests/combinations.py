"""Every kind of observation, action, network and mask, in one small environment, and what must hold of each.

`every_combination` is the whole matrix, and takes hours: `python -m tests.matrix`. `pairs` is a small part
of it, in which any two kinds meet: tests/control/test_matrix.py.
"""

import random
from functools import partial
from itertools import combinations, product

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from proximo.core.types import LEGAL, VECTOR
from proximo.envs.vector.masks import Masks
from proximo.learn.batches import has_memory
from proximo.learn.experience import normalised, predictions
from proximo.learn.update import update
from proximo.policies.attention import Transformer
from proximo.policies.convolution import Small
from proximo.policies.distributions import (
    BoundedBeta,
    Normal,
    StateDependentExploration,
    StateDependentNormal,
    TanhNormal,
)
from proximo.policies.memory import Gru, Lstm
from tests.probes import small, turns

ROWS = 8

OBSERVATIONS = {
    "vector": spaces.Box(-1, 1, (3,), np.float32),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "channels first": spaces.Box(0, 255, (2, 5, 5), np.uint8),
    "picture of floats": spaces.Box(0.0, 255.0, (5, 6, 3), np.float32),
    "categories": spaces.MultiDiscrete([300, 2]),
    "from a start": spaces.Discrete(5, start=-2),
    "switches": spaces.MultiBinary((2, 2)),
    "text": spaces.Text(5, charset="abc"),
}
NESTED = spaces.Tuple(
    (
        spaces.Dict(camera=OBSERVATIONS["image"], place=OBSERVATIONS["vector"]),
        spaces.Discrete(300, start=7),
    )
)
EVERYTHING = spaces.Dict({**OBSERVATIONS, "nested": NESTED})
OBSERVATIONS |= {"nested": NESTED, "everything": EVERYTHING}

WITH_IMAGES = ("image", "channels first", "picture of floats", "nested", "everything")

NUMBERS = spaces.Box(np.float32([0, -1]), np.float32([50, 1]))
ACTIONS = {
    "discrete": spaces.Discrete(4, start=2),
    "choices": spaces.MultiDiscrete([2, 3]),
    "switches": spaces.MultiBinary(2),
    "numbers": NUMBERS,
    "tanh": NUMBERS,
    "beta": NUMBERS,
    "spread": NUMBERS,
    "exploration": NUMBERS,
}
ACTIONS["parts"] = spaces.Dict(
    arm=spaces.Dict(push=NUMBERS, grip=ACTIONS["discrete"]),
    rest=spaces.Tuple((ACTIONS["choices"], ACTIONS["switches"])),
)
DISTRIBUTIONS = {
    "tanh": TanhNormal(),
    "beta": BoundedBeta(),
    "spread": StateDependentNormal(),
    "exploration": StateDependentExploration(3),
}
MASKS = {
    "discrete": ("", "info", "part"),
    "choices": ("", "info", "part", "joint"),
    "switches": ("", "info", "part"),
    "parts": ("", "info", "part", "joint"),
}
"""Where an environment tells what is legal; `joint`: in its info, of combinations of its choices."""
CONTAINED = {
    "everything": tuple(name for name in OBSERVATIONS if name != "everything"),
    "parts": ("discrete", "choices", "switches", "numbers"),
}


class World(gym.Env):
    """Random observations, random legal actions (any other is an error), episodes of 3 steps."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, seen, done, mask):
        self.inside, self.action_space, self.how = OBSERVATIONS[seen], ACTIONS[done], mask
        self.masks = Masks(self.action_space)
        self.code = self.masks.code_for(["", "rest/0"]) if mask == "joint" else 1
        self.observation_space = self.inside
        if mask == "part":
            told = spaces.MultiBinary(self.masks.count(1))
            self.observation_space = spaces.Dict(seen=self.inside, action_mask=told)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.inside.seed(seed)
        self.clock = 0
        return self.told()

    def told(self):
        obs = self.inside.sample()
        self.flags = np.ones(self.masks.count(self.code), bool)
        if not self.how:
            return obs, {}
        self.flags = self.np_random.random(self.flags.size) < 0.5
        self.flags[self.masks._starts(self.code)] = True
        mask = self.flags.astype(np.int8)
        if self.how == "part":
            return {"seen": obs, "action_mask": mask}, {}
        if self.how == "joint" and self.masks.nested:  # a grip of 4, choices of 2 x 3, two switches
            grip, choices, rest = np.split(mask, [4, 10])
            return obs, {"action_mask": {"arm": {"grip": grip}, "rest": (choices.reshape(2, 3), rest)}}
        return obs, {"action_mask": mask.reshape(2, 3) if self.how == "joint" else mask}

    def step(self, action):
        assert self.action_space.contains(action), action
        assert self.legal(action), action
        self.clock += 1
        obs, info = self.told()
        return obs, self.np_random.normal(), self.clock == 3, False, info

    def legal(self, action):
        """Whether an action is among the legal ones."""
        place = 0
        for index, part in enumerate(self.masks.parts):
            joint = bool(self.code & (2 << index))
            chosen = action
            for key in part.path:
                chosen = chosen[key]
            own = self.flags[place : place + part.count(joint)]
            place += len(own)
            values = np.reshape(chosen, -1) - (2 if len(part.sizes) == 1 else 0)  # where "discrete" starts
            if joint:
                good = own[np.ravel_multi_index(tuple(values), part.sizes)]
            else:
                good = all(own[first + v] for first, v in zip(part.starts(False), values, strict=True))
            if not good:
                return False
        return True


class Own(eqx.Module):
    """A network of the user's own; it is given no mask."""

    actor: eqx.nn.Linear
    critic: eqx.nn.Linear

    def __init__(self, key, sizes):
        one, other = jax.random.split(key)
        self.actor = eqx.nn.Linear(sizes.features, sizes.outputs, key=one)
        self.critic = eqx.nn.Linear(sizes.features, 1, key=other)

    def __call__(self, obs):
        obs = 0.01 * obs  # bytes, before there are statistics of them: else standard deviations of e^-10
        return self.actor(obs), self.critic(obs)


class OwnParts(Own):
    """The same of the numbers, and of the mean of each part beside them."""

    in_parts = True

    def __init__(self, key, sizes):
        super().__init__(key, sizes._replace(features=sizes.features + len(sizes.parts)))

    def seen(self, obs):
        if not isinstance(obs, dict):
            return obs
        means = [jnp.mean(part) / 300.0 for name, part in obs.items() if name != VECTOR]
        return jnp.append(obs[VECTOR], jnp.stack(means))

    def __call__(self, obs):
        return super().__call__(self.seen(obs))


class OwnMemory(OwnParts):
    """The same of a mean over the episode."""

    def begin(self):
        return {"sum": jnp.zeros(self.actor.in_features), "count": 0}

    def __call__(self, obs, memory):
        memory = {"sum": memory["sum"] + self.seen(obs), "count": memory["count"] + 1}
        mean = memory["sum"] / memory["count"]
        return self.actor(mean), self.critic(mean), memory


NETWORKS = {
    "plain": None,
    "lstm": Lstm(4),
    "gru": Gru(4),
    "transformer": Transformer(4, heads=2, window=3),
    "own": Own,
    "own in parts": OwnParts,
    "own memory": OwnMemory,
}
LAYERS = {"lstm": "layer-norm", "transformer": "simba"}
SEPARATE = {"lstm", "transformer"}  # critics with encoders and memory of their own


def every_combination():
    """All (observation, action, network, mask): those of `pairs`, then the others in a random order."""
    first = pairs()
    others = sorted({*_every()} - {*first})
    random.Random(0).shuffle(others)
    return first + others


def _every():
    for seen, done, network in product(OBSERVATIONS, ACTIONS, NETWORKS):
        if done == "exploration" and network.startswith("own"):  # refused in one line
            continue
        for mask in MASKS.get(done, ("",)):
            yield seen, done, network, mask


def pairs():
    """Combinations in which each kind is by itself, and any two kinds meet, perhaps inside others.

    `everything` contains every observation, and `parts` choices and numbers. Always the combination that
    brings most that is new, the earliest of several.
    """
    every, missing, found = list(_every()), set(), []
    brings = {one: _brings(one) for one in every}
    for one in every:
        missing |= brings[one]
    while missing:
        best = max(every, key=lambda one: len(brings[one] & missing))
        found.append(best)
        missing -= brings[best]
    return found


def _brings(combination):
    """What meets in a combination, pairs of (place, kind); and each by itself.

    Distributions of numbers count as met with every network: each reads numbers, whatever made them.
    """
    kinds = [
        {(place, kind), *((place, inside) for inside in CONTAINED.get(kind, ()))}
        for place, kind in enumerate(combination)
    ]
    _, action, network, _ = kinds
    meet = {pair for one, other in combinations(kinds, 2) for pair in product(one, other)}
    return (meet | set(enumerate(combination))) - {
        (one, other) for one, other in product(action, network) if one[1] in DISTRIBUTIONS
    }


def world(seen, done, network, mask):
    """The configuration of a combination, small enough to compile in a second."""
    options = {} if NETWORKS[network] is None else {"network": NETWORKS[network]}
    return small(
        partial(World, seen, done, mask),
        num_envs=2,
        horizon=ROWS,
        minibatch_size=2 * ROWS,
        epochs=1,
        hidden=(4,),
        policy_gain=1.0,
        normalise_observations=True,
        image_network=Small((2,), 3) if seen in WITH_IMAGES else None,
        embedding=2,
        text_features=3,
        distribution=DISTRIBUTIONS.get(done, Normal()),
        layers=LAYERS.get(network, "plain"),
        separate_critic=network in SEPARATE,
        **options,
    )


def check(seen, done, network, mask):
    """Train two iterations of a combination. Raises AssertionError unless what follows holds.

    - The policy that acted, step by step, is the one that each update starts from and reads in whole
      sequences: the same noise gives the same actions, and the ratio before the gradient step is 1.
    - Garbage in rows in which nobody acted changes no metric and no parameter.
    - Garbage before the start of an episode changes nothing that a memory makes of the episode.
    """
    config = world(seen, done, network, mask)
    for learner, rollout, noise, after, metrics in turns(config, 2):  # noqa: B007
        assert (LEGAL in rollout.obs) == bool(mask) if isinstance(rollout.obs, dict) else not mask
        arrays = jax.tree.map(jnp.asarray, rollout)
        arrays = normalised(arrays, learner.observations, learner.rewards, config.update)[0]
        whole = _read(learner.policy, arrays)
        jax.tree.map(
            partial(np.testing.assert_allclose, atol=1e-4), whole.distribution.sample(noise), rollout.action
        )
        assert abs(metrics["train/approx_kl"]) < 1e-6 and metrics["train/clip_fraction"] == 0.0
        assert all(np.isfinite(value) for value in metrics.values()), metrics
    assert rollout.mask.min() == 0.0  # seams, in which nobody acted
    under = np.flatnonzero(rollout.mask.reshape(-1) == 0)
    spliced = rollout._replace(
        action=jax.tree.map(lambda x: garbage(x, under), rollout.action),
        reward=garbage(rollout.reward, under),
    )
    other, same = update(learner, spliced, config.update, 1.0)
    jax.tree.map(np.testing.assert_array_equal, dict(same), dict(metrics))
    jax.tree.map(np.testing.assert_array_equal, other.policy, after.policy)
    assert has_memory(rollout) == (network in ("lstm", "gru", "transformer", "own memory"))
    if has_memory(rollout):
        check_starts(learner.policy, arrays, whole)


def check_starts(policy, experience, whole):
    """Each environment sees the other's observations until its last episode starts."""
    starts = np.asarray(experience.start[:-1])
    last = ROWS - 1 - np.argmax(starts[::-1], axis=0)
    assert (last > 0).all() and starts.any(axis=0).all()
    before = np.arange(ROWS + 1)[:, None] < last
    obs = jax.tree.map(
        lambda x: jnp.where(before.reshape(*before.shape, *[1] * (x.ndim - 2)), x[:, ::-1], x), experience.obs
    )
    found = _read(policy, experience._replace(obs=obs))
    for ours, theirs in zip(*map(jax.tree.leaves, (whole, found)), strict=True):
        if np.shape(ours)[:2] == before[:-1].shape:
            np.testing.assert_array_equal(*(np.where(_fitting(before[:-1], x), 0, x) for x in (ours, theirs)))
    assert np.any(whole.value != found.value)


def _fitting(flags, x):
    return flags.reshape(*flags.shape, *[1] * (np.ndim(x) - 2))


_read = jax.jit(partial(predictions, length=ROWS))


def garbage(array, rows):
    """The array [T, N, ...] with other values in some rows."""
    found = np.array(array)
    flat = found.reshape(-1, *found.shape[2:])
    flat[rows] = 1 if found.dtype.kind in "iu" else 7.0
    return found
