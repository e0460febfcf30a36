"""Every kind of observation, of action, of network and of mask, together in one small environment.

All pairs of these kinds would need 30 combinations, of which each takes seconds to compile. So every kind of
each is in one combination at least, and masks are with every kind of choices; `everything` holds all kinds
of observations at once, `parts` all kinds of actions.
"""

from functools import partial
from math import prod

import equinox as eqx
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from probes import small, turns

from proximo import evaluate, training
from proximo.core.types import LEGAL
from proximo.envs.vector.masks import Masks
from proximo.learn.experience import normalised, predictions
from proximo.learn.update import update
from proximo.policies.attention import Transformer
from proximo.policies.convolution import Small
from proximo.policies.memory import Gru, Lstm

OBSERVATIONS = {
    "vector": spaces.Box(-1, 1, (3,), np.float32),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "categories": spaces.MultiDiscrete([300, 2]),
    "text": spaces.Text(5, charset="abc"),
}
OBSERVATIONS["everything"] = spaces.Dict(OBSERVATIONS)
ACTIONS = {
    "discrete": spaces.Discrete(4, start=2),
    "choices": spaces.MultiDiscrete([2, 3]),
    "switches": spaces.MultiBinary(2),
    "numbers": spaces.Box(np.float32([0, -1]), np.float32([50, 1])),
}
ACTIONS["parts"] = spaces.Dict(
    arm=spaces.Dict(push=ACTIONS["numbers"], grip=ACTIONS["discrete"]),
    rest=spaces.Tuple((ACTIONS["choices"], ACTIONS["switches"])),
)


class World(gym.Env):
    """Random observations, random legal actions (any other is an error), episodes of 3 steps.

    mask  where it tells what is legal: "", "info" or "part"; "joint" is in its info, of combinations
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, seen, done, mask):
        self.inside, self.action_space, self.how = OBSERVATIONS[seen], ACTIONS[done], mask
        self.masks = Masks(self.action_space)
        self.observation_space = self.inside
        if mask == "part":
            told = spaces.MultiBinary(self.masks.count(1))
            self.observation_space = spaces.Dict(seen=self.inside, action_mask=told)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.inside.seed(seed)
        self.clock, self.seam = 0, False
        return self.told()

    def told(self):
        obs, info = self.inside.sample(), {}
        if self.how == "joint":
            self.code, shape = self.masks.code_for([""]), (2, 3)
        else:
            self.code, shape = 1, (-1,)
        flags = self.np_random.random(self.masks.count(self.code)) < 0.5
        for start in self.masks._starts(self.code):
            flags[start] = True
        self.flags = flags if self.how else np.ones_like(flags)
        if self.how == "part":
            return {"seen": obs, "action_mask": flags.astype(np.int8)}, info
        return obs, {"action_mask": flags.reshape(shape).astype(np.int8)} if self.how else info

    def step(self, action):
        assert self.action_space.contains(action), action
        assert not self.masks.parts or legal(self.masks, self.code, self.flags, action), action
        self.clock += 1
        obs, info = self.told()
        return obs, self.np_random.normal(), self.clock == 3, False, info


def legal(masks, code, flags, action):
    """Whether an action is among the legal ones."""
    place = 0
    for index, part in enumerate(masks.parts):
        joint = bool(code & (2 << index))
        chosen = action
        for key in part.path:
            chosen = chosen[key]
        own = flags[place : place + part.count(joint)]
        place += len(own)
        start = 2 if len(part.sizes) == 1 else 0  # of "discrete"
        values = np.reshape(chosen, -1) - start
        if joint:
            good = own[np.ravel_multi_index(tuple(values), part.sizes)]
        else:
            good = all(own[first + value] for first, value in zip(part.starts(False), values, strict=True))
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
        assert not isinstance(obs, dict)
        return self.actor(obs), self.critic(obs)


class Reads(eqx.Module):
    """A network of the user's own that takes every part as it is, and remembers; it is given no mask."""

    in_parts = True
    layer: eqx.nn.Linear

    def __init__(self, key, sizes):
        assert sizes.images == {"image": (4, 4, 3)} and sizes.categories == {"categories": (300, 2)}
        assert sizes.texts == {"text": (5, 1 + 3)}  # three characters, and 0 behind the end
        inputs = sizes.features + sum(prod(part.shape) for part in sizes.parts.values())
        self.layer = eqx.nn.Linear(inputs, sizes.outputs + 1, key=key)

    def begin(self):
        return jnp.zeros(1)

    def __call__(self, obs, memory):
        assert {name: str(part.dtype) for name, part in obs.items()} == {
            "vector": "float32",
            "image": "uint8",
            "categories": "int32",
            "text": "int32",
        }
        said = self.layer(jnp.concatenate([jnp.ravel(part) / 300.0 for part in obs.values()])) + memory
        return said[:-1], said[-1], jnp.tanh(said[:1])


NETWORKS = {
    "plain": None,
    "lstm": Lstm(4),
    "gru": Gru(4),
    "transformer": Transformer(4, heads=2, window=3),
    "own": Own,
    "reads": Reads,
}
LAYERS = {"lstm": "layer-norm", "transformer": "simba"}
MATRIX = [
    ("vector", "discrete", "transformer", "info"),
    ("vector", "parts", "own", "info"),
    ("everything", "choices", "reads", "joint"),
    ("image", "choices", "lstm", "joint"),
    ("everything", "parts", "plain", "part"),
    ("text", "switches", "gru", ""),
    ("categories", "numbers", "plain", ""),
]


def world(seen, done, network, mask):
    options = {} if NETWORKS[network] is None else {"network": NETWORKS[network]}
    options |= {"layers": LAYERS[network]} if network in LAYERS else {}
    return small(
        partial(World, seen, done, mask),
        num_envs=2,
        horizon=8,
        minibatch_size=16,
        epochs=1,
        hidden=(4,),
        policy_gain=1.0,
        normalise_observations=True,
        image_network=Small((2,), 3),
        embedding=2,
        text_features=3,
        **options,
    )


@pytest.mark.parametrize(("seen", "done", "network", "mask"), MATRIX)
def test_two_iterations_start_from_the_policy_that_acted_and_garbage_under_the_mask_changes_nothing(
    seen, done, network, mask
):
    config = world(seen, done, network, mask)
    for turn in turns(config, 2):
        learner, rollout, noise, after, metrics = turn
        assert (LEGAL in rollout.obs) == bool(mask) if isinstance(rollout.obs, dict) else not mask
        arrays = jax.tree.map(jnp.asarray, rollout)
        again = jax.jit(predictions, static_argnums=2)(
            learner.policy, normalised(arrays, learner.observations, learner.rewards, config.update)[0], 1
        ).distribution
        jax.tree.map(
            partial(np.testing.assert_allclose, atol=1e-4), again.sample(noise), rollout.action
        )  # the same noise through the update's policy gives the actions that were taken
        assert abs(metrics["train/approx_kl"]) < 1e-6 and metrics["train/clip_fraction"] == 0.0
    assert rollout.mask.min() == 0.0  # seams, in which nobody acted
    under = np.flatnonzero(rollout.mask.reshape(-1) == 0)
    spliced = rollout._replace(
        action=jax.tree.map(lambda x: garbage(x, under), rollout.action),
        reward=garbage(rollout.reward, under),
    )
    other, same = update(learner, spliced, config.update, 1.0)
    assert {k: float(v) for k, v in same.items()} == {k: float(v) for k, v in metrics.items()}
    jax.tree.map(np.testing.assert_array_equal, other.policy, after.policy)


def garbage(array, rows):
    """The array [T, N, ...] with other values in some rows."""
    found = np.array(array)
    flat = found.reshape(-1, *found.shape[2:])
    flat[rows] = flat[rows][::-1] * 0 + (1 if found.dtype.kind in "iu" else 7.0)
    return found


class Sign(gym.Env):
    """A text names the button to press; one step an episode. With `blank` it says nothing."""

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = spaces.Dict(sign=spaces.Text(5, min_length=0, charset="delrg n"))
    action_space = spaces.Discrete(2)

    def __init__(self, blank=False):
        self.blank = blank

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.right = int(self.np_random.integers(2))
        return self.told(), {}

    def told(self):
        return {"sign": "" if self.blank else ("red", "green")[self.right]}

    def step(self, action):
        return self.told(), float(action == self.right), True, False, {}


@pytest.mark.parametrize("flatten", [False, True], ids=["read", "one-hot"])
def test_a_text_that_names_the_right_button_is_read_and_a_blank_one_is_a_coin(flatten):
    config = small(Sign, steps=1500, horizon=32, embedding=4, text_features=8, flatten=flatten)
    *_, last = training(config)
    assert evaluate(last.agent, Sign, episodes=50).mean > 0.95
    assert abs(evaluate(last.agent, partial(Sign, blank=True), episodes=50).mean - 0.5) < 0.25
    assert last.agent.act({"sign": "red"}) == 0 and last.agent.act({"sign": ("green", "red")}).tolist() == [
        1,
        0,
    ]
    with pytest.raises(Exception, match="the character 'x' in its observation"):
        last.agent.act({"sign": "xx"})
